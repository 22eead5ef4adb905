"""Sockets (socket(2), bind(2), connect(2), accept(2), send(2), recv(2) and their kin).

The guest's sockets are host sockets. A call that names an address takes a duplicate of the socket
and acts on that; a call that waits for input is made by the guest itself, and what it brought is
translated afterwards. Plain send and recv never come here.
"""

from __future__ import annotations

import errno
import socket as host_socket
import struct
import time
from typing import TYPE_CHECKING, Final

from codegen.layout import PAYLOAD, PAYLOAD_SIZE, STUB_FDS, Op, Slot
from kernel.abi import Fd, Flags, InBuffer, InStruct, Int, Pointer, Size, UInt
from kernel.errors import Interrupted, LinuxError
from kernel.net import hostsock, messages, options, sockaddr, waiting
from kernel.net.ancillary import identity
from kernel.net.inet import Inet
from kernel.net.netlink import NETLINK_ROUTE, NetlinkSocket
from kernel.net.paths import bind_path, located
from kernel.reply import Program, Reply
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
_ADDRESS_MAX: Final = 128
_MSG_WAITFORONE: Final = 0x10000
_MMSG_SIZE: Final = 64
_VLEN_MAX: Final = 1024
_GATHER_LIMIT: Final = PAYLOAD_SIZE - 4096
_GATHER_BUFFERS: Final = 32
_LONGEST_PAUSE: Final = 0.02
_ARGS: Final = Slot.ARGS // 8


def _check_descriptor(fd: int) -> None:
    """The stub's own descriptors do not exist for the guest."""
    if fd in STUB_FDS or fd < 0:
        raise LinuxError(errno.EBADF)


async def _duplicate(task: Task, fd: int) -> int:
    """Our duplicate of the guest's socket. EBADF, ENOTSOCK."""
    _check_descriptor(fd)
    host_fd = await task.take_fd(fd)
    if hostsock.domain(host_fd) < 0:
        hostsock.close(host_fd)
        raise LinuxError(errno.ENOTSOCK)
    return host_fd


def _network(task: Task) -> Network:
    network: Network = task.process.container.network
    return network


def _checked_address(addr: bytes, addrlen: int) -> bytes:
    """move_addr_to_kernel in net/socket.c."""
    if not 0 <= addrlen <= _ADDRESS_MAX:
        raise LinuxError(errno.EINVAL)
    if addrlen and not addr:
        raise LinuxError(errno.EFAULT)
    return addr


async def _room(task: Task, addrlen: int) -> int:
    """The value-result length at guest address `addrlen`."""
    room = int(struct.unpack("<i", await task.copy_in(addrlen, 4))[0])
    if room < 0:
        raise LinuxError(errno.EINVAL)
    return room


def _with_name(result: int, addr: int, addrlen: int, room: int, name: bytes) -> Reply:
    """Answer with a socket address (move_addr_to_user): cut to the room, its full length told."""
    length = (addrlen, struct.pack("<i", len(name)))
    shown = name[:room]
    return Reply.out(result, (addr, shown), length) if shown else Reply.out(result, length)


# -- making sockets --------------------------------------------------------------------------------


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
    network = _network(task)
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
    network, owner = _network(task), identity(task)
    files = []
    for end in pair:
        network.ensure_state(end.fileno()).credentials = owner
        files.append((end.detach(), bool(type & _SOCK_CLOEXEC), None))
    return Reply.descriptors(files, out=sv)


# -- addresses -------------------------------------------------------------------------------------


@syscall(missing="IP_FREEBIND, IP_TRANSPARENT")
async def bind(task: Task, sockfd: Fd, addr: InBuffer, addrlen: Int) -> Answer:
    """bind(2)."""
    name = _checked_address(addr, addrlen)
    with hostsock.closing(await _duplicate(task, sockfd)) as fd:
        network, domain = _network(task), hostsock.domain(fd)
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
    with hostsock.closing(await _duplicate(task, sockfd)) as fd:
        network, domain = _network(task), hostsock.domain(fd)
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
    name = _checked_address(addr, addrlen)
    with hostsock.closing(await _duplicate(task, sockfd)) as fd:
        network, domain = _network(task), hostsock.domain(fd)
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
    with hostsock.closing(await _duplicate(task, sockfd)) as fd:
        name = _local_name(_network(task), fd)
    return _with_name(0, addr, addrlen, await _room(task, addrlen), name)


@syscall()
async def getpeername(task: Task, sockfd: Fd, addr: Pointer, addrlen: Pointer) -> Answer:
    """getpeername(2)."""
    with hostsock.closing(await _duplicate(task, sockfd)) as fd:
        name = _remote_name(_network(task), fd)
    return _with_name(0, addr, addrlen, await _room(task, addrlen), name)


