"""Paths that Docker does not have, for the `ddock` command."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from quart import Blueprint, Response

from api.app import engine
from api.engine.pipes import read_pipe
from api.responses import stream

bp = Blueprint("private", __name__)


@bp.post("/containers/<ref>/trace")
async def trace(ref: str) -> Response:
    """The calls that reach the container's kernel, one a line, until the client or the run ends."""
    run = engine().container(ref).active
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        await run.call("trace", (writing,), on=True)
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)

    async def lines() -> AsyncIterator[bytes]:
        try:
            async for chunk in read_pipe(reading):
                yield chunk
        finally:
            if run.kernel.alive:
                await run.call("trace", on=False)

    return stream(lines(), "text/plain")
