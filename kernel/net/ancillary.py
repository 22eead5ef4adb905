"""Control messages (cmsg(3)): descriptors and identities on their way between guests.

Outgoing descriptors are taken from the guest and sent from the kernel's duplicates; incoming ones
are installed by the host, because the guest itself makes the receiving call. An identity the host
would not let us claim (SCM_CREDENTIALS) travels as a *marker*: a sealed memfd, unforgeable because
its content begins with a secret of the kernel's, which is the last of the message's descriptors
and taken out again on the receiving side.
"""

from __future__ import annotations

import array
import errno
import os
import secrets
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from kernel.capabilities import CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN
from kernel.errors import LinuxError
from kernel.net import hostsock, sockaddr
from kernel.net.unix import OVERFLOW_ID, Ucred

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel.container import Container
    from kernel.fs.openfile import OpenFile
    from kernel.net.network import Network
    from kernel.task import Task

SCM_RIGHTS: Final = 1
SCM_CREDENTIALS: Final = 2
_IP_PKTINFO: Final = 8
_IPV6_PKTINFO: Final = 50
_MAX_RIGHTS: Final = 253  # SCM_MAX_FD
_HEADER = struct.Struct("<Qii")
_UCRED = struct.Struct("<iII")
_MARKER_NAME: Final = "ddock-credentials"
_SECRET: Final = secrets.token_bytes(16)
MARKER_ROOM: Final = 24
_PASSED_LIMIT: Final = 4096


class Message(NamedTuple):
    """One control message."""

    level: int
    type: int
    data: bytes


def parse(control: bytes) -> Iterator[Message]:
    """The messages in a control buffer. LinuxError(EINVAL) for a malformed one."""
    at = 0
    while at + _HEADER.size <= len(control):
        length, level, kind = _HEADER.unpack_from(control, at)
        if length < _HEADER.size or length > len(control) - at:
            raise LinuxError(errno.EINVAL)
        yield Message(level, kind, control[at + _HEADER.size : at + length])
        at += (length + 7) & ~7


def pack(message: Message) -> bytes:
    """One message with its padding."""
    length = _HEADER.size + len(message.data)
    return _HEADER.pack(length, message.level, message.type) + message.data + bytes(-length % 8)


def identity(task: Task) -> Ucred:
    """What SO_PEERCRED says about a task: its process and effective ids."""
    who = task.credentials
    return Ucred(task.process.pid, who.euid, who.egid)


# -- sending ---------------------------------------------------------------------------------------


class Outgoing:
    """The host's control buffer for one send; `close` gives the descriptors back."""

    def __init__(self) -> None:
        self.fds: list[int] = []
        self.others: list[Message] = []
        self.has_rights = False

    def buffer(self) -> bytes:
        """Control data for the host's sendmsg."""
        parts = [pack(message) for message in self.others]
        if self.fds:
            rights = array.array("i", self.fds).tobytes()
            parts.append(pack(Message(socket.SOL_SOCKET, SCM_RIGHTS, rights)))
        return b"".join(parts)

    def close(self) -> None:
        """After the send."""
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()


async def outgoing(task: Task, domain: int, control: bytes) -> Outgoing:
    """Translate a guest's control buffer. EINVAL, EBADF, EPERM as sendmsg(2) would."""
    result = Outgoing()
    network: Network = task.process.container.network
    claimed: Ucred | None = None
    try:
        for message in parse(control):
            if domain == sockaddr.AF_UNIX and message.level == socket.SOL_SOCKET:
                if message.type == SCM_RIGHTS:
                    await _take_rights(task, network, message.data, result)
                elif message.type == SCM_CREDENTIALS:
                    claimed = _check_claim(task, message.data)
                else:
                    raise LinuxError(errno.EINVAL)
            elif (message.level, message.type) not in (
                (socket.IPPROTO_IP, _IP_PKTINFO),
                (socket.IPPROTO_IPV6, _IPV6_PKTINFO),
            ):
                result.others.append(message)  # the source address is ours to choose
        if domain == sockaddr.AF_UNIX and (claimed is not None or network.markers):
            network.markers = True
            real = Ucred(task.process.pid, task.credentials.uid, task.credentials.gid)
            result.fds.append(_make_marker(claimed or real))
    except BaseException:
        result.close()
        raise
    return result


async def _take_rights(task: Task, network: Network, data: bytes, result: Outgoing) -> None:
    numbers = array.array("i", data[: len(data) & ~3])
    if len(numbers) + len(result.fds) > _MAX_RIGHTS:
        raise LinuxError(errno.EINVAL)
    for number in numbers:
        host_fd = await task.take_fd(number)
        result.fds.append(host_fd)
        open_file = task.process.files.get(number)
        if open_file is not None:
            status = os.fstat(host_fd)
            if len(network.passed) >= _PASSED_LIMIT:
                network.passed.pop(next(iter(network.passed)))
            network.passed[(status.st_dev, status.st_ino)] = open_file
    result.has_rights = True