@syscall(restart=Restart.ALWAYS)
async def accept4(task: Task, sockfd: Fd, addr: Pointer, addrlen: Pointer, flags: Flags) -> Answer:
    """accept4(2): the guest accepts (and sleeps) itself, then learns the peer's name."""
    _check_descriptor(sockfd)
    if flags & ~(_SOCK_CLOEXEC | _SOCK_NONBLOCK):
        raise LinuxError(errno.EINVAL)
    if not addr:
        return Reply.hostcall("accept4", sockfd, 0, 0, flags)
    room = await _room(task, addrlen)
    new = await task.hostcall("accept4", sockfd, 0, 0, flags)
    with hostsock.closing(await task.take_fd(new)) as fd:
        try:
            name = _remote_name(_network(task), fd)
        except LinuxError:
            name = b""  # the peer has gone away again; Linux says ECONNABORTED or nothing
    return _with_name(new, addr, addrlen, room, name)


@syscall(restart=Restart.ALWAYS)
async def accept(task: Task, sockfd: Fd, addr: Pointer, addrlen: Pointer) -> Answer:
    """accept(2)."""
    return await accept4(task, sockfd, addr, addrlen, 0)


# -- options ---------------------------------------------------------------------------------------


@syscall()
async def setsockopt(
    task: Task, fd: Fd, level: Int, optname: Int, optval: InBuffer, optlen: Int
) -> Answer:
    """setsockopt(2)."""
    _check_descriptor(fd)
    pointer = task.slot.q[_ARGS + 3]
    if optlen < 0:
        raise LinuxError(errno.EINVAL)
    if options.concerns_set(level, optname):
        with hostsock.closing(await _duplicate(task, fd)) as host_fd:
            result = options.set_option(task, host_fd, level, optname, optval)
        if result is not None:
            return result
    return Reply.hostcall("setsockopt", fd, level, optname, pointer, optlen)


@syscall()
async def getsockopt(
    task: Task, fd: Fd, level: Int, optname: Int, optval: Pointer, optlen: Pointer
) -> Answer:
    """getsockopt(2)."""
    _check_descriptor(fd)
    if options.concerns_get(level, optname):
        room = await _room(task, optlen)
        with hostsock.closing(await _duplicate(task, fd)) as host_fd:
            value = options.get_option(task, host_fd, level, optname, room)
        if value is not None:
            shown = value[:room]
            outs = [(optval, shown)] if shown else []
            return Reply.out(0, *outs, (optlen, struct.pack("<i", len(shown))))
    return Reply.hostcall("getsockopt", fd, level, optname, optval, optlen)


# -- sending ---------------------------------------------------------------------------------------


@syscall(restart=Restart.ALWAYS)
async def sendto(
    task: Task,
    sockfd: Fd,
    buf: InBuffer,
    len: Size,
    flags: Flags,
    dest_addr: InBuffer,
    addrlen: Int,
) -> Answer:
    """sendto(2) with an address."""
    _check_descriptor(sockfd)
    pointer, address = task.slot.q[_ARGS + 1], task.slot.q[_ARGS + 4]
    size = memoryview(buf).nbytes
    if not address:
        return Reply.hostcall("sendto", sockfd, pointer, len, flags, 0, 0)
    name = _checked_address(dest_addr, addrlen)
    with hostsock.closing(await _duplicate(task, sockfd)) as fd:
        if hostsock.domain(fd) in _INTERNET and hostsock.kind(fd) == host_socket.SOCK_STREAM:
            return Reply.hostcall("sendto", sockfd, pointer, len, flags, 0, 0)  # tcp(7) ignores it
        if size < len:  # larger than the slot's payload
            buf = await task.copy_in(pointer, len)
        return await messages.send(task, fd, buf, flags, name, b"")


@syscall(restart=Restart.ALWAYS)
async def sendmsg(task: Task, fd: Fd, msg: InStruct, flags: Flags) -> Answer:
    """sendmsg(2)."""
    _check_descriptor(fd)
    if msg is None:
        raise LinuxError(errno.EFAULT)
    return await _send_one(task, fd, messages.Header.of(msg), flags)


async def _send_one(task: Task, fd: int, header: messages.Header, flags: int) -> Answer:
    named = header.name and header.name_length
    if not named and not (header.control and header.control_length):
        native = _native_send(task, fd, await messages.gather(task, header), flags)
        if native is not None:
            return native
    with hostsock.closing(await _duplicate(task, fd)) as host_fd:
        data, name, control = await messages.fetch(task, header)
        stream = hostsock.kind(host_fd) == host_socket.SOCK_STREAM
        if stream and hostsock.domain(host_fd) in _INTERNET:
            name = b""
        return await messages.send(task, host_fd, data, flags, name, control)


