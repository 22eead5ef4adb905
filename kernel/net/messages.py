"""sendmsg and recvmsg: the guest's struct msghdr on one side, the host's call on the other.

A send that carries an address or control data is made by the kernel, from its duplicate of the
socket. A receive is always made by the guest itself (it blocks there as on Linux), with the name
and control buffers in its slot, where the kernel reads and translates them before the guest can.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from codegen.layout import PAYLOAD
from kernel.errors import LinuxError
from kernel.net import ancillary, guest, hostsock, sockaddr, waiting
from kernel.net.inet import Inet
from kernel.net.paths import located
from kernel.signals.sending import send_to_task, user_info

if TYPE_CHECKING:
    from kernel.net.network import Network
    from kernel.task import Task

MSG_CTRUNC: Final = 0x08
MSG_DONTWAIT: Final = 0x40
MSG_NOSIGNAL: Final = 0x4000
MSG_CMSG_CLOEXEC: Final = 0x40000000
_SIGPIPE: Final = 13
_UIO_MAXIOV: Final = 1024
_NAME_ROOM: Final = 128
_CONTROL_LIMIT: Final = 32768
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.02
_IOVEC = struct.Struct("<QQ")
_HEADER = struct.Struct("<QiIQQQQII")
HEADER_SIZE: Final = _HEADER.size


class Header(NamedTuple):
    """Struct msghdr (64-bit)."""

    name: int
    name_length: int
    pad1: int
    iov: int
    iov_count: int
    control: int
    control_length: int
    flags: int
    pad2: int

    @classmethod
    def of(cls, data: bytes) -> Header:
        """Unpack; EINVAL for a negative name length, EMSGSIZE for too many buffers."""
        header = cls(*_HEADER.unpack_from(data))
        if header.name and header.name_length < 0:
            raise LinuxError(errno.EINVAL)
        if header.iov_count > _UIO_MAXIOV:
            raise LinuxError(errno.EMSGSIZE)
        return header


# -- sending ---------------------------------------------------------------------------------------


async def gather(task: Task, header: Header) -> list[tuple[int, int]]:
    """The (address, length) pairs of a message."""
    if not header.iov_count:
        return []
    data = await task.copy_in(header.iov, _IOVEC.size * header.iov_count)
    return [pair for pair in _IOVEC.iter_unpack(data) if pair[1]]


async def fetch(task: Task, header: Header) -> tuple[bytes, bytes, bytes]:
    """(data, name, control) of a message to send."""
    parts = [await task.copy_in(address, size) for address, size in await gather(task, header)]
    name = b""
    if header.name and header.name_length:
        name = await task.copy_in(header.name, min(header.name_length, _NAME_ROOM))
    control = b""
    if header.control and header.control_length:
        if header.control_length > _CONTROL_LIMIT:
            raise LinuxError(errno.ENOBUFS)
        control = await task.copy_in(header.control, header.control_length)
    return b"".join(parts), name, control


async def send(task: Task, fd: int, data: bytes, flags: int, name: bytes, control: bytes) -> int:
    """Send one message from the kernel's duplicate `fd`; the number of bytes sent."""
    domain = hostsock.domain(fd)
    if domain < 0:
        raise LinuxError(errno.ENOTSOCK)
    network: Network = task.process.container.network
    sent = await ancillary.outgoing(task, domain, control)
    try:
        buffer = sent.buffer()
        kind = hostsock.kind(fd)
        if domain == sockaddr.AF_UNIX:
            state = network.state(fd)
            if state is not None and state.netlink is not None:
                return await _push(task, fd, kind, data, flags, b"", b"")
            if name and kind == socket.SOCK_DGRAM:
                if sockaddr.family(name) != sockaddr.AF_UNIX:
                    raise LinuxError(errno.EINVAL)
                with located(task, network.unix, name) as host:
                    return await _push(task, fd, kind, data, flags, host, buffer)
            return await _push(task, fd, kind, data, flags, name[:2], buffer)
        if name and kind == socket.SOCK_DGRAM:
            inet = Inet(network, fd, domain)
            host, source = inet.destination(name)
            result = await _push(task, fd, kind, data, flags, host, buffer + source)
            inet.sent()
            return result
        return await _push(task, fd, kind, data, flags, b"", buffer)
    finally:
        sent.close()


