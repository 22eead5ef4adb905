"""Tests of ddock, from single modules to the real docker CLI."""
