"""A client attached to a process: framing, detach keys, half close, hang-up.

The client's connection is given as a `Connection`, so nothing here knows how it was hijacked.
Docker's rules: without a terminal output is framed per stream; the end of the client's input
closes the process's stdin only if it was opened for one client (`close_stdin`) and there is no
terminal; on a terminal it ends this attachment; a vanished client is seen by hang-up, not by end
of input.
Unlike dockerd, the end of input to a stdin that stays open does not cut the client's output off.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import MutableSet
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from api.engine.detach import DetachScanner
from api.engine.stdio import Sink, Stdin

_FRAME = struct.Struct(">BxxxI")
SYSTEM_ERROR = 3


class Connection(Protocol):
    """A raw two-way stream to a client."""

    hangup: asyncio.Future[None]

    async def read(self) -> bytes:
        """Some bytes; b"" at the end of the client's input."""

    def write(self, *pieces: bytes) -> asyncio.Future[None] | None:
        """Send; a future means: full, wait for it. A vanished client swallows everything."""


def frame(stream: int, data: bytes) -> bytes:
    """The 8-byte header that precedes `data` on a connection without a terminal."""
    return _FRAME.pack(stream, len(data))


class ClientSink:
    """Sends a process's output to one client."""

    def __init__(self, connection: Connection, *, framed: bool, streams: frozenset[int]) -> None:
        self.finished = asyncio.Event()
        self._connection = connection
        self._framed = framed
        self._streams = streams

    def feed(self, stream: int, data: bytes) -> asyncio.Future[None] | None:
        """Forward a chunk of a chosen stream."""
        if stream not in self._streams or self._connection.hangup.done():
            return None
        if self._framed:
            return self._connection.write(frame(stream, data), data)
        return self._connection.write(data)

    def finish(self) -> None:
        """The process's output is complete: the session may end."""
        self.finished.set()


@dataclass(frozen=True, slots=True)
class AttachOptions:
    """What a client wants to send."""

    stdin: bool
    terminal: bool
    close_stdin: bool
    detach_keys: bytes


async def attach(
    connection: Connection,
    sink: ClientSink,
    sinks: MutableSet[Sink],
    stdin: Stdin | None,
    options: AttachOptions,
) -> bool:
    """Serve one client until the output ends, it detaches or vanishes. True: it detached.

    `sink` must already be among `sinks`; it is taken out again.
    """
    tasks: set[asyncio.Future[Any]] = {
        asyncio.ensure_future(sink.finished.wait()),
        asyncio.ensure_future(asyncio.shield(connection.hangup)),
    }
    pump: asyncio.Future[Any] | None = None
    if stdin is not None and options.stdin:
        pump = asyncio.ensure_future(_pump(connection, stdin, options))
        tasks.add(pump)
    try:
        while True:
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if pump in done and len(done) == 1:
                if pump.result() is _InputEnd.GO_ON:
                    continue
                return True
            return False
    finally:
        sinks.discard(sink)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if pump is not None and options.close_stdin and not options.terminal and stdin is not None:
            stdin.close()  # a vanished client can send no more


class _InputEnd:
    """How the client's input ended."""

    GO_ON = "the output goes on"
    DETACHED = "the client leaves"


async def _pump(connection: Connection, stdin: Stdin, options: AttachOptions) -> str:
    scanner = DetachScanner(options.detach_keys if options.terminal else b"")
    with suppress(BrokenPipeError):
        while data := await connection.read():
            passed, detached = scanner.feed(data)
            if passed:
                await stdin.write(passed)
            if detached:
                return _InputEnd.DETACHED
        if options.terminal:
            return _InputEnd.DETACHED
        if options.close_stdin:
            await stdin.close_after_writes()
        return _InputEnd.GO_ON
    # the process closed its stdin: swallow what the client still sends
    while await connection.read():
        pass
    return _InputEnd.GO_ON
