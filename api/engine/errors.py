"""Errors the user is to see, in Docker's words; `api.errors` turns each class into a status.

Anything else that escapes the engine is our bug and becomes a 500 with a log entry.
"""

from __future__ import annotations


class EngineError(Exception):
    """A failure with a message for the user. Without a narrower class it is the server's fault."""


class InvalidParameter(EngineError):
    """The request cannot be right whatever the state: 400."""


class Unauthorized(EngineError):
    """A registry wants other credentials: 401."""


class Forbidden(EngineError):
    """Permitted to nobody: 403."""


class NotFound(EngineError):
    """There is no such object: 404."""


class Conflict(EngineError):
    """Right in itself, wrong in the present state: 409."""


class NotModified(EngineError):
    """Already in the wanted state: 304, no body."""

    def __init__(self) -> None:
        super().__init__("")


class NotSupported(EngineError):
    """A Docker feature that this engine does not have: 501."""


class Unavailable(EngineError):
    """Cannot be served now (no swarm, shutting down): 503."""