def _native_send(task: Task, fd: int, buffers: list[tuple[int, int]], flags: int) -> Reply | None:
    """The guest's own send, when one buffer holds the message or the slot can gather it."""
    if len(buffers) == 1:
        return Reply.hostcall("sendto", fd, buffers[0][0], buffers[0][1], flags, 0, 0)
    total = sum(length for _, length in buffers)
    if total > _GATHER_LIMIT or len(buffers) > _GATHER_BUFFERS:
        return None
    program = Program()
    offset = 0
    for address, length in buffers:
        program.op(Op.COPY_IN, address, offset, length, flags=Op.CHECKED)
        offset += length
    gathered = task.slot.address + PAYLOAD
    sent = program.op(
        Op.HOSTCALL,
        *(fd, gathered, total, flags, 0, 0),
        nr=task.abi.numbers["sendto"],
        flags=Op.INTERRUPTIBLE,
    )
    program.op(Op.END, sent)
    return Reply.program(program)


async def _send_and_count(task: Task, fd: int, header: messages.Header, flags: int) -> int:
    """`_send_one` for sendmmsg, which needs the number now."""
    named = header.name and header.name_length
    if not named and not (header.control and header.control_length):
        buffers = await messages.gather(task, header)
        if len(buffers) == 1:
            return await task.hostcall("sendto", fd, *buffers[0], flags, 0, 0)
    with hostsock.closing(await _duplicate(task, fd)) as host_fd:
        data, name, control = await messages.fetch(task, header)
        return await messages.send(task, host_fd, data, flags, name, control)


@syscall(restart=Restart.ALWAYS)
async def sendmmsg(task: Task, fd: Fd, msg: Pointer, vlen: UInt, flags: Flags) -> Answer:
    """sendmmsg(2): an error after the first message is reported by the next call."""
    _check_descriptor(fd)
    done = 0
    for index in range(min(vlen, _VLEN_MAX)):
        at = msg + _MMSG_SIZE * index
        try:
            header = messages.Header.of(await task.copy_in(at, messages.HEADER_SIZE))
            sent = await _send_and_count(task, fd, header, flags)
            await task.copy_out(at + messages.HEADER_SIZE, struct.pack("<I", sent))
        except (LinuxError, Interrupted):
            if not done:
                raise
            break
        done += 1
    return done


# -- receiving -------------------------------------------------------------------------------------


@syscall(restart=Restart.ALWAYS)
async def recvfrom(
    task: Task,
    sockfd: Fd,
    buf: Pointer,
    len: Size,
    flags: Flags,
    src_addr: Pointer,
    addrlen: Pointer,
) -> Answer:
    """recvfrom(2) with an address."""
    _check_descriptor(sockfd)
    if not src_addr:
        return Reply.hostcall("recvfrom", sockfd, buf, len, flags, 0, 0)
    room = await _room(task, addrlen)
    result, name = await messages.receive_from(task, sockfd, buf, len, flags)
    return _with_name(result, src_addr, addrlen, room, name)


@syscall(restart=Restart.ALWAYS)
async def recvmsg(task: Task, fd: Fd, msg: Pointer, flags: Flags) -> Answer:
    """recvmsg(2)."""
    _check_descriptor(fd)
    header = messages.Header.of(await task.copy_in(msg, messages.HEADER_SIZE))
    if not header.name and not (header.control and header.control_length):
        return Reply.hostcall("recvmsg", fd, msg, flags)
    received = await messages.receive(task, fd, msg, header, flags)
    return Reply.out(received.result, *received.outs)


@syscall(restart=Restart.ALWAYS)
async def recvmmsg(
    task: Task, fd: Fd, msg: Pointer, vlen: UInt, flags: Flags, timeout: Pointer
) -> Answer:
    """recvmmsg(2): as on Linux, the timeout is looked at only between messages."""
    _check_descriptor(fd)
    deadline = None
    if timeout:
        seconds, nanoseconds = struct.unpack("<qq", await task.copy_in(timeout, 16))
        if seconds < 0 or not 0 <= nanoseconds < 1_000_000_000:
            raise LinuxError(errno.EINVAL)
        deadline = time.monotonic() + seconds + nanoseconds / 1e9
    done = 0
    each = flags & ~_MSG_WAITFORONE
    for index in range(min(vlen, _VLEN_MAX)):
        at = msg + _MMSG_SIZE * index
        try:
            header = messages.Header.of(await task.copy_in(at, messages.HEADER_SIZE))
            received = await messages.receive(task, fd, at, header, each)
            for address, data in received.outs:
                await task.copy_out(address, data)
            await task.copy_out(
                at + messages.HEADER_SIZE, struct.pack("<I", received.result & 0xFFFFFFFF)
            )
        except (LinuxError, Interrupted):
            if not done:
                raise
            break
        done += 1
        if flags & _MSG_WAITFORONE:
            each |= messages.MSG_DONTWAIT
        if deadline is not None and time.monotonic() >= deadline:
            break
    return done
