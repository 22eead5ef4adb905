"""Sockets, their addresses and their options (socket(2), bind(2), connect(2), accept(2)).

The guest's sockets are host sockets. A call that names an address takes a duplicate of the socket
and acts on that; accept, which waits, is made by the guest itself, and its address translated then.
"""

from __future__ import annotations

import errno
import socket as host_socket
import struct
import time
from typing import TYPE_CHECKING, Final

from codegen.layout import Slot
from kernel.abi import Fd, Flags, InBuffer, Int, Pointer
from kernel.errors import LinuxError
from kernel.net import hostsock, options, sockaddr, waiting
from kernel.net.ancillary import identity
from kernel.net.guest import (
    check_descriptor,
    checked_address,
    duplicate,
    hostcall_with_length,
    network_of,
    room_at,
    with_name,
)
from kernel.net.inet import Inet
from kernel.net.netlink import NETLINK_ROUTE, NetlinkSocket
from kernel.net.paths import bind_path, located
from kernel.reply import Reply
from kernel.syscalls.declare import Restart, syscall

if TYPE_CHECKING:
    from kernel.net.network import Network
    from kernel.reply import Answer
    from kernel.task import Task

_SOCK_CLOEXEC: Final = 0o2000000
_SOCK_NONBLOCK: Final = 0o4000
_SOCK_TYPE_MASK: Final = 0xF
_IPPROTO_MPTCP: Final = 262
_INTERNET: Final = (sockaddr.AF_INET, sockaddr.AF_INET6)
_LONGEST_PAUSE: Final = 0.02
_ARGS: Final = Slot.ARGS // 8


# -- making sockets ------------------------------------------------------------------------------


@syscall(missing="raw and packet sockets: EPERM; netlink other than NETLINK_ROUTE; vsock, alg")
def socket(task: Task, domain: Int, type: Int, protocol: Int) -> Answer:
    """socket(2)."""
    kind = type & _SOCK_TYPE_MASK
    if type & ~(_SOCK_TYPE_MASK | _SOCK_CLOEXEC | _SOCK_NONBLOCK):
        raise LinuxError(errno.EINVAL)
    cloexec = bool(type & _SOCK_CLOEXEC)
    if domain == sockaddr.AF_NETLINK:
        return Reply.descriptor(_netlink(task, kind, protocol, type), cloexec)
    if domain == sockaddr.AF_PACKET or (domain in _INTERNET and kind == host_socket.SOCK_RAW):
        raise LinuxError(errno.EPERM)
    if domain not in (sockaddr.AF_UNIX, *_INTERNET):
        raise LinuxError(errno.EAFNOSUPPORT)
    if protocol == _IPPROTO_MPTCP:
        raise LinuxError(errno.EPROTONOSUPPORT)
    try:
        made = host_socket.socket(domain, type | _SOCK_CLOEXEC, protocol)
    except OSError as error:
        raise LinuxError(error.errno or errno.EIO) from None
    return Reply.descriptor(made.detach(), cloexec)


def _netlink(task: Task, kind: int, protocol: int, type: int) -> int:
    if kind not in (host_socket.SOCK_RAW, host_socket.SOCK_DGRAM):
        raise LinuxError(errno.ESOCKTNOSUPPORT)
    if protocol != NETLINK_ROUTE:
        raise LinuxError(errno.EPROTONOSUPPORT)
    network = network_of(task)
    link = NetlinkSocket(network, kind, protocol)
    network.ensure_state(link.guest_fd).netlink = link
    link.cookie = hostsock.cookie(link.guest_fd)
    if type & _SOCK_NONBLOCK:
        hostsock.set_blocking(link.guest_fd, False)
    return link.guest_fd


@syscall()
def socketpair(task: Task, domain: Int, type: Int, protocol: Int, sv: Pointer) -> Answer:
    """socketpair(2)."""
    if type & ~(_SOCK_TYPE_MASK | _SOCK_CLOEXEC | _SOCK_NONBLOCK):
        raise LinuxError(errno.EINVAL)
    if domain in _INTERNET:
        raise LinuxError(errno.EOPNOTSUPP)
    if domain != sockaddr.AF_UNIX:
        raise LinuxError(errno.EAFNOSUPPORT)
    try:
        pair = host_socket.socketpair(domain, type | _SOCK_CLOEXEC, protocol)
    except OSError as error:
        raise LinuxError(error.errno or errno.EIO) from None
    network, owner = network_of(task), identity(task)
    files = []
    for end in pair:
        network.ensure_state(end.fileno()).credentials = owner
        files.append((end.detach(), bool(type & _SOCK_CLOEXEC), None))
    return Reply.descriptors(files, out=sv)


