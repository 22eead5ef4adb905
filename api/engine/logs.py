"""A container's log: what it wrote, in order, lossless, on disk.

Docker's json-file escapes every line and loses bytes that are not UTF-8. Here a record is one chunk
as it was read: 20 bytes of header (magic, stream, time, length), then the bytes. Writing costs one
writev a chunk; readers cut chunks into lines. A record cut off by a crash is ignored and
overwritten. Followers read the file itself, so a slow one costs no memory and loses nothing.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from api.engine.timestamps import now_ns

STDOUT, STDERR = 1, 2
_HEADER = struct.Struct("<IIQI")  # magic, stream, time in ns, length
_MAGIC = 0x676F6C64
_MAX_LINE_BYTES = 16 << 10  # Docker splits longer lines into messages of this size
_YIELD_EVERY = 256


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line (with its newline, if it had one) and the time of the chunk that began it."""

    stream: int
    time_ns: int
    text: bytes


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which lines: `tail` -1 is all; times are ns, 0 is unbounded."""

    streams: frozenset[int] = frozenset((STDOUT, STDERR))
    since_ns: int = 0
    until_ns: int = 0
    tail: int = -1
    follow: bool = False

    def wants(self, line: LogLine) -> bool:
        """Whether the line is of a chosen stream and not before `since`."""
        return line.stream in self.streams and line.time_ns >= self.since_ns


class ContainerLog:
    """The log file of one container; any number of readers, one writer."""

    def __init__(self, path: Path, *, keep: bool = True) -> None:
        self.path = path
        self.keep = keep
        self._descriptor = -1
        self._waiting: set[asyncio.Future[None]] = set()
        self._writers = 0

    def open(self) -> None:
        """Begin a run of the container: followers wait for more until `close`."""
        self._writers += 1
        if self.keep and self._descriptor < 0:
            self._descriptor = os.open(
                self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
            )
            os.ftruncate(self._descriptor, _whole_records(self._descriptor))

    def append(self, stream: int, data: bytes) -> None:
        """Add a chunk. A full disk loses log, never the container's output."""
        if self._descriptor < 0:
            return
        header = _HEADER.pack(_MAGIC, stream, now_ns(), len(data))
        size = os.fstat(self._descriptor).st_size
        try:
            written = os.writev(self._descriptor, (header, data))
        except OSError:
            written = -1
        if written != len(header) + len(data):
            os.ftruncate(self._descriptor, size)
        self._wake()

    def close(self) -> None:
        """End of a run: everything is written; followers finish."""
        self._writers = max(0, self._writers - 1)
        if self._writers == 0 and self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._wake()

    async def read(self, query: LogQuery) -> AsyncIterator[LogLine]:
        """The chosen lines, then, when following, each new one until the container's run ends."""
        if not self.path.exists() and not self._writers:
            return
        self.path.touch(mode=0o600)
        with self.path.open("rb", buffering=1 << 16) as file:
            splitter = _Splitter()
            for number, line in enumerate(self._history(file, splitter, query), 1):
                yield line
                if number % _YIELD_EVERY == 0:
                    await asyncio.sleep(0)
            while query.follow:
                if query.until_ns and now_ns() > query.until_ns:
                    return
                active = self._writers > 0
                for line in splitter.lines(file, flush=not active):
                    if query.until_ns and line.time_ns > query.until_ns:
                        return
                    if query.wants(line):
                        yield line
                if not active:
                    return
                await self._changed(query.until_ns)

    def _history(self, file: BinaryIO, splitter: _Splitter, query: LogQuery) -> Iterator[LogLine]:
        complete = not (query.follow and self._writers)  # else an open line is still being written
        lines = (
            line
            for line in splitter.lines(file, flush=complete)
            if query.wants(line) and not (query.until_ns and line.time_ns > query.until_ns)
        )
        return lines if query.tail < 0 else iter(deque(lines, maxlen=query.tail))

    async def _changed(self, until_ns: int) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        timeout = max(0.0, (until_ns - now_ns()) / 1e9) if until_ns else None
        try:
            await asyncio.wait((future,), timeout=timeout)
        finally:
            self._waiting.discard(future)

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


class _Splitter:
    """Cuts chunks into lines, each stream for itself; keeps its place in the file between calls."""

    def __init__(self) -> None:
        self._open_lines: dict[int, tuple[int, bytes]] = {}

    def lines(self, file: BinaryIO, *, flush: bool) -> Iterator[LogLine]:
        """All lines from the file's position on; `flush` gives unfinished last lines too."""
        for stream, time_ns, data in _records(file):
            began, rest = self._open_lines.pop(stream, (time_ns, b""))
            *whole, rest = (rest + data).split(b"\n")
            for text in whole:
                yield from _pieces(stream, began, text + b"\n")
                began = time_ns
            if rest:
                self._open_lines[stream] = (began, rest)
        if flush:
            for stream, (began, rest) in self._open_lines.items():
                yield from _pieces(stream, began, rest)
            self._open_lines.clear()


def _pieces(stream: int, time_ns: int, text: bytes) -> Iterator[LogLine]:
    for start in range(0, len(text), _MAX_LINE_BYTES):
        yield LogLine(stream, time_ns, text[start : start + _MAX_LINE_BYTES])


def _records(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Whole records from the file's position; leaves the position before a cut-off one."""
    while True:
        start = file.tell()
        header = file.read(_HEADER.size)
        if len(header) == _HEADER.size:
            magic, stream, time_ns, length = _HEADER.unpack(header)
            data = file.read(length) if magic == _MAGIC else b""
            if magic == _MAGIC and len(data) == length:
                yield stream, time_ns, data
                continue
        file.seek(start)
        return


def _whole_records(descriptor: int) -> int:
    """The size of the file without a cut-off record at its end."""
    size = os.fstat(descriptor).st_size
    position = 0
    while position + _HEADER.size <= size:
        magic, _, _, length = _HEADER.unpack(os.pread(descriptor, _HEADER.size, position))
        following = position + _HEADER.size + length
        if magic != _MAGIC or following > size:
            break
        position = following
    return position
