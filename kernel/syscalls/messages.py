"""Messages (send(2), recv(2)) whose address or control data means something to the container.

Plain send and recv on a connected socket are the stub's and never come here.
"""

from __future__ import annotations

import errno
import socket as host_socket
import struct
import time
from typing import TYPE_CHECKING, Final

from codegen.layout import PAYLOAD, PAYLOAD_SIZE, Op, Slot
from kernel.abi import Fd, Flags, InBuffer, InStruct, Int, Pointer, Size, UInt
from kernel.errors import Interrupted, LinuxError
from kernel.net import hostsock, messages, sockaddr
from kernel.net.guest import check_descriptor, checked_address, duplicate, with_name
from kernel.reply import Program, Reply
from kernel.syscalls.declare import Restart, syscall

if TYPE_CHECKING:
    from kernel.reply import Answer
    from kernel.task import Task

_INTERNET: Final = (sockaddr.AF_INET, sockaddr.AF_INET6)
_MSG_WAITFORONE: Final = 0x10000
_MMSG_SIZE: Final = 64
_VLEN_MAX: Final = 1024
_GATHER_LIMIT: Final = PAYLOAD_SIZE - 4096
_GATHER_BUFFERS: Final = 32
_ARGS: Final = Slot.ARGS // 8


# -- sending -------------------------------------------------------------------------------------


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
    check_descriptor(sockfd)
    pointer, address = task.slot.q[_ARGS + 1], task.slot.q[_ARGS + 4]
    size = memoryview(buf).nbytes
    if not address:
        return Reply.hostcall("sendto", sockfd, pointer, len, flags, 0, 0)
    name = checked_address(dest_addr, addrlen)
    with hostsock.closing(await duplicate(task, sockfd)) as fd:
        if hostsock.domain(fd) in _INTERNET and hostsock.kind(fd) == host_socket.SOCK_STREAM:
            return Reply.hostcall("sendto", sockfd, pointer, len, flags, 0, 0)  # tcp(7) ignores it
        if size < len:  # larger than the slot's payload
            buf = await task.copy_in(pointer, len)
        return await messages.send(task, fd, buf, flags, name, b"")


@syscall(restart=Restart.ALWAYS)
async def sendmsg(task: Task, fd: Fd, msg: InStruct, flags: Flags) -> Answer:
    """sendmsg(2)."""
    check_descriptor(fd)
    if msg is None:
        raise LinuxError(errno.EFAULT)
    return await _send_one(task, fd, messages.Header.of(msg), flags)


async def _send_one(task: Task, fd: int, header: messages.Header, flags: int) -> Answer:
    named = header.name and header.name_length
    if not named and not (header.control and header.control_length):
        if not flags and header.iov_count > 1:
            return _written(task, fd, header)
        native = _native_send(task, fd, await messages.gather(task, header), flags)
        if native is not None:
            return native
    with hostsock.closing(await duplicate(task, fd)) as host_fd:
        data, name, control = await messages.fetch(task, header)
        stream = hostsock.kind(host_fd) == host_socket.SOCK_STREAM
        if stream and hostsock.domain(host_fd) in _INTERNET:
            name = b""
        return await messages.send(task, host_fd, data, flags, name, control)


def _written(task: Task, fd: int, header: messages.Header) -> Reply:
    """sendmsg(2) without flags and names is writev(2), once it is known that this is a socket."""
    numbers, program = task.abi.numbers, Program()
    scratch = task.slot.address + PAYLOAD + program.store(struct.pack("<ii", 0, 4))
    so_type = (host_socket.SOL_SOCKET, host_socket.SO_TYPE)
    program.hostcall(numbers["getsockopt"], fd, *so_type, scratch, scratch + 4)
    sent = program.op(
        Op.HOSTCALL,
        *(fd, header.iov, header.iov_count),
        nr=numbers["writev"],
        flags=Op.INTERRUPTIBLE | Op.REPORT_EINTR,
    )
    program.op(Op.END, sent)
    return Reply.program(program)


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
        flags=Op.INTERRUPTIBLE | Op.REPORT_EINTR,
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
    with hostsock.closing(await duplicate(task, fd)) as host_fd:
        data, name, control = await messages.fetch(task, header)
        return await messages.send(task, host_fd, data, flags, name, control)


@syscall(restart=Restart.ALWAYS)
async def sendmmsg(task: Task, fd: Fd, msg: Pointer, vlen: UInt, flags: Flags) -> Answer:
    """sendmmsg(2): an error after the first message is reported by the next call."""
    check_descriptor(fd)
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


# -- receiving -----------------------------------------------------------------------------------


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
    check_descriptor(sockfd)
    if not src_addr:
        return Reply.hostcall("recvfrom", sockfd, buf, len, flags, 0, 0)
    result, name, room = await messages.receive_from(task, sockfd, buf, len, flags, addrlen)
    return with_name(result, src_addr, addrlen, room, name)


@syscall(restart=Restart.ALWAYS)
async def recvmsg(task: Task, fd: Fd, msg: Pointer, flags: Flags) -> Answer:
    """recvmsg(2)."""
    check_descriptor(fd)
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
    check_descriptor(fd)
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
