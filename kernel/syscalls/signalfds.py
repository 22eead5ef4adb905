"""signalfd(2): the guest's descriptor is one end of a socket pair, records come from the other."""

import errno
import os
import socket

from kernel.abi import Fd, Flags, InStruct, Size
from kernel.reply import Answer, Reply
from kernel.signals.signalfd import SignalFd
from kernel.signals.state import UNBLOCKABLE
from kernel.syscalls.declare import syscall
from kernel.task import Task

_CLOEXEC, _NONBLOCK = 0o2000000, 0o4000


async def _signalfd(task: Task, fd: int, mask: bytes | None, size: int, flags: int) -> Answer:
    if size != 8 or flags & ~(_CLOEXEC | _NONBLOCK):
        return -errno.EINVAL
    if mask is None:
        return -errno.EFAULT
    wanted = int.from_bytes(mask[:8], "little") & ~UNBLOCKABLE
    process = task.process
    if fd != -1:
        taken = await task.take_fd(fd)
        try:
            inode = os.fstat(taken).st_ino
        finally:
            os.close(taken)
        for known in process.signal_fds:
            if known.inode == inode:
                known.mask = wanted
                known.drain(process)
                return fd
        return -errno.EINVAL
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    made = SignalFd(ours, os.fstat(theirs.fileno()).st_ino, wanted)
    process.signal_fds.append(made)
    made.drain(process)
    theirs.setblocking(not flags & _NONBLOCK)
    return Reply.descriptor(theirs.detach(), bool(flags & _CLOEXEC))


@syscall(missing="a signal counts as taken when it is readable; forked children share the records")
async def signalfd4(
    task: Task, ufd: Fd, user_mask: InStruct, sizemask: Size, flags: Flags
) -> Answer:
    """signalfd4(2)."""
    return await _signalfd(task, ufd, user_mask, sizemask, flags)


@syscall()
async def signalfd(task: Task, ufd: Fd, user_mask: InStruct, sizemask: Size) -> Answer:
    """signalfd(2)."""
    return await _signalfd(task, ufd, user_mask, sizemask, 0)
