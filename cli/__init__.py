"""The `ddock` command: the daemon's start and stop, and a stand-in for the docker CLI."""
