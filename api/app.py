"""The HTTP application: Quart with Docker's routes, version prefixes and headers.

The prefix `/v1.NN` is taken off before routing and kept as `scope["ddock.version"]`. The headers
that every answer of a Docker daemon has are put on at the same place: errors have them too.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Any, cast

from quart import Quart, current_app, request
from quart.asgi import ASGIHTTPConnection
from quart.wrappers import Request
from quart.wrappers.request import Body

from api.engine.engine import Engine
from api.errors import error_body, register_errors
from api.versions import API_VERSION, MIN_API_VERSION, SERVER_HEADER, parse_version

_PREFIX = re.compile(r"/v(\d+\.\d+)(?=/)")
_SLASHES = re.compile("/{2,}")
_BODY_BYTES = 1 << 20  # what may wait unread of a request's body
_DISCARD_BYTES = 64 << 20
_DISCARD_SECONDS = 5.0
_HEADERS = [
    (b"api-version", API_VERSION.encode()),
    (b"docker-experimental", b"false"),
    (b"ostype", b"linux"),
    (b"server", SERVER_HEADER.encode()),
]

Scope = dict[str, Any]
AsgiCall = Callable[..., Awaitable[Any]]


class _BoundedBody(Body):
    """A body that makes the connection wait while the handler is behind."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.room = asyncio.Event()
        self.collected = False

    async def __anext__(self) -> bytes:
        data = await super().__anext__()
        self.room.set()
        return data

    def __await__(self) -> Any:
        self.collected = True
        self.room.set()
        return super().__await__()

    async def wait_for_room(self) -> None:
        """Wait until the handler has taken what is there, unless it wants all at once."""
        while len(self._data) > _BODY_BYTES and not self.collected:
            self.room.clear()
            await self.room.wait()


class _Request(Request):
    body_class: type[Body] = _BoundedBody


class _Connection(ASGIHTTPConnection):
    async def handle_messages(self, request: Request, receive: AsgiCall) -> None:
        """As Quart's, but never far ahead of the handler."""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            request.body.append(message.get("body", b""))
            if message.get("more_body", False):
                await cast(_BoundedBody, request.body).wait_for_room()
            else:
                request.body.set_complete()

    async def handle_request(self, request: Request, send: AsgiCall) -> None:
        """As Quart's; a refusal waits for the body, or its sender would see a broken pipe only."""

        async def send_after_body(message: Any) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(_discard(request.body), _DISCARD_SECONDS)
            await send(message)

        await super().handle_request(request, send_after_body)


async def _discard(body: Body) -> None:
    left = _DISCARD_BYTES
    async for chunk in body:
        left -= len(chunk)
        if left < 0:
            return


class Application(Quart):
    """Quart, serving one engine."""

    request_class = _Request
    asgi_http_class = _Connection

    def __init__(self, engine: Engine) -> None:
        super().__init__(__name__, static_folder=None, template_folder=None)
        self.engine = engine
        self.config.update(
            BODY_TIMEOUT=None,
            RESPONSE_TIMEOUT=None,
            MAX_CONTENT_LENGTH=None,
            PROVIDE_AUTOMATIC_OPTIONS=False,
        )
        self.url_map.merge_slashes = False
        self.url_map.strict_slashes = False
        register_errors(self)
        from api.routes import BLUEPRINTS  # noqa: PLC0415 - routes import this module

        for blueprint in BLUEPRINTS:
            self.register_blueprint(blueprint)

    async def __call__(self, scope: Any, receive: AsgiCall, send: AsgiCall) -> None:
        """Take the version off the path, put Docker's headers on the answer."""

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        prefix = _PREFIX.match(scope["path"])
        if prefix is not None:
            complaint = version_complaint(prefix[1])
            if complaint:
                await _answer_400(send_with_headers, complaint)
                return
            scope["path"] = scope["path"][prefix.end() :]
        scope["path"] = _SLASHES.sub("/", scope["path"])  # names may come as "/name"
        scope["ddock.version"] = parse_version(prefix[1] if prefix else API_VERSION)
        await super().__call__(scope, receive, send_with_headers)


def engine() -> Engine:
    """The engine behind the request being served."""
    return cast(Application, current_app).engine


def api_version() -> tuple[int, int]:
    """The API version the client speaks."""
    return cast(tuple[int, int], cast(Scope, request.scope)["ddock.version"])


def version_complaint(text: str) -> str:
    """Why a client of this version cannot be served; empty when it can."""
    version = parse_version(text)
    if version > parse_version(API_VERSION):
        return f"client version {text} is too new. Maximum supported API version is {API_VERSION}"
    if version < parse_version(MIN_API_VERSION):
        return (
            f"client version {text} is too old. Minimum supported API version is"
            f" {MIN_API_VERSION}, please upgrade your client to a newer version"
        )
    return ""


async def _answer_400(send: AsgiCall, message: str) -> None:
    body = error_body(message)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
