"""Engine errors become HTTP answers here, and only here: a status and `{"message": ...}`."""

from __future__ import annotations

import json
import logging

from quart import Quart, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.exceptions import NotFound as RouteNotFound

from api.engine import errors

_LOG = logging.getLogger("ddock.api")
_STATUS: dict[type[errors.EngineError], int] = {
    errors.NotModified: 304,
    errors.InvalidParameter: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.NotSupported: 501,
    errors.Unavailable: 503,
}


def status_of(error: errors.EngineError) -> int:
    """The status of the nearest class in the table; 500 when there is none."""
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)


def error_body(message: str) -> bytes:
    """Docker's error object."""
    return json.dumps({"message": message}).encode() + b"\n"


def error_response(status: int, message: str) -> Response:
    """The answer for an error. The content type must be exactly this, or the CLI shows raw JSON."""
    if status == 304:
        return Response(b"", status=304)
    return Response(error_body(message), status=status, content_type="application/json")


def register_errors(app: Quart) -> None:
    """Install the handlers."""

    @app.errorhandler(errors.EngineError)
    async def engine_error(error: errors.EngineError) -> Response:
        return error_response(status_of(error), str(error))

    @app.errorhandler(RouteNotFound)
    @app.errorhandler(MethodNotAllowed)
    async def unknown_path(_: HTTPException) -> Response:
        return error_response(404, "page not found")

    @app.errorhandler(HTTPException)
    async def http_error(error: HTTPException) -> Response:
        return error_response(error.code or 500, error.description or error.name)

    @app.errorhandler(Exception)
    async def unexpected(error: Exception) -> Response:
        _LOG.error("%s %s failed", request.method, request.path, exc_info=error)
        return error_response(500, f"{type(error).__name__}: {error}")
