"""An attached terminal or pipe: raw mode, resizing, detach keys, framed output."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import struct
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from typing import Any

from api.engine.detach import DetachScanner

_CHUNK_BYTES = 65536
_HEADER = struct.Struct(">BxxxI")


class Session:
    """Copies between our standard streams and a hijacked connection until the output ends."""

    def __init__(
        self,
        connection: socket.socket,
        early: bytes,
        *,
        terminal: bool,
        interactive: bool,
        detach_keys: bytes,
        resize: Callable[[int, int], None],
    ) -> None:
        self._connection = connection
        self._received = bytearray(early)
        self._terminal = terminal
        self._interactive = interactive
        self._scanner = DetachScanner(detach_keys if terminal else b"")
        self._resize = resize
        self._wake_reading, self._wake_writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> bool:
        """Copy to the end of the output. True when the user detached."""
        if not self._interactive:
            self._connection.shutdown(socket.SHUT_WR)
        with self._raw_terminal():
            if self._terminal:
                self._tell_size()
            return self._copy()

    def _copy(self) -> bool:
        inputs: list[Any] = [self._connection, self._wake_reading]
        if self._interactive:
            inputs.append(0)
        self._deliver()
        while True:
            ready, _, _ = select.select(inputs, [], [])
            if self._wake_reading in ready:
                os.read(self._wake_reading, 64)
                self._tell_size()
            if self._connection in ready:
                data = self._connection.recv(_CHUNK_BYTES)
                if not data:
                    return False
                self._received += data
                self._deliver()
            if 0 in ready and 0 in inputs:
                data = os.read(0, _CHUNK_BYTES)
                passed, detached = self._scanner.feed(data)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self._connection.sendall(passed)
                    if not data:
                        self._connection.shutdown(socket.SHUT_WR)
                if detached:
                    return True
                if not data:
                    inputs.remove(0)

    def _deliver(self) -> None:
        if self._terminal:
            _write(1, bytes(self._received))
            self._received.clear()
            return
        while len(self._received) >= _HEADER.size:
            stream, length = _HEADER.unpack_from(self._received)
            end = _HEADER.size + length
            if len(self._received) < end:
                return
            _write(2 if stream == 2 else 1, bytes(self._received[_HEADER.size : end]))
            del self._received[:end]

    def _tell_size(self) -> None:
        if sys.stdout.isatty():
            size = shutil.get_terminal_size()
            self._resize(size.lines, size.columns)

    @contextlib.contextmanager
    def _raw_terminal(self) -> Iterator[None]:
        if not self._terminal or not sys.stdin.isatty():
            yield
            return
        before = termios.tcgetattr(0)
        signal.signal(signal.SIGWINCH, lambda *_: os.write(self._wake_writing, b"w"))
        tty.setraw(0)
        try:
            yield
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, before)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
