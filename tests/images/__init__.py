"""What containers are made from in tests: a Debian tree, its native oracle, small archives."""
