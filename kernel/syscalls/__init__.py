"""The system calls, one module a man-page family; `declare` says how they are written."""