# -- addresses -----------------------------------------------------------------------------------


@syscall(missing="IP_FREEBIND, IP_TRANSPARENT")
async def bind(task: Task, sockfd: Fd, addr: InBuffer, addrlen: Int) -> Answer:
    """bind(2)."""
    name = checked_address(addr, addrlen)
    with hostsock.closing(await duplicate(task, sockfd)) as fd:
        network, domain = network_of(task), hostsock.domain(fd)
        if domain in _INTERNET:
            Inet(network, fd, domain).bind(name)
            return 0
        state = network.state(fd)
        if state is not None and state.netlink is not None:
            return _bind_netlink(task, state.netlink, name)
        owner = identity(task)
        if not 2 <= len(name) <= 110 or sockaddr.family(name) != sockaddr.AF_UNIX:
            raise LinuxError(errno.EINVAL)
        path = sockaddr.unix_path(name)
        if not path:
            return network.unix.autobind(fd, owner) if len(name) == 2 else -errno.ENOENT
        if path[0]:
            bind_path(task, network.unix, fd, path, owner)
            return 0
        host = network.unix.abstract(path)
        result = hostsock.bind(fd, sockaddr.unix(host))
        if result == 0:
            network.unix.remember(host, path, owner)
        return result


def _bind_netlink(task: Task, link: NetlinkSocket, name: bytes) -> int:
    if len(name) < 12 or sockaddr.family(name) != sockaddr.AF_NETLINK:
        return -errno.EINVAL
    pid, groups = sockaddr.netlink_parts(name)
    if link.port_id and pid not in (0, link.port_id):
        return -errno.EINVAL
    link.port_id = link.port_id or pid or task.process.pid
    link.groups = groups
    return 0


@syscall()
async def listen(task: Task, sockfd: Fd, backlog: Int) -> Answer:
    """listen(2): here, so that an unbound socket gets a private address first."""
    with hostsock.closing(await duplicate(task, sockfd)) as fd:
        network, domain = network_of(task), hostsock.domain(fd)
        if domain in _INTERNET:
            if hostsock.kind(fd) == host_socket.SOCK_STREAM:
                Inet(network, fd, domain).settle()
        else:
            local = hostsock.getsockname(fd)
            if isinstance(local, bytes):
                network.unix.listens(sockaddr.unix_path(local), identity(task))
        return hostsock.listen(fd, backlog)


@syscall(restart=Restart.ALWAYS, missing="a TCP client bound to 0.0.0.0:N cannot leave the host")
async def connect(task: Task, sockfd: Fd, addr: InBuffer, addrlen: Int) -> Answer:
    """connect(2)."""
    name = checked_address(addr, addrlen)
    with hostsock.closing(await duplicate(task, sockfd)) as fd:
        network, domain = network_of(task), hostsock.domain(fd)
        if domain in _INTERNET:
            if len(name) < 2:
                raise LinuxError(errno.EINVAL)
            return await Inet(network, fd, domain).connect(task, name)
        state = network.state(fd)
        if state is not None and state.netlink is not None:
            right = len(name) >= 12 and sockaddr.family(name) == sockaddr.AF_NETLINK
            return 0 if right else -errno.EINVAL
        return await _connect_unix(task, network, fd, name)


async def _connect_unix(task: Task, network: Network, fd: int, name: bytes) -> int:
    if len(name) < 2:
        return -errno.EINVAL
    kind = hostsock.kind(fd)
    if sockaddr.family(name) != sockaddr.AF_UNIX:
        if kind == host_socket.SOCK_DGRAM and sockaddr.family(name) == sockaddr.AF_UNSPEC:
            return hostsock.connect(fd, name[:2])
        return -errno.EINVAL
    blocking = hostsock.is_blocking(fd)
    limit = waiting.timeout_of(fd, waiting.SO_SNDTIMEO)
    deadline = None if limit is None else time.monotonic() + limit
    pause = 0.0005
    with located(task, network.unix, name) as host:
        if kind != host_socket.SOCK_DGRAM:
            network.unix.name_client(fd, sockaddr.unix_path(host), identity(task))
        while True:
            result = hostsock.connect_now(fd, host, blocking)
            if result != -errno.EAGAIN or not blocking:
                return result
            if deadline is not None and time.monotonic() >= deadline:
                return result
            await waiting.pause(task, pause)  # the listener's backlog is full
            pause = min(pause * 2, _LONGEST_PAUSE)


