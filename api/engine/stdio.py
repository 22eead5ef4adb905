"""A process's three streams on the daemon's side: pipes or one pty, pumped by loop callbacks.

Output goes to every sink before more is read: a sink that is full stops the reading, so the guest
blocks as on any full pipe, nothing is dropped and nothing piles up. No task runs per chunk.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import pty
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from api.engine.logs import STDERR, STDOUT

CHUNK_BYTES = 64 << 10
_PIPE_BYTES = 256 << 10


class Sink(Protocol):
    """Takes a process's output."""

    def feed(self, stream: int, data: bytes) -> asyncio.Future[None] | None:
        """Take a chunk. A future means: full, give no more until it is done."""

    def finish(self) -> None:
        """The output is complete."""


class Stdin:
    """The way to a process's standard input. Writers wait until the process runs and reads."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = -1
        self._ready = asyncio.Event()
        self._closed = False
        self._turn = asyncio.Lock()

    def open(self, descriptor: int) -> None:
        """The process starts; the descriptor is ours from now on. Queued writers go on."""
        if self._closed:
            os.close(descriptor)
            return
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._ready.set()

    async def write(self, data: bytes) -> None:
        """Write all of it. Raises BrokenPipeError when the process no longer reads."""
        async with self._turn:
            view = memoryview(data)
            while view:
                await self._ready.wait()
                if self._closed:
                    raise BrokenPipeError
                try:
                    view = view[os.write(self._descriptor, view) :]
                except BlockingIOError:
                    await self._writable()
                except OSError as error:
                    raise BrokenPipeError from error

    async def close_after_writes(self) -> None:
        """Close once what was queued before is written: the process sees end of file."""
        async with self._turn:
            if not self._closed:
                await self._ready.wait()
            self.close()

    def close(self) -> None:
        """Close now; waiting writers fail."""
        self._closed = True
        self._ready.set()
        if self._descriptor >= 0:
            self._loop.remove_writer(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    async def _writable(self) -> None:
        self._ready.clear()
        descriptor = self._descriptor

        def ready() -> None:
            self._loop.remove_writer(descriptor)
            self._ready.set()

        self._loop.add_writer(descriptor, ready)
        await self._ready.wait()


class _Source:
    """Reads one descriptor to its end, handing chunks to `deliver`."""

    def __init__(
        self,
        descriptor: int,
        deliver: Callable[[bytes], list[asyncio.Future[None]]],
        ended: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.descriptor = descriptor
        self._deliver = deliver
        self._ended = ended
        self.paused = False
        os.set_blocking(descriptor, False)
        self._loop.add_reader(descriptor, self._readable)

    def close(self) -> None:
        if self.descriptor >= 0:
            self._loop.remove_reader(self.descriptor)
            os.close(self.descriptor)
            self.descriptor = -1
            self._ended()

    def _readable(self) -> None:
        try:
            data = os.read(self.descriptor, CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:  # EIO: the last process has closed the terminal
                raise
            data = b""
        if not data:
            self.close()
            return
        full = self._deliver(data)
        if full:
            self.paused = True
            self._loop.remove_reader(self.descriptor)
            asyncio.gather(*full, return_exceptions=True).add_done_callback(self._resume)

    def _resume(self, _: object) -> None:
        self.paused = False
        if self.descriptor >= 0:
            self._loop.add_reader(self.descriptor, self._readable)


class Stdio:
    """One run's streams. `guest_side` are passed to the kernel, then closed with `release`."""

    def __init__(self, *, terminal: bool, stdin: Stdin | None, sinks: set[Sink]) -> None:
        self.terminal = terminal
        self.drained = asyncio.Event()
        self._sinks = sinks
        self._sources: list[_Source] = []
        self._master = -1
        self.guest_side: list[int] = []
        if terminal:
            self._open_terminal(stdin)
        else:
            self._open_pipes(stdin)

    def _open_terminal(self, stdin: Stdin | None) -> None:
        self._master, slave = pty.openpty()
        self.guest_side = [slave, slave, slave]
        if stdin is not None:
            stdin.open(os.dup(self._master))
        self._add_source(self._master, STDOUT)

    def _open_pipes(self, stdin: Stdin | None) -> None:
        if stdin is None:
            self.guest_side.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        else:
            reading, writing = _pipe()
            self.guest_side.append(reading)
            stdin.open(writing)
        for stream in (STDOUT, STDERR):
            reading, writing = _pipe()
            self.guest_side.append(writing)
            self._add_source(reading, stream)

    def release(self) -> None:
        """Close the guest's ends here: the kernel holds its own copies (or never will)."""
        for number in set(self.guest_side):
            os.close(number)
        self.guest_side = []

    def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size; its foreground processes get SIGWINCH from the host."""
        if self._master >= 0 and self._sources:
            size = struct.pack("HHHH", rows, columns, 0, 0)
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    async def drain(self, seconds: float) -> None:
        """Wait until every byte has reached the sinks, or that long.

        Afterwards either `drained` is set or a full sink holds things up: a process that escaped
        with the other end of a pipe is not waited for.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self.drained.wait(), seconds)
        for source in tuple(self._sources):
            if not source.paused:
                source.close()

    def abandon(self) -> None:
        """Stop reading whether or not the other side has finished."""
        for source in tuple(self._sources):
            source.close()

    def _add_source(self, descriptor: int, stream: int) -> None:
        def deliver(data: bytes) -> list[asyncio.Future[None]]:
            waits = (sink.feed(stream, data) for sink in tuple(self._sinks))
            return [wait for wait in waits if wait is not None]

        def ended() -> None:
            self._sources.remove(source)
            if not self._sources:
                self.drained.set()

        source = _Source(descriptor, deliver, ended)
        self._sources.append(source)


def _pipe() -> tuple[int, int]:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with suppress(OSError):  # the user's share of pipe memory may be used up
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return reading, writing
