"""Whole programs in a Debian tree: a container must do what a native chroot of the tree does."""
