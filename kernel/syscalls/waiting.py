"""wait4 and waitid: what became of the children."""

import errno
import struct
from collections.abc import Coroutine
from typing import Any

from kernel.abi import Flags, Int, Pid, Pointer
from kernel.endings import bury, collect, is_inits
from kernel.errors import LinuxError
from kernel.pidfds import pid_of_pidfd
from kernel.process import Process
from kernel.reply import Answer, Reply
from kernel.signals.sending import child_info
from kernel.signals.state import (
    CLD_CONTINUED,
    CLD_EXITED,
    CLD_KILLED,
    CLD_STOPPED,
    SA_NOCLDWAIT,
    SIG_DFL,
    SIGCHLD,
    bit,
)
from kernel.syscalls.declare import Restart, syscall
from kernel.task import Task, Waiter
from kernel.watching import saw_end

WNOHANG, WUNTRACED, WEXITED, WCONTINUED, WNOWAIT = 1, 2, 4, 8, 0x0100_0000
_WNOTHREAD, _WALL, _WCLONE = 0x2000_0000, 0x4000_0000, 0x8000_0000
_WAIT_ANY_KIND = _WNOTHREAD | _WALL | _WCLONE
P_ALL, P_PID, P_PGID, P_PIDFD = range(4)
_SIGCHLD_BIT = bit(SIGCHLD)
_STATUS = struct.Struct("<i")
_RUSAGE = struct.Struct("<4q14q")


@syscall(restart=Restart.ALWAYS)
def wait4(
    task: Task, upid: Pid, stat_addr: Pointer, options: Flags, ru: Pointer
) -> Answer | Coroutine[Any, Any, Answer]:
    """wait4(2)."""
    process = task.process
    if process.watched and not ru and saw_end(task):
        child = _only_child(task, upid, options)
        if child is not None:
            status = child.status or 0
            if child.zombie:
                bury(child)
            else:
                collect(child)
            if stat_addr:
                return Reply.out(child.pid, (stat_addr, _STATUS.pack(status)))
            return child.pid
    return _wait4(task, upid, stat_addr, options, ru)


def _only_child(task: Task, upid: int, options: int) -> Process | None:
    """The watched child, dead for certain, where nothing but its status is of interest.

    What else its end means must be so before wait4 returns: a SIGCHLD that its parent wants,
    orphans, what is done at the end of a process. Mostly there is nothing of that.
    """
    process = task.process
    child = process.children[0]
    if options & ~(WUNTRACED | WCONTINUED) or upid not in (-1, child.pid):
        return None
    leader = child.leader
    if child.status is None and leader is not None:
        child.status = process.container.dispatcher.exit_status(leader)
    if not child.zombie and (
        child.status is None
        or child.children
        or child.on_end
        or len(child.files)
        or process.signals.actions[SIGCHLD].handler != SIG_DFL
        or process.signals.actions[SIGCHLD].flags & SA_NOCLDWAIT
        or task.blocked & _SIGCHLD_BIT
    ):
        process.container.reap()
        if not process.children or not child.zombie:
            return None
    return child


async def _wait4(task: Task, upid: int, stat_addr: int, options: int, ru: int) -> Answer:
    if options & ~(WNOHANG | WUNTRACED | WCONTINUED | _WAIT_ANY_KIND):
        return -errno.EINVAL
    if upid == -(1 << 31):
        return -errno.ESRCH
    found = await _wait(task, _selector(task, upid, options), options | WEXITED)
    if found is None:
        return 0
    child, status = found
    outs = []
    if stat_addr:
        outs.append((stat_addr, _STATUS.pack(status)))
    if ru:
        outs.append((ru, rusage(*child.rusage)))
    return Reply.out(child.pid, *outs) if outs else child.pid