def _check_claim(task: Task, data: bytes) -> Ucred:
    """scm_check_creds in net/core/scm.c."""
    if len(data) != _UCRED.size:
        raise LinuxError(errno.EINVAL)
    claim = Ucred(*_UCRED.unpack(data))
    who = task.credentials
    allowed = (
        (claim.pid == task.process.pid or who.can(CAP_SYS_ADMIN))
        and (claim.uid in (who.uid, who.euid, who.suid) or who.can(CAP_SETUID))
        and (claim.gid in (who.gid, who.egid, who.sgid) or who.can(CAP_SETGID))
    )
    if not allowed:
        raise LinuxError(errno.EPERM)
    return claim


def _make_marker(who: Ucred) -> int:
    fd = os.memfd_create(_MARKER_NAME, os.MFD_CLOEXEC)
    os.write(fd, _SECRET + _UCRED.pack(*who))
    return fd


def _read_marker(fd: int) -> Ucred | None:
    """Who is meant, if `fd` is a marker of this kernel's."""
    try:
        if not os.readlink(f"/proc/self/fd/{fd}").startswith(f"/memfd:{_MARKER_NAME}"):
            return None
        data = os.pread(fd, 64, 0)
    except OSError:
        return None
    if len(data) != len(_SECRET) + _UCRED.size or not data.startswith(_SECRET):
        return None
    return Ucred(*_UCRED.unpack(data[len(_SECRET) :]))


# -- receiving -------------------------------------------------------------------------------------


async def incoming(task: Task, control: bytes, room: int, cloexec: bool) -> tuple[bytes, bool]:
    """(what the guest gets in its buffer of `room` bytes, whether something did not fit).

    The descriptors in `control` are the guest's already; those that do not fit are closed again.
    """
    network: Network = task.process.container.network
    messages = list(parse(control))
    marker: Ucred | None = None
    truncated = False
    parts: list[bytes] = []
    used = 0
    for message in messages:
        shown = message
        if message.level == socket.SOL_SOCKET and message.type == SCM_RIGHTS:
            numbers = array.array("i", message.data[: len(message.data) & ~3])
            if network.markers or network.passed:
                marker = await _inspect(task, network, numbers, cloexec)
            fits = max(0, (room - used - _HEADER.size) // 4)
            for extra in numbers[fits:]:
                await task.hostcall("close", extra)
                truncated = True
            shown = Message(message.level, message.type, numbers[:fits].tobytes())
            if not shown.data:
                continue
        elif message.level == socket.IPPROTO_IP and message.type == _IP_PKTINFO:
            shown = _show_packet_info(network, message)
        packed = pack(shown)
        unpadded = _HEADER.size + len(shown.data)
        if used + unpadded > room:
            truncated = True
            continue
        parts.append(packed[: room - used])
        used += len(parts[-1])
    shown_control = b"".join(parts)
    return _show_credentials(task.process.container, shown_control, marker), truncated


async def _inspect(
    task: Task, network: Network, numbers: array.array[int], cloexec: bool
) -> Ucred | None:
    """Take the marker out of received descriptors, and flag those that are flagged files."""
    marker = None
    last = len(numbers) - 1
    for index in range(last, -1, -1):
        number = numbers[index]
        with hostsock.closing(await task.take_fd(number)) as host_fd:
            status = os.fstat(host_fd)
            if index == last:
                marker = _read_marker(host_fd)
        if index == last and marker is not None:
            del numbers[index]
            await task.hostcall("close", number)
            continue
        open_file: OpenFile | None = network.passed.get((status.st_dev, status.st_ino))
        if open_file is not None:
            task.process.files.set(number, open_file, cloexec)
    return marker


def _show_credentials(container: Container, control: bytes, marker: Ucred | None) -> bytes:
    """Replace the host's numbers in SCM_CREDENTIALS, which has the same size on both sides."""
    at = 0
    result = bytearray(control)
    while at + _HEADER.size <= len(control):
        length, level, kind = _HEADER.unpack_from(control, at)
        body = at + _HEADER.size
        if level == socket.SOL_SOCKET and kind == SCM_CREDENTIALS and length >= 28:
            host = Ucred(*_UCRED.unpack_from(control, body))
            _UCRED.pack_into(result, body, *(marker or virtual(container, host)))
        if length < _HEADER.size:
            break
        at += (length + 7) & ~7
    return bytes(result)


def virtual(container: Container, host: Ucred) -> Ucred:
    """The container's view of a host process: its own if it is a guest, else a stranger."""
    process = container.by_host_pid.get(host.pid)
    if process is None:
        process = next((p for p in container.pids.values() if p.host_pid == host.pid), None)
    if process is not None and process.leader is not None:
        who = process.leader.credentials
        return Ucred(process.pid, who.uid, who.gid)
    if host.pid in (0, os.getpid()):
        return Ucred(0, OVERFLOW_ID, OVERFLOW_ID)
    return Ucred(0, host.uid, host.gid)


def _show_packet_info(network: Network, message: Message) -> Message:
    """IP_PKTINFO: which of our addresses a datagram came in on."""
    if network.mode == "host" or len(message.data) < 12:
        return message
    shown = []
    for start in (4, 8):
        host = sockaddr.inet(message.data[start : start + 4], 9)
        shown.append(sockaddr.address(network.show_local(host, host, None)))
    return Message(message.level, message.type, message.data[:4] + b"".join(shown))
