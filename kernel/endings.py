"""What the end of a guest process means to its family: zombies, SIGCHLD, orphans, heirs."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING

from kernel.signals.jobcontrol import groups_of_family, release_orphans
from kernel.signals.sending import child_info, queue, send_to_process, tell, unheard
from kernel.signals.state import CLD_EXITED, CLD_KILLED, SA_NOCLDWAIT, SIG_IGN, SIGCHLD, SIGKILL

if TYPE_CHECKING:
    from kernel.process import Process


def ended(process: Process, host_status: int) -> None:
    """The host process is gone: make the zombie, tell the parent, adopt the children."""
    container = process.container
    for task in process.tasks.values():
        container.dispatcher.farewell(task)
    if process.status is None:
        process.status = host_status
    process.zombie = True
    parent = process.parent
    signal = 0
    if parent is not None:
        if _is_unwanted(process, parent):
            bury(process)
        # Whoever waits finds the signal pending, but the child before the signal could interrupt
        # the wait, and is answered before we tidy up.
        signal = _queue_for_parent(process, parent)
        parent.wake_waiters(process)
    container.release(process)
    container.stopped.discard(process)
    relative = parent or process.collected_by
    groups = groups_of_family(process, relative) if container.stopped else ()
    _adopt(process, relative)
    release_orphans(container, groups)
    for told in process.on_end:
        told(process.status)
    if process.pid == 1:
        bury(process)
        container.end(process.status)
    elif parent is None:
        bury(process)
    if signal and parent is not None:
        tell(parent, signal)


def bury(process: Process) -> None:
    """The zombie's status has been taken: forget the process."""
    process.container.forget(process)
    process.container.collected.discard(process)
    parent = process.parent or process.collected_by
    if parent is not None:
        own, inherited = process.rusage, process.children_rusage
        held = parent.children_rusage
        parent.children_rusage = (
            held[0] + own[0] + inherited[0],
            held[1] + own[1] + inherited[1],
            max(held[2], own[2], inherited[2]),
        )
        process.set_parent(None)


def collect(process: Process) -> None:
    """Its status has been taken although the host has not told us of its end yet."""
    container = process.container
    process.collected_by = process.parent
    container.pids.pop(process.pid, None)
    container.collected.add(process)
    process.set_parent(None)
    container.ring.later(functools.partial(_put_down, process))


def _put_down(process: Process) -> None:
    """Who has been waited for does not live on, whatever its slot has said."""
    if not process.zombie and process.host_pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.host_pid, SIGKILL)


def is_inits(process: Process) -> bool:
    """With `docker run --init`: an orphan, for which init waits and not the command."""
    parent = process.parent
    init = process.container.spec.init
    return init and process.orphan and parent is not None and parent.pid == 1


def _is_unwanted(process: Process, parent: Process) -> bool:
    """Nobody will wait for it: the parent has said so (sigaction(2)), or it is an orphan."""
    if is_inits(process):
        return True
    action = parent.signals.actions[SIGCHLD]
    ignored = action.handler == SIG_IGN or bool(action.flags & SA_NOCLDWAIT)
    return ignored and process.exit_signal == SIGCHLD


def _queue_for_parent(process: Process, parent: Process) -> int:
    """SIGCHLD, or what else the child was to send: which it is, 0 if nobody is to be told."""
    signal = process.exit_signal
    if process.pid == 1 or not signal or unheard(parent, signal):
        return 0
    status = process.status or 0
    code, number = CLD_EXITED, status >> 8
    if status & 0x7F:
        code, number = CLD_KILLED, status & 0x7F
    info = child_info(process, 0, code, number)._replace(signal=signal)
    return signal if queue(parent, info) else 0


def _adopt(process: Process, parent: Process | None) -> None:
    """Orphans go to the nearest subreaper, else to init."""
    heir = parent
    while heir is not None and not heir.subreaper and heir.pid != 1:
        heir = heir.parent
    if heir is None or heir.zombie:
        heir = process.container.pids.get(1)
    if heir is process:
        heir = None
    for child in list(process.children):
        child.set_parent(heir)
        child.orphan = True
        if child.zombie and (heir is None or is_inits(child)):
            bury(child)
        elif child.zombie and heir is not None:
            send_to_process(heir, child_info(child, 0, CLD_EXITED, child.status or 0))
            heir.wake_waiters()
