"""Socket options that name something: peers, devices, privileges (socket(7), ipv6(7)).

`set_option` and `get_option` answer these; None means "the host's own answer is right".
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Final

from kernel.capabilities import CAP_NET_ADMIN, CAP_NET_RAW
from kernel.errors import LinuxError
from kernel.net import hostsock, sockaddr
from kernel.net.ancillary import virtual
from kernel.net.interfaces import interfaces
from kernel.net.unix import Ucred

if TYPE_CHECKING:
    from kernel.net.network import Network
    from kernel.task import Task

SOL_SOCKET: Final = 1
SOL_IPV6: Final = 41
_SO_DEBUG, _SO_TYPE, _SO_PRIORITY, _SO_PASSCRED, _SO_PEERCRED = 1, 3, 12, 16, 17
_SO_BINDTODEVICE, _SO_SNDBUFFORCE, _SO_RCVBUFFORCE, _SO_MARK = 25, 32, 33, 36
_SO_PROTOCOL, _SO_DOMAIN, _SO_PEERGROUPS, _SO_PASSPIDFD, _SO_PEERPIDFD = 38, 39, 59, 76, 77
_SO_BINDTOIFINDEX, _SO_PREFER_BUSY_POLL = 62, 69
TIME_LIMITS: Final = frozenset((20, 21, 66, 67))  # SO_RCVTIMEO, SO_SNDTIMEO, old and new
_IPV6_V6ONLY: Final = 26
_UCRED = struct.Struct("<iII")
_NAMED_PRIORITY: Final = 6
# Options whose number can be asked of us: everything else is the host's.
SET_SOCKET: Final = frozenset(
    (
        _SO_DEBUG, _SO_PRIORITY, _SO_PASSCRED, _SO_BINDTODEVICE, _SO_SNDBUFFORCE,
        _SO_RCVBUFFORCE, _SO_MARK, _SO_PASSPIDFD, _SO_BINDTOIFINDEX, _SO_PREFER_BUSY_POLL,
    )
)  # fmt: skip
GET_SOCKET: Final = frozenset(
    (_SO_PEERCRED, _SO_PEERGROUPS, _SO_PEERPIDFD, _SO_PASSPIDFD, _SO_BINDTODEVICE)
)
_GET_NETLINK: Final = frozenset((_SO_DOMAIN, _SO_TYPE, _SO_PROTOCOL))  # ours are AF_UNIX inside
_ADMIN_ONLY: Final = frozenset(
    (_SO_DEBUG, _SO_SNDBUFFORCE, _SO_RCVBUFFORCE, _SO_MARK, _SO_PREFER_BUSY_POLL)
)


def concerns_set(level: int, option: int) -> bool:
    """Whether `set_option` has to see this option."""
    return (level == SOL_SOCKET and option in SET_SOCKET) or (
        level == SOL_IPV6 and option == _IPV6_V6ONLY
    )


def concerns_get(network: Network, level: int, option: int) -> bool:
    """Whether `get_option` has to see this option."""
    if level == SOL_SOCKET:
        return option in GET_SOCKET or (network.netlinks > 0 and option in _GET_NETLINK)
    return level == SOL_IPV6 and option == _IPV6_V6ONLY


def set_option(task: Task, fd: int, level: int, option: int, value: bytes) -> int | None:
    """setsockopt(2) on our duplicate `fd`: the result, or None to let the host set it."""
    network: Network = task.process.container.network
    domain = hostsock.domain(fd)
    if domain < 0:
        raise LinuxError(errno.ENOTSOCK)
    who = task.credentials
    if level == SOL_IPV6:
        return _set_v6only(network, fd, domain, value)
    if option in (_SO_BINDTODEVICE, _SO_BINDTOIFINDEX):
        return _bind_to_device(task, network, fd, option, value)
    if len(value) < 4:
        raise LinuxError(errno.EINVAL)
    number = struct.unpack_from("<i", value)[0]
    if option == _SO_PASSCRED and domain == sockaddr.AF_UNIX:
        network.markers = network.markers or number != 0
    elif option == _SO_PASSPIDFD:
        raise LinuxError(errno.ENOPROTOOPT)
    elif option == _SO_PRIORITY:
        if not 0 <= number <= _NAMED_PRIORITY and not (
            who.can(CAP_NET_ADMIN) or who.can(CAP_NET_RAW)
        ):
            raise LinuxError(errno.EPERM)
    elif option in _ADMIN_ONLY and not (option == _SO_DEBUG and not number):
        allowed = who.can(CAP_NET_ADMIN) or (option == _SO_MARK and who.can(CAP_NET_RAW))
        if not allowed:
            raise LinuxError(errno.EACCES if option == _SO_DEBUG else errno.EPERM)
        if option in (_SO_MARK, _SO_PREFER_BUSY_POLL, _SO_DEBUG):
            return 0  # without an effect: no packet filter of the container's could see it
        plain = socket.SO_SNDBUF if option == _SO_SNDBUFFORCE else socket.SO_RCVBUF
        return hostsock.setsockopt(fd, SOL_SOCKET, plain, value)
    return None


def _set_v6only(network: Network, fd: int, domain: int, value: bytes) -> int | None:
    if domain != sockaddr.AF_INET6 or network.mode == "host":
        return None
    if len(value) < 4:
        raise LinuxError(errno.EINVAL)
    local = hostsock.getsockname(fd)
    state = network.ensure_state(fd)
    if state.pending is not None or (isinstance(local, bytes) and sockaddr.port(local)):
        raise LinuxError(errno.EINVAL)
    state.v6only = any(value[:4])
    return 0


def _bind_to_device(task: Task, network: Network, fd: int, option: int, value: bytes) -> int | None:
    """Packets of a container pass no device: a right name is remembered and shown again."""
    if network.mode == "host":
        return None
    devices = interfaces(network)
    if option == _SO_BINDTOIFINDEX:
        if len(value) < 4:
            raise LinuxError(errno.EINVAL)
        wanted = struct.unpack_from("<i", value)[0]
        if wanted < 0:
            raise LinuxError(errno.EINVAL)
        name = next((d.name for d in devices if d.index == wanted), b"")
        found = bool(name) or not wanted
    else:
        name = value[:15].split(b"\0", 1)[0]
        found = not name or any(d.name == name for d in devices)
    state = network.ensure_state(fd)
    if state.device and not task.credentials.can(CAP_NET_RAW):
        raise LinuxError(errno.EPERM)
    if not found:
        raise LinuxError(errno.ENODEV)
    state.device = name
    return 0


def get_option(task: Task, fd: int, level: int, option: int, room: int) -> bytes | None:
    """getsockopt(2) on our duplicate `fd`: the value, or None to let the host answer.

    `room` is the size of the guest's buffer; the caller cuts the value to it.
    """
    network: Network = task.process.container.network
    domain = hostsock.domain(fd)
    if domain < 0:
        raise LinuxError(errno.ENOTSOCK)
    state = network.state(fd)
    if level == SOL_IPV6:
        if domain != sockaddr.AF_INET6 or network.mode == "host":
            return None
        return struct.pack("<i", state is not None and state.v6only)
    if option == _SO_BINDTODEVICE:
        if network.mode == "host":
            return None
        device = state.device if state is not None else b""
        if not device:
            return b""
        if room < 16:
            raise LinuxError(errno.EINVAL)
        return device + b"\0"
    if option in (_SO_PASSPIDFD, _SO_PEERPIDFD):
        raise LinuxError(errno.ENOPROTOOPT)
    if state is not None and state.netlink is not None:
        link = state.netlink
        numbers = {
            _SO_DOMAIN: sockaddr.AF_NETLINK,
            _SO_TYPE: link.kind,
            _SO_PROTOCOL: link.protocol,
        }
        return struct.pack("<i", numbers[option]) if option in numbers else None
    if option == _SO_PEERCRED and domain == sockaddr.AF_UNIX:
        return _UCRED.pack(*peer_of(task, network, fd))
    if option == _SO_PEERGROUPS and domain == sockaddr.AF_UNIX:
        return _peer_groups(task, network, fd, room)
    return None


def peer_of(task: Task, network: Network, fd: int) -> Ucred:
    """SO_PEERCRED: who connected or listened, as the peer's name tells."""
    state = network.state(fd)
    if state is not None and state.credentials is not None:
        return Ucred(*state.credentials)
    peer = hostsock.getpeername(fd)
    if isinstance(peer, bytes):
        owner = network.unix.owner(sockaddr.unix_path(peer))
        if owner is not None:
            return owner
    value = hostsock.getsockopt(fd, SOL_SOCKET, _SO_PEERCRED, _UCRED.size)
    if isinstance(value, int):
        raise LinuxError(-value)
    host = Ucred(*_UCRED.unpack(value))
    if host.pid == 0:  # not connected
        return Ucred(0, 0xFFFFFFFF, 0xFFFFFFFF)
    return virtual(task.process.container, host)


def _peer_groups(task: Task, network: Network, fd: int, room: int) -> bytes:
    peer = peer_of(task, network, fd)
    process = task.process.container.pids.get(peer.pid)
    leader = process.leader if process is not None else None
    if leader is None:
        raise LinuxError(errno.ENODATA)
    groups = sorted(leader.credentials.groups)
    if room < 4 * len(groups):
        raise LinuxError(errno.ERANGE)
    return struct.pack(f"<{len(groups)}I", *groups)