def _local_name(network: Network, fd: int) -> bytes:
    domain = hostsock.domain(fd)
    if domain in _INTERNET:
        return Inet(network, fd, domain).local()
    state = network.state(fd)
    if state is not None and state.netlink is not None:
        return state.netlink.name()
    name = hostsock.getsockname(fd)
    if isinstance(name, int):
        raise LinuxError(-name)
    return sockaddr.unix(network.unix.guest(sockaddr.unix_path(name)))


def _remote_name(network: Network, fd: int) -> bytes:
    domain = hostsock.domain(fd)
    if domain in _INTERNET:
        return Inet(network, fd, domain).remote()
    state = network.state(fd)
    if state is not None and state.netlink is not None:
        return sockaddr.netlink(0, 0)
    name = hostsock.getpeername(fd)
    if isinstance(name, int):
        raise LinuxError(-name)
    return sockaddr.unix(network.unix.guest(sockaddr.unix_path(name)))


@syscall()
async def getsockname(task: Task, sockfd: Fd, addr: Pointer, addrlen: Pointer) -> Answer:
    """getsockname(2)."""
    with hostsock.closing(await duplicate(task, sockfd)) as fd:
        name = _local_name(network_of(task), fd)
    return with_name(0, addr, addrlen, await room_at(task, addrlen), name)


@syscall()
async def getpeername(task: Task, sockfd: Fd, addr: Pointer, addrlen: Pointer) -> Answer:
    """getpeername(2)."""
    with hostsock.closing(await duplicate(task, sockfd)) as fd:
        name = _remote_name(network_of(task), fd)
    return with_name(0, addr, addrlen, await room_at(task, addrlen), name)


@syscall(restart=Restart.ALWAYS)
async def accept4(task: Task, sockfd: Fd, addr: Pointer, addrlen: Pointer, flags: Flags) -> Answer:
    """accept4(2): the guest accepts (and sleeps) itself, then learns the peer's name."""
    check_descriptor(sockfd)
    if flags & ~(_SOCK_CLOEXEC | _SOCK_NONBLOCK):
        raise LinuxError(errno.EINVAL)
    if not addr:
        return Reply.hostcall("accept4", sockfd, 0, 0, flags)
    new, room = await hostcall_with_length(task, addrlen, "accept4", sockfd, 0, 0, flags)
    if room < 0:
        await task.hostcall("close", new)
        raise LinuxError(errno.EINVAL)
    with hostsock.closing(await task.take_fd(new)) as fd:
        try:
            name = _remote_name(network_of(task), fd)
        except LinuxError:
            name = b""  # the peer has gone away again; Linux says ECONNABORTED or nothing
    return with_name(new, addr, addrlen, room, name)


@syscall(restart=Restart.ALWAYS)
async def accept(task: Task, sockfd: Fd, addr: Pointer, addrlen: Pointer) -> Answer:
    """accept(2)."""
    return await accept4(task, sockfd, addr, addrlen, 0)


# -- options -------------------------------------------------------------------------------------


@syscall()
async def setsockopt(
    task: Task, fd: Fd, level: Int, optname: Int, optval: InBuffer, optlen: Int
) -> Answer:
    """setsockopt(2)."""
    check_descriptor(fd)
    pointer = task.slot.q[_ARGS + 3]
    if optlen < 0:
        raise LinuxError(errno.EINVAL)
    if level == options.SOL_SOCKET and optname in options.TIME_LIMITS:
        task.process.container.socket_timeouts = True
    if options.concerns_set(level, optname):
        with hostsock.closing(await duplicate(task, fd)) as host_fd:
            result = options.set_option(task, host_fd, level, optname, optval)
        if result is not None:
            return result
    return Reply.hostcall("setsockopt", fd, level, optname, pointer, optlen)


@syscall()
async def getsockopt(
    task: Task, fd: Fd, level: Int, optname: Int, optval: Pointer, optlen: Pointer
) -> Answer:
    """getsockopt(2)."""
    check_descriptor(fd)
    if options.concerns_get(network_of(task), level, optname):
        room = await room_at(task, optlen)
        with hostsock.closing(await duplicate(task, fd)) as host_fd:
            value = options.get_option(task, host_fd, level, optname, room)
        if value is not None:
            shown = value[:room]
            outs = [(optval, shown)] if shown else []
            return Reply.out(0, *outs, (optlen, struct.pack("<i", len(shown))))
    return Reply.hostcall("getsockopt", fd, level, optname, optval, optlen)
