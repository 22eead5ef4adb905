"""Linux's side: one event loop, no locks, one container a process."""
