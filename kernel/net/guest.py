"""What socket handlers ask of the guest: its descriptor, its lengths, its own receiving calls."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Final

from codegen.layout import STUB_FDS, Op
from kernel.errors import Interrupted, LinuxError
from kernel.net import hostsock
from kernel.reply import Program, Reply

if TYPE_CHECKING:
    from kernel.net.network import Network
    from kernel.task import Task

_ADDRESS_MAX: Final = 128
_LENGTH_AT: Final = 49152  # in the payload, behind everything else


def check_descriptor(fd: int) -> None:
    """The stub's own descriptors do not exist for the guest."""
    if fd in STUB_FDS or fd < 0:
        raise LinuxError(errno.EBADF)


async def duplicate(task: Task, fd: int) -> int:
    """Our duplicate of the guest's socket. EBADF, ENOTSOCK."""
    check_descriptor(fd)
    host_fd = await task.take_fd(fd)
    if hostsock.domain(host_fd) < 0:
        hostsock.close(host_fd)
        raise LinuxError(errno.ENOTSOCK)
    return host_fd


def network_of(task: Task) -> Network:
    """The network of the task's container."""
    network: Network = task.process.container.network
    return network


def checked_address(addr: bytes, addrlen: int) -> bytes:
    """move_addr_to_kernel in net/socket.c."""
    if not 0 <= addrlen <= _ADDRESS_MAX:
        raise LinuxError(errno.EINVAL)
    if addrlen and not addr:
        raise LinuxError(errno.EFAULT)
    return addr


async def room_at(task: Task, addrlen: int) -> int:
    """The value-result length at guest address `addrlen`."""
    room = int(struct.unpack("<i", await task.copy_in(addrlen, 4))[0])
    if room < 0:
        raise LinuxError(errno.EINVAL)
    return room


def with_name(result: int, addr: int, addrlen: int, room: int, name: bytes) -> Reply:
    """Answer with a socket address (move_addr_to_user): cut to the room, its full length told."""
    length = (addrlen, struct.pack("<i", len(name)))
    shown = name[:room]
    return Reply.out(result, (addr, shown), length) if shown else Reply.out(result, length)


async def hostcall_with_length(task: Task, addrlen: int, name: str, *args: int) -> tuple[int, int]:
    """`Task.hostcall`, and the value-result length at guest address `addrlen`, in one go.

    Looked at before the call, so that a bad pointer costs no connection and no datagram.
    """
    program = Program()
    program.op(Op.COPY_IN, addrlen, _LENGTH_AT, 4, flags=Op.CHECKED)
    made = program.op(
        Op.HOSTCALL, *args, nr=task.abi.numbers[name], flags=Op.INTERRUPTIBLE | Op.REPORT_EINTR
    )
    try:
        await task.run(program)
    except LinuxError as error:
        if error.errno == errno.EINTR:
            raise Interrupted from None
        raise
    result = task.result(int(made))
    if -4096 < result < 0:
        raise LinuxError(-result)
    return result, int(struct.unpack("<i", task.slot.read_payload(_LENGTH_AT, 4))[0])
