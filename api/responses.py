"""Answers as dockerd writes them: JSON with a newline, JSON lines, raw streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

from quart import Response

_Result = TypeVar("_Result")
_RUNNING: set[asyncio.Task[Any]] = set()


def json_response(value: Any, status: int = 200) -> Response:
    """One JSON value."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
    return Response(data, status=status, content_type="application/json")


def empty(status: int = 204) -> Response:
    """No body."""
    return Response(b"", status=status, content_type="text/plain; charset=utf-8")


def stream(chunks: AsyncIterator[bytes], content_type: str, **headers: str) -> Response:
    """A body that comes as it comes; the headers go out at once."""
    response = Response(chunks, content_type=content_type)
    response.timeout = None
    for name, value in headers.items():
        response.headers[name.replace("_", "-")] = value
    return response


def json_stream(values: AsyncIterator[Any]) -> Response:
    """JSON values, each a line of its own."""

    async def lines() -> AsyncIterator[bytes]:
        async for value in values:
            yield json_line(value)

    return stream(lines(), "application/json")


def json_line(value: Any) -> bytes:
    """One line of a JSON stream."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\r\n"


async def in_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """A blocking iterator's values, fetched in worker threads."""
    while chunk := await asyncio.to_thread(next, chunks, b""):
        yield chunk


async def complete(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Finish what was begun even if the client leaves meanwhile."""
    task = asyncio.create_task(work)
    _RUNNING.add(task)
    task.add_done_callback(_finished)
    return await asyncio.shield(task)


def _finished(task: asyncio.Task[Any]) -> None:
    _RUNNING.discard(task)
    if not task.cancelled():
        task.exception()  # whoever waited has seen it; nobody else needs a warning