async def _push(
    task: Task, fd: int, kind: int, data: bytes, flags: int, name: bytes, control: bytes
) -> int:
    """The host's sendmsg, sleeping as the socket's mode says; a stream takes all of `data`."""
    blocking = not flags & MSG_DONTWAIT and hostsock.is_blocking(fd)
    limit = waiting.timeout_of(fd, waiting.SO_SNDTIMEO) if blocking else None
    pause = _FIRST_PAUSE
    total = 0
    while True:
        result = hostsock.sendmsg(fd, data, flags, name, control)
        if result >= 0:
            total += result
            control = b""
            if kind != socket.SOCK_STREAM or result >= len(data) or not blocking:
                return total
            data = data[result:]
            continue
        if total and result != -errno.EAGAIN:
            return total
        if result == -errno.EPIPE and kind == socket.SOCK_STREAM and not flags & MSG_NOSIGNAL:
            send_to_task(task, user_info(_SIGPIPE, 0, task))
        if result != -errno.EAGAIN or not blocking:
            raise LinuxError(-result)
        if name and kind == socket.SOCK_DGRAM:
            # Full is the receiver's queue, which cannot be waited for through our socket.
            await waiting.pause(task, pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        elif not await waiting.until_writable(task, fd, limit):
            return total or -errno.EAGAIN


# -- receiving -------------------------------------------------------------------------------------


class Received(NamedTuple):
    """What a receive gave: `outs` are to be copied to the guest."""

    result: int
    flags: int
    outs: list[tuple[int, bytes]]


async def receive(task: Task, fd: int, address: int, header: Header, flags: int) -> Received:
    """recvmsg(2) for the guest's msghdr at `address`, whose content is `header`."""
    network: Network = task.process.container.network
    room = min(header.control_length, _CONTROL_LIMIT) if header.control else 0
    extra = ancillary.MARKER_ROOM if network.markers and room else 0
    slot = task.slot
    base = slot.address + PAYLOAD
    name_at = base + HEADER_SIZE
    control_at = name_at + _NAME_ROOM
    inner = _HEADER.pack(
        name_at, _NAME_ROOM if header.name else 0, 0, header.iov, header.iov_count,
        control_at if room else 0, room + extra, 0, 0,
    )  # fmt: skip
    slot.write(base, inner)
    result = await task.hostcall("recvmsg", fd, base, flags)
    after = _HEADER.unpack(slot.read(base, HEADER_SIZE))
    name = slot.read(name_at, min(max(after[1], 0), _NAME_ROOM)) if header.name else b""
    control = slot.read(control_at, min(after[6], room + extra)) if room else b""
    message_flags = after[7]
    outs: list[tuple[int, bytes]] = []
    if control:
        cloexec = bool(flags & MSG_CMSG_CLOEXEC)
        control, truncated = await ancillary.incoming(task, control, room, cloexec)
        if truncated:
            message_flags |= MSG_CTRUNC
        if control:
            outs.append((header.control, control))
    if header.name:
        shown = await source(task, fd, name)
        outs.append((header.name, shown[: header.name_length]))
        outs.append((address + 8, struct.pack("<i", len(shown))))
    outs.append((address + 40, struct.pack("<QI", len(control), message_flags)))
    return Received(result, message_flags, [out for out in outs if out[1]])


async def receive_from(
    task: Task, fd: int, buffer: int, size: int, flags: int, addrlen: int
) -> tuple[int, bytes, int]:
    """recvfrom(2): (result, guest address of the sender, room for it at guest address `addrlen`).

    The guest makes it as recvmsg(2), the only receiving call that may tell it an address.
    """
    slot = task.slot
    base = slot.address + PAYLOAD
    iov_at = base + HEADER_SIZE
    name_at = iov_at + _IOVEC.size
    inner = _HEADER.pack(name_at, _NAME_ROOM, 0, iov_at, 1, 0, 0, 0, 0)
    slot.write(base, inner + _IOVEC.pack(buffer, size))
    result, room = await guest.hostcall_with_length(task, addrlen, "recvmsg", fd, base, flags)
    if room < 0:
        raise LinuxError(errno.EINVAL)
    length = _HEADER.unpack(slot.read(base, HEADER_SIZE))[1]
    name = slot.read(name_at, min(max(length, 0), _NAME_ROOM))
    return result, await source(task, fd, name), room


async def source(task: Task, fd: int, name: bytes) -> bytes:
    """The guest's view of the host address a message came from; b"" if there was none."""
    network: Network = task.process.container.network
    family = sockaddr.family(name)
    if family in (sockaddr.AF_INET, sockaddr.AF_INET6):
        return name if network.mode == "host" else network.show_remote(name, None)
    if family == sockaddr.AF_UNIX and len(name) > 2:
        return sockaddr.unix(network.unix.guest(sockaddr.unix_path(name)))
    if network.netlinks:
        host_fd = await task.take_fd(fd)
        with hostsock.closing(host_fd):
            state = network.state(host_fd)
        if state is not None and state.netlink is not None:
            return sockaddr.netlink(0, 0)
    return name
