"""A container's log: what it wrote, in order, lossless, on disk.

Docker's json-file escapes every line and loses bytes that are not UTF-8; we keep chunks as they
were read (see `log_records`). A write costs one writev; readers cut chunks into lines. Followers
read the file itself, so a slow one costs no memory. With `max-size` the file is rotated: `x.log` is
the present one, `x.log.1` the one before.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from api.engine.log_records import LineSplitter, LogLine, header_of, whole_records
from api.engine.timestamps import now_ns

STDOUT, STDERR = 1, 2
_YIELD_EVERY = 256


@dataclass(frozen=True, slots=True)
class LogLimits:
    """`max-size` in bytes (0: none) and `max-file`."""

    max_bytes: int = 0
    max_files: int = 1


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which lines: `tail` -1 is all; times are ns, 0 is unbounded."""

    streams: frozenset[int] = frozenset((STDOUT, STDERR))
    since_ns: int = 0
    until_ns: int = 0
    tail: int = -1
    follow: bool = False

    def wants(self, line: LogLine) -> bool:
        """Whether the line is of a chosen stream and time."""
        return (
            line.stream in self.streams
            and line.time_ns >= self.since_ns
            and not self.is_past(line.time_ns)
        )

    def is_past(self, time_ns: int) -> bool:
        """Whether the time is after `until`."""
        return bool(self.until_ns) and time_ns > self.until_ns


class ContainerLog:
    """The log of one container; any number of readers, one writer."""

    def __init__(self, path: Path, *, keep: bool = True, limits: LogLimits = LogLimits()) -> None:
        self.path = path
        self.keep = keep
        self._limits = limits
        self._descriptor = -1
        self._size = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self._writers = 0

    def open(self) -> None:
        """Begin a run of the container: followers wait for more until `close`."""
        self._writers += 1
        if self.keep and self._descriptor < 0:
            self._open_file()
            self._size = whole_records(self._descriptor)
            os.ftruncate(self._descriptor, self._size)

    def append(self, stream: int, data: bytes) -> None:
        """Add a chunk. A full disk loses log, never the container's output."""
        if self._descriptor < 0:
            return
        header = header_of(stream, now_ns(), data)
        length = len(header) + len(data)
        if self._limits.max_bytes and 0 < self._limits.max_bytes - length < self._size:
            self._rotate()
        try:
            complete = os.writev(self._descriptor, (header, data)) == length
        except OSError:
            complete = False
        if complete:
            self._size += length
        else:
            os.ftruncate(self._descriptor, self._size)
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
        splitter = LineSplitter()
        with ExitStack() as stack:
            files = [stack.enter_context(file) for file in self._open_all()]
            for number, line in enumerate(self._history(files, splitter, query), 1):
                yield line
                if number % _YIELD_EVERY == 0:
                    await asyncio.sleep(0)
            file = files[-1] if files else None
            while query.follow and not query.is_past(now_ns()):
                active = self._writers > 0
                present = self._present(file)
                for source in dict.fromkeys((file, present)):
                    if source is not None:
                        for line in splitter.lines(source):
                            if query.wants(line):
                                yield line
                if present is not file and present is not None:
                    file = stack.enter_context(present)
                if not active:
                    break
                await self._changed(query.until_ns)
            for line in splitter.rest():
                if query.follow and query.wants(line):
                    yield line

    def _history(
        self, files: list[BinaryIO], splitter: LineSplitter, query: LogQuery
    ) -> Iterator[LogLine]:
        def lines() -> Iterator[LogLine]:
            for file in files:
                yield from filter(query.wants, splitter.lines(file))
            if not (query.follow and self._writers):  # else an open line is still being written
                yield from filter(query.wants, splitter.rest())

        return lines() if query.tail < 0 else iter(deque(lines(), maxlen=query.tail))

    def _open_file(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o600)

    def _open_all(self) -> list[BinaryIO]:
        """Every file of the log, oldest first."""
        older = (self._numbered(n) for n in range(self._limits.max_files - 1, 0, -1))
        return [path.open("rb") for path in (*older, self.path) if path.exists()]

    def _present(self, file: BinaryIO | None) -> BinaryIO | None:
        """The file being written now: the one given, or a fresh one after a rotation."""
        try:
            facts = os.stat(self.path)
        except FileNotFoundError:
            return file
        if file is not None and os.fstat(file.fileno()).st_ino == facts.st_ino:
            return file
        return self.path.open("rb")

    def _rotate(self) -> None:
        os.close(self._descriptor)
        for number in range(self._limits.max_files - 1, 0, -1):
            source = self._numbered(number - 1) if number > 1 else self.path
            if source.exists():
                source.replace(self._numbered(number))
        self.path.unlink(missing_ok=True)
        self._open_file()
        self._size = 0

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

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
