"""Confinement of a container's first process: the walls are up before any guest code runs."""
