"""Which guest process a host pidfd means (pidfd_open(2))."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from kernel.errors import LinuxError

if TYPE_CHECKING:
    from kernel.task import Task


async def pid_of_pidfd(task: Task, fd: int) -> int:
    """The guest pid a pidfd of the guest refers to, 0 if it is long gone. EBADF: no pidfd."""
    container = task.process.container
    taken = await task.take_fd(fd)
    try:
        inode = os.fstat(taken).st_ino
        with open(f"/proc/self/fdinfo/{taken}", encoding="ascii") as info:
            fields = dict(line.split(":", 1) for line in info if ":" in line)
    finally:
        os.close(taken)
    if "Pid" not in fields:
        raise LinuxError(errno.EBADF)
    host_pid = int(fields["Pid"])
    for process in container.pids.values():
        if process.host_pid == host_pid:
            return process.pid
    return container.pidfd_inodes.get(inode, 0)
