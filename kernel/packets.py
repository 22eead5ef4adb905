"""Messages between daemon, zygote and kernels: msgpack in SEQPACKET datagrams, with descriptors.

A channel never blocks the loop and never reorders. Descriptors handed to `send` are duplicates
owned by the channel from then on; descriptors received belong to the receiver.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgpack

MAX_PACKET_BYTES = 256 << 10
_MAX_DESCRIPTORS = 16

Message = dict[str, Any]


class PacketTooLarge(ValueError):
    """A message that does not fit one datagram; nothing of it was sent."""


class PacketChannel:
    """One end of a SEQPACKET socket. `receive` gets each message, `closed` is called at its end."""

    def __init__(
        self,
        sock: socket.socket,
        receive: Callable[[Message, list[int]], None],
        closed: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._receive = receive
        self._closed = closed
        self._queue: deque[tuple[bytes, list[int]]] = deque()
        self._open = True
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_PACKET_BYTES)
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def is_open(self) -> bool:
        """False once the other end has gone or `close` was called."""
        return self._open

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message. Raises PacketTooLarge, or ConnectionError when the other end has gone."""
        if not self._open:
            raise ConnectionError("the other end has gone")
        data = msgpack.packb(message, unicode_errors="surrogateescape")
        if len(data) > MAX_PACKET_BYTES:
            raise PacketTooLarge(f"{len(data)} bytes do not fit a message of {MAX_PACKET_BYTES}")
        self._queue.append((data, [os.dup(number) for number in descriptors]))
        if len(self._queue) == 1:
            self._flush()

    async def drained(self) -> None:
        """Until everything sent has been taken by the other end's socket, or it has gone."""
        while self._queue and self._open:
            await asyncio.sleep(0.001)

    def close(self) -> None:
        """Close this end without calling `closed`."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        for _, descriptors in self._queue:
            _close_all(descriptors)
        self._queue.clear()

    def _flush(self) -> None:
        while self._queue:
            data, descriptors = self._queue[0]
            rights = array.array("i", descriptors)
            control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
            try:
                self._socket.sendmsg([data], control, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._writable)
                return
            except OSError:
                self._ended()
                return
            self._queue.popleft()
            _close_all(descriptors)

    def _writable(self) -> None:
        self._loop.remove_writer(self._socket.fileno())
        self._flush()

    def _readable(self) -> None:
        try:
            data, descriptors = receive_packet(self._socket)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if not data:
            self._ended()
            return
        message = msgpack.unpackb(data, unicode_errors="surrogateescape", strict_map_key=False)
        self._receive(message, descriptors)

    def _ended(self) -> None:
        if self._open:
            self.close()
            self._closed()


def receive_packet(sock: socket.socket) -> tuple[bytes, list[int]]:
    """One datagram and its descriptors, which no process we start inherits; b"" at the end.

    Python's recv_fds ignores the flag that would make them close-on-exec from the start; nobody
    starts processes meanwhile, all callers have one thread.
    """
    data, descriptors, _, _ = socket.recv_fds(sock, MAX_PACKET_BYTES, _MAX_DESCRIPTORS)
    for number in descriptors:
        os.set_inheritable(number, False)
    return data, list(descriptors)


def _close_all(descriptors: Sequence[int]) -> None:
    for number in descriptors:
        os.close(number)
