"""Process groups, sessions and the controlling terminal.

The host's groups and sessions mirror the guest's, so that a terminal's ^C and job control are the
host's own. Only a process itself may change its host group (guests are the kernel process's
children, not each other's): for another process the call is run by that process.
"""

import errno
import fcntl
import os
from typing import TYPE_CHECKING

from codegen.layout import PAYLOAD, STUB_FDS, Op
from kernel.abi import Fd, Pid, UInt, ULong
from kernel.errors import LinuxError
from kernel.fs.devices import slave_index, slave_number
from kernel.process import Process
from kernel.reply import Answer, Program, Reply
from kernel.signals.injection import run_in, with_ttou
from kernel.syscalls.declare import Restart, syscall
from kernel.task import Task

if TYPE_CHECKING:
    from kernel.container import Container

TIOCSCTTY, TIOCGPGRP, TIOCSPGRP, TIOCNOTTY, TIOCGSID = 0x540E, 0x540F, 0x5410, 0x5422, 0x5429
TIOCGDEV, TIOCGPTN, TIOCGPTPEER = 0x80045432, 0x80045430, 0x5441
_REFUSED = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX


def _host_group(container: "Container", group: int) -> int:
    """The host's id for a guest group or session: that of the process which founded it."""
    return container.host_groups.get(group, 0)


def _has_members(host_group: int) -> bool:
    try:
        os.killpg(host_group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _find(task: Task, pid: int) -> Process:
    process = task.process.container.pids.get(pid) if pid else task.process
    if process is None:
        raise LinuxError(errno.ESRCH)
    return process


@syscall()
async def setpgid(task: Task, pid: Pid, pgid: Pid) -> Answer:
    """setpgid(2)."""
    if pgid < 0:
        return -errno.EINVAL
    me = task.process
    target = _find(task, pid)
    if target is not me and target.parent is not me:
        return -errno.ESRCH
    if target.session != me.session or target.session == target.pid:
        return -errno.EPERM
    if target is not me and target.has_execed:
        return -errno.EACCES
    group = pgid or target.pid
    if group != target.pid and not any(
        p.group == group and p.session == me.session for p in me.container.pids.values()
    ):
        return -errno.EPERM
    if target.group == group:
        return 0
    founder = group == target.pid
    host_group = 0 if founder else _host_group(me.container, group)
    if target.zombie:
        target.group = group
        return 0
    if host_group and not _has_members(host_group):
        host_group, founder = 0, True
    if target is me:
        await task.hostcall("setpgid", 0, host_group)
    else:
        await run_in(target, "setpgid", 0, host_group)
    if founder:
        me.container.host_groups[group] = target.host_pid
    target.group = group
    return 0


@syscall()
def getpgid(task: Task, pid: Pid) -> Answer:
    """getpgid(2)."""
    return _find(task, pid).group


@syscall()
def getpgrp(task: Task) -> Answer:
    """getpgrp(2)."""
    return task.process.group


@syscall()
def getsid(task: Task, pid: Pid) -> Answer:
    """getsid(2)."""
    return _find(task, pid).session


@syscall()
async def setsid(task: Task) -> Answer:
    """setsid(2)."""
    me = task.process
    if any(p.group == me.pid for p in me.container.pids.values()):
        return -errno.EPERM
    await task.hostcall("setsid")
    me.group = me.session = me.pid
    me.container.host_groups[me.pid] = me.host_pid
    return me.pid


@syscall(restart=Restart.ALWAYS, missing="terminal, FIONREAD-class and network requests only")
async def ioctl(task: Task, fd: Fd, cmd: UInt, arg: ULong) -> Answer:
    """ioctl(2) requests that name processes, or that the stub does not make by itself."""
    if fd in STUB_FDS:
        return -errno.EBADF
    if task.process.files.get(fd) is not None:
        return -errno.ENOTTY
    if cmd in (TIOCGPGRP, TIOCGSID, TIOCGPTN, TIOCGDEV):
        return await _tell(task, fd, cmd, arg)
    if cmd == TIOCSPGRP:
        group = int.from_bytes(await task.copy_in(arg, 4), "little")
        return await _set_foreground(task, fd, group)
    if cmd in _REFUSED:
        return -errno.EPERM
    if cmd == TIOCGPTPEER:
        return await _open_peer(task, fd, arg)
    handler = task.process.container.ioctl_handler
    if cmd >> 8 == 0x89 and handler is not None:
        answer: Answer = await handler(task, fd, cmd, arg)
        return answer
    if cmd >> 8 & 0xFF in (0x54, 0x66):
        return Reply.hostcall("ioctl", fd, cmd, arg)
    return -errno.ENOTTY


async def _tell(task: Task, fd: int, cmd: int, arg: int) -> Answer:
    """The host answers about a group, a session or a terminal's number; we translate."""
    program = Program()
    answer = task.slot.address + PAYLOAD + program.store(bytes(4))
    result = program.op(Op.HOSTCALL, fd, cmd, answer, nr=task.abi.numbers["ioctl"])
    await task.run(program)
    if task.result(result) < 0:
        return task.result(result)
    host = int.from_bytes(task.slot.read_payload(0, 4), "little")
    container = task.process.container
    if cmd in (TIOCGPGRP, TIOCGSID):
        guest: int | None = container.guest_group(host)
    elif cmd == TIOCGPTN:
        guest = container.mounts.terminals.number_of(host)
    else:
        guest = container.mounts.terminals.number_of(slave_index(host))
        guest = None if guest is None else slave_number(guest)
    return Reply.out(0, (arg, (host if guest is None else guest).to_bytes(4, "little")))


async def _open_peer(task: Task, fd: int, flags: int) -> Answer:
    """TIOCGPTPEER: open a master's slave without a path. The guest itself may not open."""
    master = await task.take_fd(fd)
    try:
        slave = fcntl.ioctl(master, TIOCGPTPEER, flags | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        return -(error.errno or errno.EIO)
    finally:
        os.close(master)
    return Reply.descriptor(slave, bool(flags & os.O_CLOEXEC))


async def _set_foreground(task: Task, fd: int, group: int) -> Answer:
    """TIOCSPGRP. A background caller that blocks or ignores SIGTTOU must not be stopped."""
    host = _host_group(task.process.container, group)
    if not host:
        return -errno.ESRCH
    return await with_ttou(task, fd, TIOCSPGRP, host)
