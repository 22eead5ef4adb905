"""/proc: what programs read there, truthful for the container and silent about the host."""
