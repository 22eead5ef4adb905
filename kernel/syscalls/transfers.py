"""Moving bytes between descriptors inside the kernel, where one of them is ours.

A flagged descriptor has no host object with the content behind it: EINVAL, as from file systems
without the operation; every caller falls back to read and write.
"""

import errno

from codegen.layout import STUB_FDS
from kernel.abi import Fd, Flags, Pointer, Size
from kernel.reply import Answer, Reply
from kernel.syscalls.declare import Restart, syscall
from kernel.task import Task


def _between(task: Task, name: str, first: int, second: int, *args: int) -> Answer:
    """Run `name` natively with args, unless a descriptor is the stub's or the kernel's."""
    for fd in (first, second):
        if fd in STUB_FDS:
            return -errno.EBADF
        if task.process.files.get(fd) is not None:
            return -errno.EINVAL
    return Reply.hostcall(name, *args)


@syscall(restart=Restart.ALWAYS)
def sendfile(task: Task, out_fd: Fd, in_fd: Fd, offset: Pointer, count: Size) -> Answer:
    """sendfile(2)."""
    return _between(task, "sendfile", out_fd, in_fd, out_fd, in_fd, offset, count)


@syscall(restart=Restart.ALWAYS)
def splice(
    task: Task,
    fd_in: Fd,
    off_in: Pointer,
    fd_out: Fd,
    off_out: Pointer,
    len: Size,
    flags: Flags,
) -> Answer:
    """splice(2)."""
    return _between(task, "splice", fd_in, fd_out, fd_in, off_in, fd_out, off_out, len, flags)


@syscall(restart=Restart.ALWAYS)
def tee(task: Task, fdin: Fd, fdout: Fd, len: Size, flags: Flags) -> Answer:
    """tee(2)."""
    return _between(task, "tee", fdin, fdout, fdin, fdout, len, flags)


@syscall(restart=Restart.ALWAYS)
def copy_file_range(
    task: Task,
    fd_in: Fd,
    off_in: Pointer,
    fd_out: Fd,
    off_out: Pointer,
    len: Size,
    flags: Flags,
) -> Answer:
    """copy_file_range(2)."""
    return _between(
        task, "copy_file_range", fd_in, fd_out, fd_in, off_in, fd_out, off_out, len, flags
    )
