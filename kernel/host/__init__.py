"""What depends on the host's operating system."""
