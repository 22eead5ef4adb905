"""Sending a signal: to a thread, a process, a group; and waking whoever must take it."""

from __future__ import annotations

import contextlib
import os
import struct
from typing import TYPE_CHECKING

from kernel.robust import kill
from kernel.signals.state import (
    CLD_CONTINUED,
    CLD_STOPPED,
    SA_NOCLDSTOP,
    SIG_DFL,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    STOPS,
    Info,
    Pending,
    bit,
)

if TYPE_CHECKING:
    from kernel.process import Process
    from kernel.task import Task

_KILL_BODY = struct.Struct("<iI")
_CHILD_BODY = struct.Struct("<iIi4xqq")


def user_info(signal: int, code: int, sender: Task | None) -> Info:
    """A siginfo that names its sender (SI_USER, SI_TKILL)."""
    if sender is None:
        return Info(signal, code, 0, _KILL_BODY.pack(0, 0))
    body = _KILL_BODY.pack(sender.process.pid, sender.credentials.uid)
    return Info(signal, code, 0, body)


def child_info(child: Process, uid: int, code: int, status: int) -> Info:
    """SIGCHLD's siginfo (sigaction(2)): pid, uid, status, utime, stime in clock ticks."""
    utime, stime, _ = child.rusage
    body = _CHILD_BODY.pack(child.pid, uid, status, int(utime * 100), int(stime * 100))
    return Info(SIGCHLD, code, 0, body)


def send_to_process(process: Process, info: Info) -> None:
    """Queue for the process; some thread that does not block it is made to take it."""
    if queue(process, info):
        tell(process, info.signal)


def queue(process: Process, info: Info) -> bool:
    """Make it pending for the process. True: somebody is to be told (`tell`)."""
    if process.zombie or not process.tasks or process.ending:
        return False
    if not _prepare(process, info):
        return False
    if info.signal == SIGKILL:
        if not process.unkillable:
            kill(process)
        return False
    if unheard(process, info.signal):
        return False
    return process.signals.pending.add(info)


def tell(process: Process, signal: int) -> None:
    """Make some thread take a signal that is pending for the process."""
    b = bit(signal)
    leader = process.leader
    candidates = [t for t in process.tasks.values() if not t.blocked & b]
    if candidates:
        notify(leader if leader in candidates and leader is not None else candidates[0])
    else:
        _wake_synchronous_waiter(process, b)
        for reader in list(process.signal_fds):
            if reader.mask & b:
                reader.drain(process)


def send_to_task(task: Task, info: Info) -> None:
    """Queue for one thread (tgkill, faults)."""
    process = task.process
    if process.zombie or process.ending or not _prepare(process, info):
        return
    b = bit(info.signal)
    if info.signal == SIGKILL:
        if not process.unkillable:
            kill(process)
        return
    if _ignored(process, info.signal) and not task.blocked & b:
        return
    if task.pending is None:
        task.pending = Pending()
    if task.pending.add(info):
        if not task.blocked & b:
            notify(task)
        else:
            _wake_synchronous_waiter(process, b)


def unheard(process: Process, signal: int) -> bool:
    """It is ignored, and no thread keeps it waiting."""
    b = bit(signal)
    return _ignored(process, signal) and not any(t.blocked & b for t in process.tasks.values())


def _ignored(process: Process, signal: int) -> bool:
    """Would delivery do nothing? PID 1 takes only what it handles (pid_namespaces(7))."""
    signals = process.signals
    return signals.ignores(signal) or (
        process.unkillable and signals.actions[signal].handler == SIG_DFL
    )


def _prepare(process: Process, info: Info) -> bool:
    """Stops and continues cancel each other; SIGCONT continues even when blocked."""
    b = bit(info.signal)
    if info.signal in (SIGCONT, SIGKILL):
        process.signals.pending.drop(STOPS)
        for task in process.tasks.values():
            if task.pending is not None:
                task.pending.drop(STOPS)
        if process.stopped:
            resume(process, report=info.signal == SIGCONT)
    elif b & STOPS:
        process.signals.pending.drop(bit(SIGCONT))
    return True


def _wake_synchronous_waiter(process: Process, b: int) -> None:
    """A thread in sigtimedwait takes signals it blocks."""
    for task in process.tasks.values():
        waited = process.container.signal_waits.get(task)
        if waited is not None and waited[0] & b:
            waited[1].wake()
            return


def notify(task: Task) -> None:
    """Make `task` look at its pending signals."""
    process = task.process
    waited = process.container.signal_waits.get(task)
    if waited is not None and waited[0] & deliverable(task, blocked=False):
        waited[1].wake()
        return
    if task.coroutine is not None and task.interrupt():
        return
    process.container.ring.kick(task)


def deliverable(task: Task, blocked: bool = True) -> int:
    """Mask of pending signals of `task` (without those it blocks)."""
    mask = task.process.signals.pending.mask
    if task.pending is not None:
        mask |= task.pending.mask
    return mask & ~task.blocked if blocked else mask


def stop(process: Process, signal: int) -> None:
    """Stop every thread, natively, and tell the parent."""
    if process.stopped or process.ending:
        return
    process.stopped = True
    process.container.stopped.add(process)
    process.stop_report = signal
    process.continue_report = False
    if process.host_pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.host_pid, 19)
    _tell_parent(process, CLD_STOPPED, signal)


def resume(process: Process, report: bool) -> None:
    """Continue a stopped process."""
    process.stopped = False
    process.container.stopped.discard(process)
    process.stop_report = None
    if process.host_pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.host_pid, 18)
    if report:
        process.continue_report = True
        _tell_parent(process, CLD_CONTINUED, SIGCONT)


def _tell_parent(process: Process, code: int, status: int) -> None:
    parent = process.parent
    if parent is None:
        return
    leader = process.leader
    uid = leader.credentials.uid if leader is not None else 0
    parent.wake_waiters()  # before the signal: a wait finds the news rather than EINTR
    if not parent.signals.actions[SIGCHLD].flags & SA_NOCLDSTOP:
        send_to_process(parent, child_info(process, uid, code, status))
