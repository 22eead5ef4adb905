"""prctl, arch_prctl and other knobs of a thread or process."""

import errno
import os

from codegen.layout import BELL_FD, WATCH_FD, Op
from kernel.abi import Fd, Flags, Int, Pid, UInt, ULong
from kernel.errors import LinuxError
from kernel.process import Process
from kernel.reply import Answer, Program, Reply
from kernel.syscalls.declare import syscall
from kernel.task import Task

_NAMESPACES = 0x7E02_0080
_UNSHARE_HARMLESS = 0x200 | 0x4_0000  # CLONE_FS, CLONE_SYSVSEM
_ARCH_SET_FS, _ARCH_GET_FS, _ARCH_GET_GS = 0x1002, 0x1003, 0x1004
_CAP_LAST = 40
(
    SET_PDEATHSIG, GET_PDEATHSIG, GET_DUMPABLE, SET_DUMPABLE, GET_KEEPCAPS, SET_KEEPCAPS,
    SET_NAME, GET_NAME, GET_SECCOMP, SET_SECCOMP, CAPBSET_READ, CAPBSET_DROP, GET_SECUREBITS,
    SET_SECUREBITS, SET_TIMERSLACK, GET_TIMERSLACK, SET_CHILD_SUBREAPER, GET_CHILD_SUBREAPER,
    SET_NO_NEW_PRIVS, GET_NO_NEW_PRIVS, SET_THP_DISABLE, GET_THP_DISABLE, CAP_AMBIENT,
) = (
    1, 2, 3, 4, 7, 8, 15, 16, 21, 22, 23, 24, 27, 28, 29, 30, 36, 37, 38, 39, 41, 42, 47
)  # fmt: skip
_AMBIENT_IS_SET, _AMBIENT_RAISE, _AMBIENT_LOWER, _AMBIENT_CLEAR = 1, 2, 3, 4
_SLACK_NS = 50_000


@syscall(missing="options that neither bash, glibc, Go, Python nor systemd's libraries use")
async def prctl(
    task: Task, option: Int, arg2: ULong, arg3: ULong, arg4: ULong, arg5: ULong
) -> Answer:
    """prctl(2). Unknown options are EINVAL, as on a kernel without them."""
    process = task.process
    if option == SET_NAME:
        return await _set_name(task, arg2)
    if option == GET_NAME:
        return Reply.out(0, (arg2, task.comm.ljust(16, b"\0")))
    if option == SET_PDEATHSIG:
        if arg2 > 64:
            return -errno.EINVAL
        process.death_signal = arg2
        return 0
    if option == GET_PDEATHSIG:
        return Reply.out(0, (arg2, process.death_signal.to_bytes(4, "little")))
    if option == SET_DUMPABLE:
        if arg2 > 1:
            return -errno.EINVAL
        process.dumpable = arg2
        return 0
    if option == SET_CHILD_SUBREAPER:
        process.subreaper = bool(arg2)
        return 0
    if option == GET_CHILD_SUBREAPER:
        return Reply.out(0, (arg2, int(process.subreaper).to_bytes(4, "little")))
    if option in (GET_DUMPABLE, GET_SECCOMP, GET_TIMERSLACK, GET_THP_DISABLE):
        return {GET_DUMPABLE: process.dumpable, GET_TIMERSLACK: _SLACK_NS}.get(option, 0)
    if option in (SET_TIMERSLACK, SET_THP_DISABLE):
        return Reply.hostcall("prctl", option, arg2, 0, 0, 0)
    return _credentials(task, option, arg2, arg3, arg4, arg5)


