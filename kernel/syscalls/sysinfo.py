"""What a program asks about its machine and its share of it: names, figures, limits.

uname(2), sysinfo(2), getrusage(2), getrlimit(2), syslog(2), personality(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from kernel.abi import InBuffer, InStruct, Int, Pid, Pointer, UInt
from kernel.capabilities import CAP_SYS_ADMIN, CAP_SYS_RESOURCE
from kernel.errors import LinuxError
from kernel.limits import COUNT, enforce
from kernel.reply import Reply
from kernel.syscalls.declare import syscall

if TYPE_CHECKING:
    from kernel.process import Process
    from kernel.reply import Answer
    from kernel.task import Task

_NAME_MAX: Final = 64
_SYSINFO = struct.Struct("<q3Q6QHHIQQI4x")
_RUSAGE = struct.Struct("<4q14q")
_RUSAGE_SELF, _RUSAGE_CHILDREN, _RUSAGE_THREAD = 0, -1, 1
_TICKS: Final = 100  # USER_HZ, the same on every architecture we serve
_RLIMIT_CPU, _RLIMIT_CORE, _RLIMIT_NPROC, _RLIMIT_NOFILE = 0, 4, 6, 7
_RLIMIT_SIGPENDING: Final = 11
_NR_OPEN: Final = 1 << 20
_PER_LINUX32, _UNAME26, _QUERY = 0x8, 0x20000, 0xFFFFFFFF
_PERSONALITIES: Final = (0, _PER_LINUX32, _UNAME26, _UNAME26 | _PER_LINUX32)

_libc = ctypes.CDLL(None, use_errno=True)
_personalities: WeakKeyDictionary[Process, int] = WeakKeyDictionary()


@syscall()
def uname(task: Task, name: Pointer) -> Answer:
    """uname(2): the host's kernel release, the guest's architecture, the container's name."""
    host, container = os.uname(), task.process.container
    compat = _personality(task.process) & _PER_LINUX32
    machine = task.isa.uname_compat if compat else task.isa.uname
    fields = (
        b"Linux",
        container.hostname,
        os.fsencode(host.release),
        os.fsencode(host.version),
        machine,
        container.domainname,
    )
    return Reply.out(0, (name, b"".join(f[:_NAME_MAX].ljust(_NAME_MAX + 1, b"\0") for f in fields)))


def _new_name(task: Task, name: bytes, length: int) -> bytes:
    task.credentials.require(CAP_SYS_ADMIN)
    if not 0 <= length <= _NAME_MAX:
        raise LinuxError(errno.EINVAL)
    if length and not name:
        raise LinuxError(errno.EFAULT)
    return name[:length].split(b"\0", 1)[0]


@syscall()
def sethostname(task: Task, name: InBuffer, len: Int) -> int:
    """sethostname(2): needs CAP_SYS_ADMIN, which Docker does not give by default."""
    task.process.container.hostname = _new_name(task, name, len)
    return 0


@syscall()
def setdomainname(task: Task, name: InBuffer, len: Int) -> int:
    """setdomainname(2)."""
    task.process.container.domainname = _new_name(task, name, len)
    return 0


@syscall()
def sysinfo(task: Task, info: Pointer) -> Answer:
    """sysinfo(2): the host's figures, as in any container, but the container's own tasks."""
    buffer = ctypes.create_string_buffer(_SYSINFO.size)
    if _libc.sysinfo(buffer):
        return -ctypes.get_errno()
    values = list(_SYSINFO.unpack(buffer.raw))
    values[10] = min(sum(len(p.tasks) for p in task.process.container.pids.values()), 0xFFFF)
    return Reply.out(0, (info, _SYSINFO.pack(*values)))


