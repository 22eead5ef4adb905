"""The virtual file system: what a path means inside the container, and nothing of the host's."""
