"""What the daemon knows: images, containers, volumes, networks. Nothing here knows HTTP."""