@syscall()
def getrusage(task: Task, who: Int, ru: Pointer) -> Answer:
    """getrusage(2): the host knows about the caller, the kernel about its dead children."""
    if who in (_RUSAGE_SELF, _RUSAGE_THREAD):
        return Reply.hostcall("getrusage", who, ru)
    if who != _RUSAGE_CHILDREN:
        return -errno.EINVAL
    user, system, largest = task.process.children_rusage
    times = (int(user), int(user % 1 * 1e6), int(system), int(system % 1 * 1e6))
    return Reply.out(0, (ru, _RUSAGE.pack(*times, largest, *(0,) * 13)))


@syscall()
async def times(task: Task, tbuf: Pointer) -> Answer:
    """times(2)."""
    if not tbuf:
        return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS)
    now = await task.hostcall("times", tbuf)
    user, system, _ = task.process.children_rusage
    children = struct.pack("<qq", int(user * _TICKS), int(system * _TICKS))
    return Reply.out(now, (tbuf + 16, children))


@syscall()
def syslog(task: Task, type: Int, buf: Pointer, len: Int) -> int:
    """syslog(2): EPERM, as Docker answers without CAP_SYSLOG."""
    return -errno.EPERM


def _personality(process: Process) -> int:
    """The execution domain: a process's own, or what it inherited."""
    at: Process | None = process
    while at is not None:
        if at in _personalities:
            return _personalities[at]
        at = at.parent
    return 0


@syscall(missing="execution domains other than PER_LINUX32 and UNAME26: EPERM, as with Docker")
def personality(task: Task, personality: UInt) -> int:
    """personality(2)."""
    before = _personality(task.process)
    if personality in (_QUERY, before):
        return before
    if personality not in _PERSONALITIES:
        return -errno.EPERM
    _personalities[task.process] = personality
    return before


# -- limits --------------------------------------------------------------------------------------


@syscall()
def getrlimit(task: Task, resource: UInt, rlim: Pointer) -> Answer:
    """getrlimit(2)."""
    if resource >= COUNT:
        return -errno.EINVAL
    return Reply.out(0, (rlim, struct.pack("<QQ", *task.process.limits[resource])))


@syscall()
def setrlimit(task: Task, resource: UInt, rlim: InStruct) -> int:
    """setrlimit(2)."""
    if rlim is None:
        return -errno.EFAULT
    return _set_limit(task, task.process, resource, rlim)


@syscall()
def prlimit64(
    task: Task, pid: Pid, resource: UInt, new_rlim: InStruct, old_rlim: Pointer
) -> Answer:
    """prlimit(2)."""
    if resource >= COUNT:
        return -errno.EINVAL
    process = task.process
    if pid not in (0, process.pid, task.tid):
        process = _find(task, pid)
    before = process.limits[resource]
    if new_rlim is not None:
        _set_limit(task, process, resource, new_rlim)
    if not old_rlim:
        return 0
    return Reply.out(0, (old_rlim, struct.pack("<QQ", *before)))


def _find(task: Task, pid: int) -> Process:
    """The process of thread `pid`. ESRCH; EPERM unless it is the same user's (check_prlimit)."""
    for process in task.process.container.pids.values():
        target = process.tasks.get(pid)
        if target is None:
            continue
        me, other = task.credentials, target.credentials
        same = {other.uid, other.euid, other.suid} == {me.uid}
        same = same and {other.gid, other.egid, other.sgid} == {me.gid}
        if not same and not me.can(CAP_SYS_RESOURCE):
            raise LinuxError(errno.EPERM)
        return process
    raise LinuxError(errno.ESRCH)


def _set_limit(task: Task, process: Process, number: int, new: bytes) -> int:
    """do_prlimit in kernel/sys.c."""
    if number >= COUNT:
        raise LinuxError(errno.EINVAL)
    soft, hard = struct.unpack("<QQ", new)
    if soft > hard:
        raise LinuxError(errno.EINVAL)
    if number == _RLIMIT_NOFILE and hard > _NR_OPEN:
        raise LinuxError(errno.EPERM)
    if hard > process.limits[number][1]:
        task.credentials.require(CAP_SYS_RESOURCE)
    process.limits[number] = (soft, hard)
    enforce(process, number)
    return 0
