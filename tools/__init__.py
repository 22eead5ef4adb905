"""Generators, gates and set-up, for those who work on ddock."""
