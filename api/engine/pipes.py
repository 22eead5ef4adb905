"""Bulk data between a kernel and a client: archives and traces travel in pipes, not in messages."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

_CHUNK_BYTES = 256 << 10


async def read_pipe(descriptor: int) -> AsyncIterator[bytes]:
    """What is written to the pipe, to its end; closes the descriptor."""
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)
    try:
        while True:
            try:
                data = os.read(descriptor, _CHUNK_BYTES)
            except BlockingIOError:
                ready: asyncio.Future[None] = loop.create_future()
                loop.add_reader(descriptor, _complete, ready)
                try:
                    await ready
                finally:
                    loop.remove_reader(descriptor)
                continue
            if not data:
                return
            yield data
    finally:
        os.close(descriptor)


async def write_pipe(descriptor: int, chunks: AsyncIterator[bytes]) -> None:
    """Write everything to the pipe and close it. Stops early when nobody reads any more."""
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)
    try:
        async for chunk in chunks:
            view = memoryview(chunk)
            while view:
                try:
                    view = view[os.write(descriptor, view) :]
                except BlockingIOError:
                    ready: asyncio.Future[None] = loop.create_future()
                    loop.add_writer(descriptor, _complete, ready)
                    try:
                        await ready
                    finally:
                        loop.remove_writer(descriptor)
    except BrokenPipeError:
        return
    finally:
        os.close(descriptor)


def _complete(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
