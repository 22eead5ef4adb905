"""Storms of processes, pipes, signals, files and sockets in many containers at once."""
