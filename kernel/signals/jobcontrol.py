"""Job control at the terminal: who may read, write and set it, and what happens to who may not.

The rules are those of __tty_check_change and is_current_pgrp_orphaned (drivers/tty/tty_jobctrl.c).
The host applies them too, but to it every group is orphaned, as a guest's host parent is the kernel
process: it answers EIO where Linux would stop the job. The stub brings each EIO here, and we decide
again.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from codegen.layout import Op
from kernel.fs.descriptors import host_stat
from kernel.fs.metadata import head
from kernel.fs.proc.host import read_of
from kernel.reply import Program
from kernel.signals.sending import send_to_process
from kernel.signals.state import (
    SI_KERNEL,
    SI_USER,
    SIG_IGN,
    SIGCONT,
    SIGHUP,
    SIGTTIN,
    SIGTTOU,
    Info,
    bit,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kernel.container import Container
    from kernel.isa.frames import HostFrame
    from kernel.process import Process
    from kernel.task import Task

_WRITING = frozenset(
    ("write", "writev", "pwritev", "pwritev2", "ioctl", "sendfile", "splice", "tee")
)
# proc_pid_stat(5), counted from the field after the name.
_GROUP, _TERMINAL, _FOREGROUND = 2, 4, 5


def immune(task: Task, signal: int) -> bool:
    """Whether `signal` would not stop `task`: it is blocked or ignored."""
    ignored = task.process.signals.actions[signal].handler == SIG_IGN
    return ignored or bool(task.blocked & bit(signal))


def in_background(process: Process, task: Task, fd: int) -> bool:
    """`fd` is the process's controlling terminal, and another group is in front."""
    fields = read_of(process, b"stat").rpartition(b")")[2].split()
    if len(fields) <= _FOREGROUND or fields[_TERMINAL] == b"0":
        return False
    foreground = fields[_FOREGROUND]
    if foreground == fields[_GROUP] or int(foreground) <= 0:
        return False
    rdev = head(host_stat(task, fd))[7]
    number = int(fields[_TERMINAL])
    return (os.major(rdev), os.minor(rdev)) == (os.major(number), os.minor(number))


def orphaned(container: Container, group: int) -> bool:
    """No member has a parent in another group of its session (POSIX, "Orphaned Process Group")."""
    for process in container.pids.values():
        parent = process.parent
        if process.group != group or process.zombie or parent is None:
            continue
        if parent.group != group and parent.session == process.session:
            return False
    return True


def send_to_group(container: Container, group: int, info: Info) -> None:
    """Signal every process of a group."""
    for process in list(container.pids.values()):
        if process.group == group:
            send_to_process(process, info)


def stop_background(task: Task, signal: int) -> bool:
    """Send the group SIGTTIN or SIGTTOU for using its terminal; False if EIO is the answer."""
    process = task.process
    if immune(task, signal) or orphaned(process.container, process.group):
        return False
    send_to_group(process.container, process.group, Info(signal, SI_KERNEL))
    return True


async def settle_refusal(task: Task, host: HostFrame, number: int) -> bool:
    """A native call answered EIO. True: it is to be made again once the signal has been taken.

    A writer that is immune to SIGTTOU may write: the call is made here, where the stub is in its
    handler and all host signals are blocked.
    """
    name = task.abi.names.get(number, "")
    arguments = host.arguments
    fd = arguments[0] & 0xFFFF_FFFF
    if host.result != -errno.EIO or not in_background(task.process, task, fd):
        return False
    signal = SIGTTOU if name in _WRITING else SIGTTIN
    if signal == SIGTTOU and immune(task, signal):
        program = Program()
        result = program.op(Op.HOSTCALL, *arguments, nr=number)
        await task.run(program)
        host.set_result(task.result(result))
        return False
    return stop_background(task, signal)


def groups_of_family(process: Process, parent: Process | None) -> set[int]:
    """The groups that the end of `process` may orphan (kill_orphaned_pgrp in kernel/exit.c).

    It may have been what ties its own group to its parent's, and its children's groups to its own.
    """
    own, session = process.group, process.session
    found = {c.group for c in process.children if c.session == session and c.group != own}
    if parent is not None and parent.session == session and parent.group != own:
        found.add(own)
    return found


def release_orphans(container: Container, groups: Iterable[int]) -> None:
    """Groups just orphaned with a stopped member get SIGHUP and SIGCONT (setpgid(2))."""
    for group in groups:
        members = [p for p in container.pids.values() if p.group == group]
        if any(p.stopped and not p.zombie for p in members) and orphaned(container, group):
            for signal in (SIGHUP, SIGCONT):
                send_to_group(container, group, Info(signal, SI_USER, 0, bytes(8)))