@syscall(restart=Restart.ALWAYS)
async def waitid(
    task: Task, which: Int, upid: Pid, infop: Pointer, options: Flags, ru: Pointer
) -> Answer:
    """waitid(2)."""
    if options & ~(WNOHANG | WUNTRACED | WEXITED | WCONTINUED | WNOWAIT | _WAIT_ANY_KIND):
        return -errno.EINVAL
    if not options & (WEXITED | WUNTRACED | WCONTINUED):
        return -errno.EINVAL
    selectors = {P_ALL: -1, P_PID: upid, P_PGID: -upid if upid else 0}
    if which == P_PIDFD:
        pid = await pid_of_pidfd(task, upid)
        if not pid:
            return -errno.ECHILD
    elif which in selectors and not (which == P_PID and upid <= 0) and upid >= 0:
        pid = selectors[which]
    else:
        return -errno.EINVAL
    found = await _wait(task, _selector(task, pid, options), options)
    if found is None:
        return Reply.out(0, (infop, bytes(128))) if infop else 0
    child, status = found
    code, number = _describe(child, status)
    outs = [(infop, child_info(child, _uid(child), code, number).pack())] if infop else []
    if ru:
        outs.append((ru, rusage(*child.rusage)))
    return Reply.out(0, *outs) if outs else 0


class _Selector:
    """Which children a wait is about: -1 all, >0 one, 0 own group, <-1 a group.

    Children whose end sends something else than SIGCHLD are found with __WCLONE (only they) or
    __WALL.
    """

    def __init__(self, pid: int, group: int, options: int) -> None:
        self.pid = pid
        self.group = group
        self._any_kind = bool(options & _WALL)
        self._silent = bool(options & _WCLONE)

    def matches(self, child: Process) -> bool:
        if not self._any_kind and (child.exit_signal != SIGCHLD) is not self._silent:
            return False
        if self.pid == -1:
            return True
        return child.pid == self.pid if self.pid > 0 else child.group == self.group


def _selector(task: Task, pid: int, options: int) -> _Selector:
    return _Selector(pid, task.process.group if pid == 0 else -pid, options)


async def _wait(task: Task, selector: _Selector, options: int) -> tuple[Process, int] | None:
    """The next child with news; None with WNOHANG and no news. ECHILD."""
    process = task.process
    while True:
        candidates = [c for c in process.children if selector.matches(c) and not is_inits(c)]
        if not candidates:
            raise LinuxError(errno.ECHILD)
        if process.watched and saw_end(task):
            process.container.reap()
        for child in candidates:
            status = _news(child, options)
            if status is not None:
                return child, status
        if options & WNOHANG:
            return None
        waiter = Waiter()
        process.waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in process.waiters:
                process.waiters.remove(waiter)


def _news(child: Process, options: int) -> int | None:
    """The child's wait status if it has something to report under `options`; it is consumed."""
    if child.zombie and options & WEXITED:
        status = child.status or 0
        if not options & WNOWAIT:
            bury(child)
        return status
    if child.stop_report is not None and options & WUNTRACED:
        signal = child.stop_report
        if not options & WNOWAIT:
            child.stop_report = None
        return signal << 8 | 0x7F
    if child.continue_report and options & WCONTINUED:
        if not options & WNOWAIT:
            child.continue_report = False
        return 0xFFFF
    return None


def _describe(child: Process, status: int) -> tuple[int, int]:
    """(si_code, si_status) of a wait status."""
    if status == 0xFFFF:
        return CLD_CONTINUED, 18
    if status & 0xFF == 0x7F:
        return CLD_STOPPED, status >> 8
    if status & 0x7F:
        return CLD_KILLED, status & 0x7F
    return CLD_EXITED, status >> 8


def _uid(child: Process) -> int:
    leader = child.leader
    return leader.credentials.uid if leader is not None else 0


def rusage(user: float, system: float, max_rss: int) -> bytes:
    """struct rusage: times, the largest resident set in KiB, the rest 0."""
    times = [int(user), int(user % 1 * 1e6), int(system), int(system % 1 * 1e6)]
    return _RUSAGE.pack(*times, max_rss, *[0] * 13)
