"""Host socket calls on raw descriptors and raw addresses.

Python's socket objects parse addresses and hide errno; the kernel has both as the guest wrote
them. All return the call's result or a negative errno.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
from collections.abc import Iterator
from typing import Final

MSG_DONTWAIT: Final = 0x40
MSG_NOSIGNAL: Final = 0x4000
SO_COOKIE: Final = 57
IP_BIND_ADDRESS_NO_PORT: Final = 24
_NAME_MAX: Final = 128

_libc = ctypes.PyDLL(None, use_errno=True)
_name = ctypes.create_string_buffer(_NAME_MAX)
_length = ctypes.c_uint32()
_sendmsg = _libc.sendmsg
_sendmsg.restype = ctypes.c_ssize_t
_MSGHDR = struct.Struct("<QI4xQQQQI4x")
_IOVEC = struct.Struct("<QQ")


@contextlib.contextmanager
def closing(fd: int) -> Iterator[int]:
    """Close our duplicate of a descriptor at the end of the block."""
    try:
        yield fd
    finally:
        os.close(fd)


def close(fd: int) -> None:
    """close(2)."""
    os.close(fd)


def set_blocking(fd: int, blocking: bool) -> None:
    """Clear or set O_NONBLOCK."""
    os.set_blocking(fd, blocking)


def _checked(result: int) -> int:
    return result if result >= 0 else -ctypes.get_errno()


def bind(fd: int, name: bytes) -> int:
    """bind(2)."""
    return _checked(_libc.bind(fd, name, len(name)))


def connect(fd: int, name: bytes) -> int:
    """connect(2); the caller sees to it that it does not block."""
    return _checked(_libc.connect(fd, name, len(name)))


def listen(fd: int, backlog: int) -> int:
    """listen(2)."""
    return _checked(_libc.listen(fd, backlog))


def getsockname(fd: int) -> bytes | int:
    """The local address, or a negative errno."""
    _length.value = _NAME_MAX
    result = _checked(_libc.getsockname(fd, _name, ctypes.byref(_length)))
    return result if result < 0 else _name.raw[: _length.value]


def getpeername(fd: int) -> bytes | int:
    """The remote address, or a negative errno."""
    _length.value = _NAME_MAX
    result = _checked(_libc.getpeername(fd, _name, ctypes.byref(_length)))
    return result if result < 0 else _name.raw[: _length.value]


def sendmsg(fd: int, data: bytes, flags: int, name: bytes = b"", control: bytes = b"") -> int:
    """sendmsg(2), never sleeping and never raising SIGPIPE."""
    payload = ctypes.c_char_p(data)
    address = ctypes.c_char_p(name)
    ancillary = ctypes.create_string_buffer(control, len(control)) if control else None
    vector = _IOVEC.pack(ctypes.cast(payload, ctypes.c_void_p).value or 0, len(data))
    iov = ctypes.c_char_p(vector)
    header = _MSGHDR.pack(
        (ctypes.cast(address, ctypes.c_void_p).value or 0) if name else 0,
        len(name),
        ctypes.cast(iov, ctypes.c_void_p).value or 0,
        1,
        ctypes.addressof(ancillary) if ancillary is not None else 0,
        len(control),
        0,
    )
    return _checked(_sendmsg(fd, header, flags | MSG_DONTWAIT | MSG_NOSIGNAL))


def getsockopt(fd: int, level: int, option: int, size: int = 4) -> bytes | int:
    """getsockopt(2): the value, or a negative errno."""
    buffer = ctypes.create_string_buffer(size)
    length = ctypes.c_uint32(size)
    result = _checked(_libc.getsockopt(fd, level, option, buffer, ctypes.byref(length)))
    return result if result < 0 else buffer.raw[: length.value]


def option(fd: int, level: int, name: int) -> int:
    """An integer option's value, or a negative errno."""
    value = getsockopt(fd, level, name)
    return value if isinstance(value, int) else int.from_bytes(value, "little", signed=True)


def setsockopt(fd: int, level: int, option: int, value: bytes) -> int:
    """setsockopt(2)."""
    return _checked(_libc.setsockopt(fd, level, option, value, len(value)))


def set_option(fd: int, level: int, option: int, value: int) -> int:
    """Set an integer option."""
    return setsockopt(fd, level, option, struct.pack("<i", value))


def domain(fd: int) -> int:
    """The socket's address family; -ENOTSOCK for another kind of descriptor."""
    return option(fd, socket.SOL_SOCKET, socket.SO_DOMAIN)


def kind(fd: int) -> int:
    """SOCK_STREAM, SOCK_DGRAM, ..."""
    return option(fd, socket.SOL_SOCKET, socket.SO_TYPE)


def cookie(fd: int) -> int:
    """The socket's identity: unique while the host is up, the same in every duplicate."""
    value = getsockopt(fd, socket.SOL_SOCKET, SO_COOKIE, 8)
    return value if isinstance(value, int) else int.from_bytes(value, "little")


def tcp_state(fd: int) -> int:
    """TCP_CLOSE (7), TCP_SYN_SENT (2), ... of a TCP socket, or a negative errno."""
    info = getsockopt(fd, socket.IPPROTO_TCP, socket.TCP_INFO, 8)
    return info if isinstance(info, int) else info[0]


def is_blocking(fd: int) -> bool:
    """Whether O_NONBLOCK is clear."""
    return not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK


def connect_now(fd: int, name: bytes, blocking: bool) -> int:
    """connect(2) without sleeping, whatever the descriptor's O_NONBLOCK is (`blocking`: clear).

    The flag belongs to all duplicates, the guest's too. It is changed only for the moment of the
    call and only for sockets that are not connected yet, on which nobody can be sending or
    receiving.
    """
    if not blocking:
        return connect(fd, name)
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    try:
        return connect(fd, name)
    finally:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)


def poll_now(fd: int, events: int) -> int:
    """Which of `events` (and POLLERR, POLLHUP) hold at this moment."""
    poller = select.poll()
    poller.register(fd, events)
    ready = poller.poll(0)
    return ready[0][1] if ready else 0


def is_taken(kind: int, name: bytes, reuse: bool, reuse_port: bool) -> bool:
    """Whether binding a fresh AF_INET socket of `kind` to `name` fails with EADDRINUSE."""
    try:
        probe = socket.socket(socket.AF_INET, kind)
    except OSError:
        return False
    with probe:
        if reuse:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return bind(probe.fileno(), name) == -errno.EADDRINUSE
