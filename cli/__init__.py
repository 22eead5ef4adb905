"""The `ddock` command: start and stop the daemon, and do without a docker CLI where there is none."""