def _credentials(task: Task, option: int, arg2: int, arg3: int, arg4: int, arg5: int) -> int:
    """The options that concern capabilities."""
    who = task.credentials
    if option == GET_KEEPCAPS:
        return int(bool(who.securebits & 1 << 4))
    if option == SET_KEEPCAPS:
        if arg2 > 1:
            return -errno.EINVAL
        task.credentials = who.with_keep_caps(bool(arg2))
    elif option == CAPBSET_READ:
        return int(bool(who.bounding >> arg2 & 1)) if arg2 <= _CAP_LAST else -errno.EINVAL
    elif option == CAPBSET_DROP:
        if arg2 > _CAP_LAST:
            return -errno.EINVAL
        task.credentials = who.drop_bounding(arg2)
    elif option == GET_SECUREBITS:
        return who.securebits
    elif option == SET_SECUREBITS:
        task.credentials = who.with_securebits(arg2)
    elif option == SET_NO_NEW_PRIVS:
        if arg2 != 1 or arg3 or arg4 or arg5:
            return -errno.EINVAL
        task.credentials = who.with_no_new_privs()
    elif option == GET_NO_NEW_PRIVS:
        return int(who.no_new_privs)
    elif option == CAP_AMBIENT:
        return _ambient(task, arg2, arg3)
    else:
        return -errno.EINVAL
    return 0


def _ambient(task: Task, operation: int, capability: int) -> int:
    who = task.credentials
    if operation == _AMBIENT_CLEAR:
        task.credentials = who.lower_ambient(None)
        return 0
    if capability > _CAP_LAST:
        return -errno.EINVAL
    if operation == _AMBIENT_IS_SET:
        return int(bool(who.ambient >> capability & 1))
    if operation == _AMBIENT_RAISE:
        task.credentials = who.raise_ambient(capability)
    elif operation == _AMBIENT_LOWER:
        task.credentials = who.lower_ambient(capability)
    else:
        return -errno.EINVAL
    return 0


async def _set_name(task: Task, address: int) -> int:
    raw = b""
    while len(raw) < 16 and b"\0" not in raw:
        n = min(16 - len(raw), 4096 - ((address + len(raw)) & 4095))
        raw += await task.copy_in(address + len(raw), n)
    task.comm = raw.split(b"\0")[0][:15]
    if task.tid == task.process.pid:
        task.process.comm = task.comm
    return 0


@syscall()
def arch_prctl(task: Task, option: Int, arg2: ULong) -> Answer:
    """arch_prctl(2): FS is the guest's, GS is the stub's."""
    if option in (_ARCH_SET_FS, _ARCH_GET_FS):
        return Reply.hostcall("arch_prctl", option, arg2)
    if option == _ARCH_GET_GS:
        return Reply.out(0, (arg2, bytes(8)))
    return -errno.EINVAL


@syscall()
def unshare(task: Task, unshare_flags: Flags) -> Answer:
    """unshare(2): no namespaces; the rest is already unshared or made so."""
    if unshare_flags & _NAMESPACES:
        return -errno.EPERM
    if unshare_flags & 0x200:
        task.change_context(task.fs.copy())
    return 0 if not unshare_flags & ~_UNSHARE_HARMLESS else -errno.EINVAL


@syscall(missing="always fails")
def setns(task: Task, fd: Fd, nstype: Int) -> Answer:
    """setns(2): EPERM, as without CAP_SYS_ADMIN."""
    return -errno.EPERM


@syscall()
def pidfd_open(task: Task, pid: Pid, flags: Flags) -> Answer:
    """pidfd_open(2): the host's pidfd of the guest process."""
    if flags & ~os.O_NONBLOCK or pid <= 0:
        return -errno.EINVAL
    target: Process | None = task.process.container.pids.get(pid)
    if target is None or not target.host_pid:
        return -errno.ESRCH
    if target.zombie:
        return -errno.ESRCH
    task.process.container.pidfd_users = True
    try:
        fd = os.pidfd_open(target.host_pid, flags)
    except OSError as error:
        raise LinuxError(error.errno or errno.ESRCH) from error
    return Reply.descriptor(fd, True)


@syscall()
def close_range(task: Task, first: UInt, last: UInt, flags: Flags) -> Answer:
    """close_range(2), without the stub's descriptors."""
    if first > last or flags & ~6:
        return -errno.EINVAL
    files = task.process.files
    if flags & 4:  # CLOSE_RANGE_CLOEXEC
        for fd in list(files):
            if first <= fd <= last:
                files.set_cloexec(fd, True)
    else:
        files.drop_range(first, last)
    nr = task.abi.numbers["close_range"]
    program = Program()
    for low, high in ((first, min(last, WATCH_FD - 1)), (max(first, BELL_FD + 1), last)):
        if low <= high:
            program.hostcall(nr, low, high, flags & 4)
    program.op(Op.END, 0)
    return Reply.program(program)
