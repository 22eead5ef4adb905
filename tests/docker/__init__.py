"""The unmodified docker CLI against a daemon of the session's own, and what may be left after."""
