"""wait4(2) for an only child sleeps in the host: the child's end itself wakes its parent.

A process that has one child and one thread keeps a pidfd of that child at WATCH_FD. Its stub sleeps
on the pidfd before it posts wait4 (Slot.WATCH says for which pid), so nobody but the host's
scheduler stands between the child's end and its parent. Whatever else wait4 might have to report
must end the watch: the parent then asks the kernel, as it does where there is no watch.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from codegen.layout import WATCH_FD, Slot
from kernel.reply import SCRATCH, Result
from kernel.ring import PATIENCE

if TYPE_CHECKING:
    from kernel.process import Process
    from kernel.task import Task

PIDFD = Result(SCRATCH - 1)  # the register where the host's clone stores the pidfd ...
PIDFD_AT = Slot.RESULTS + 8 * PIDFD  # ... and its place in the slot

_CLONE_FILES, _CLONE_PIDFD, _CLONE_PARENT, _CLONE_THREAD = 0x400, 0x1000, 0x8000, 0x1_0000
_OTHERS = _CLONE_FILES | _CLONE_PIDFD | _CLONE_PARENT | _CLONE_THREAD
_EXIT_SIGNAL, _SIGCHLD = 0xFF, 17
_POLLIN = 1
(_POLL,) = struct.unpack("<Q", struct.pack("<ihh", WATCH_FD, _POLLIN, 0))
_WATCH, _WATCH_POLL, _RESULT = Slot.WATCH // 8, Slot.WATCH_POLL // 8, PIDFD_AT // 8


def begins(task: Task, pid: int, flags: int) -> bool:
    """`task` makes process `pid`: will it be watched? Its host's clone is to make a pidfd then."""
    process = task.process
    q = task.slot.q
    if (
        process.children
        or len(process.tasks) > 1
        or flags & _OTHERS
        or flags & _EXIT_SIGNAL != _SIGCHLD
        or process.container.engine.forks_twice
    ):
        process.watched = q[_WATCH] = 0
        return False
    process.watched = q[_WATCH] = pid
    process.container.ring.patience = PATIENCE  # its parent asks as soon as we could know
    q[_WATCH_POLL] = _POLL
    q[_RESULT] = 0  # the host stores 32 bits
    return True


def end(process: Process) -> None:
    """There is something else to report: `process` asks, now if it sleeps."""
    if process.watched:
        process.watched = 0
        for task in process.tasks.values():
            task.slot.q[_WATCH] = 0
            process.container.ring.kick(task)


def saw_end(task: Task) -> bool:
    """The host has told `task`, which asks, that the watched child has ended."""
    return bool(task.slot.q[_WATCH_POLL] != _POLL)


def forget(process: Process) -> None:
    """The watched child has been waited for, or `process` itself begins anew (execve)."""
    process.watched = 0
    for task in process.tasks.values():
        task.slot.q[_WATCH] = 0
