"""Waiting for descriptors under another signal mask. Without a mask these calls are native."""

import errno
import struct

from kernel.abi import Fd, InStruct, Int, Pointer, Size, UInt
from kernel.errors import LinuxError
from kernel.reply import Answer
from kernel.signals.sending import deliverable
from kernel.signals.state import UNBLOCKABLE
from kernel.syscalls.declare import syscall
from kernel.task import Task


async def _under_mask(task: Task, mask: bytes | None, name: str, *args: int) -> int:
    """Make a host call under `mask`; the old one is back when a handler's frame is made."""
    if mask is None:
        return await task.hostcall(name, *args)
    if len(mask) < 8:
        raise LinuxError(errno.EINVAL)
    old = task.blocked
    task.saved_mask = old
    task.blocked = int.from_bytes(mask[:8], "little") & ~UNBLOCKABLE
    if deliverable(task):
        task.process.container.ring.mark_pending(task)
    try:
        return await task.hostcall(name, *args)
    finally:
        # Interrupted: delivery restores the mask after it has built the handler's frame.
        if not deliverable(task):
            task.blocked, task.saved_mask = old, None


@syscall()
async def ppoll(
    task: Task, fds: Pointer, nfds: UInt, timeout: Pointer, sigmask: InStruct, sigsetsize: Size
) -> Answer:
    """ppoll(2)."""
    if sigmask is not None and sigsetsize != 8:
        return -errno.EINVAL
    return await _under_mask(task, sigmask, "ppoll", fds, nfds, timeout, 0, 8)


@syscall()
async def pselect6(
    task: Task,
    nfds: Int,
    readfds: Pointer,
    writefds: Pointer,
    exceptfds: Pointer,
    timeout: Pointer,
    sigmask: InStruct,
) -> Answer:
    """pselect6(2); the sixth argument points to {mask pointer, its size}."""
    mask = None
    if sigmask is not None:
        address, size = struct.unpack("<QQ", sigmask[:16])
        if address:
            if size != 8:
                return -errno.EINVAL
            mask = await task.copy_in(address, 8)
    return await _under_mask(task, mask, "pselect6", nfds, readfds, writefds, exceptfds, timeout, 0)


@syscall()
async def epoll_pwait(
    task: Task,
    epfd: Fd,
    events: Pointer,
    maxevents: Int,
    timeout: Int,
    sigmask: InStruct,
    sigsetsize: Size,
) -> Answer:
    """epoll_pwait(2)."""
    if sigmask is not None and sigsetsize != 8:
        return -errno.EINVAL
    return await _under_mask(task, sigmask, "epoll_pwait", epfd, events, maxevents, timeout, 0, 8)
