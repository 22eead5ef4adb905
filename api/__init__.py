"""Docker's side: the Engine API over HTTP, and the engine that knows images and containers."""
