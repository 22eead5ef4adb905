"""Priorities, policies and processors (sched(7), setpriority(2), ioprio_set(2)).

Guest threads are host threads, so the host schedules; only who may ask for what is decided here,
by the container's credentials and not by those of whoever runs the daemon.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
from typing import TYPE_CHECKING, Final

from kernel.abi import Flags, InBuffer, InStruct, Int, Pid, Pointer, UInt
from kernel.capabilities import CAP_SYS_NICE
from kernel.errors import LinuxError
from kernel.host.engines import host_numbers
from kernel.reply import Reply
from kernel.syscalls.declare import syscall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel.reply import Answer
    from kernel.task import Task

_PRIO_PROCESS, _PRIO_PGRP, _PRIO_USER = 0, 1, 2
_SCHED_OTHER, _SCHED_FIFO, _SCHED_RR, _SCHED_BATCH, _SCHED_IDLE = 0, 1, 2, 3, 5
_SCHED_DEADLINE: Final = 6
_RESET_ON_FORK: Final = 0x40000000
_IOPRIO_PROCESS: Final = 1
_IOPRIO_CLASS_RT: Final = 1
_RLIMIT_NICE: Final = 13
_RLIMIT_RTPRIO: Final = 14
_ATTR = struct.Struct("<IIQiIQQQ")
_NUMBERS: Final = tuple(
    host_numbers()[name] for name in ("ioprio_set", "ioprio_get", "sched_getaffinity")
)

_libc = ctypes.CDLL(None, use_errno=True)


def _host(number: int, *args: object) -> int:
    result = _libc.syscall(number, *args)
    return int(result) if result >= 0 else -ctypes.get_errno()


@contextlib.contextmanager
def _host_errors() -> Iterator[None]:
    """What the host refuses, the guest is refused."""
    try:
        yield
    except OSError as error:
        raise LinuxError(error.errno or errno.EPERM) from None


def _policy(target: Task) -> int:
    with _host_errors():
        return os.sched_getscheduler(target.host_tid)


def _nice(target: Task) -> int:
    with _host_errors():
        return os.getpriority(os.PRIO_PROCESS, target.host_tid)


def _priority(target: Task) -> int:
    with _host_errors():
        return os.sched_getparam(target.host_tid).sched_priority


def _thread(task: Task, tid: int) -> Task:
    """The thread `tid`, 0 being the caller. EINVAL for a negative one, ESRCH."""
    if tid < 0:
        raise LinuxError(errno.EINVAL)
    if tid in (0, task.tid):
        return task
    for process in task.process.container.pids.values():
        found = process.tasks.get(tid)
        if found is not None:
            return found
    raise LinuxError(errno.ESRCH)


def _require_same_user(task: Task, other: Task) -> None:
    """check_same_owner, or CAP_SYS_NICE."""
    me, them = task.credentials, other.credentials
    if me.euid not in (them.euid, them.uid) and not me.can(CAP_SYS_NICE):
        raise LinuxError(errno.EPERM)


# -- nice values ---------------------------------------------------------------------------------


def _chosen(task: Task, which: int, who: int) -> list[Task]:
    """The threads that getpriority and setpriority mean. EINVAL, ESRCH."""
    processes = task.process.container.pids.values()
    if which == _PRIO_PROCESS:
        return [_thread(task, who)] if who >= 0 else []
    if which == _PRIO_PGRP:
        group = who or task.process.group
        return [t for p in processes if p.group == group for t in p.tasks.values()]
    if which == _PRIO_USER:
        uid = who & 0xFFFFFFFF or task.credentials.uid
        threads = [t for p in processes for t in p.tasks.values()]
        return [t for t in threads if t.credentials.uid == uid]
    raise LinuxError(errno.EINVAL)


@syscall()
def getpriority(task: Task, which: Int, who: Int) -> int:
    """getpriority(2): the raw call answers 20 - nice, of the most favoured."""
    found = [_nice(target) for target in _chosen(task, which, who)]
    return 20 - min(found) if found else -errno.ESRCH


@syscall()
def setpriority(task: Task, which: Int, who: Int, niceval: Int) -> int:
    """setpriority(2)."""
    targets = _chosen(task, which, who)
    if not targets:
        return -errno.ESRCH
    wanted = max(-20, min(niceval, 19))
    result = 0
    for target in targets:
        try:
            _require_same_user(task, target)
            if wanted < _nice(target):
                _require_nice(task, wanted)
            with _host_errors():
                os.setpriority(os.PRIO_PROCESS, target.host_tid, wanted)
        except LinuxError as error:
            result = -error.errno
    return result


def _require_nice(task: Task, nice: int) -> None:
    """can_nice: RLIMIT_NICE counts from 1 for nice 19 to 40 for nice -20."""
    if 20 - nice > task.process.limits[_RLIMIT_NICE][0] and not task.credentials.can(CAP_SYS_NICE):
        raise LinuxError(errno.EACCES)


# -- policies ------------------------------------------------------------------------------------


def _check_policy(task: Task, target: Task, policy: int, priority: int) -> None:
    """user_check_sched_setscheduler, as far as the host would not say the same."""
    if policy not in (_SCHED_OTHER, _SCHED_FIFO, _SCHED_RR, _SCHED_BATCH, _SCHED_IDLE):
        raise LinuxError(errno.EPERM if policy == _SCHED_DEADLINE else errno.EINVAL)
    real_time = policy in (_SCHED_FIFO, _SCHED_RR)
    if priority not in (range(1, 100) if real_time else (0,)):
        raise LinuxError(errno.EINVAL)
    allowed = task.credentials.can(CAP_SYS_NICE)
    if real_time and not allowed and priority > task.process.limits[_RLIMIT_RTPRIO][0]:
        raise LinuxError(errno.EPERM)
    _require_same_user(task, target)


def _set_policy(task: Task, target: Task, policy: int, priority: int) -> int:
    _check_policy(task, target, policy & ~_RESET_ON_FORK, priority)
    with _host_errors():
        os.sched_setscheduler(target.host_tid, policy, os.sched_param(priority))
    return 0


@syscall()
def sched_setscheduler(task: Task, pid: Pid, policy: Int, param: InStruct) -> int:
    """sched_setscheduler(2)."""
    if policy < 0 or param is None:
        return -errno.EINVAL
    return _set_policy(task, _thread(task, pid), policy, struct.unpack("<i", param)[0])


@syscall()
def sched_getscheduler(task: Task, pid: Pid) -> int:
    """sched_getscheduler(2)."""
    return _policy(_thread(task, pid))


@syscall()
def sched_setparam(task: Task, pid: Pid, param: InStruct) -> int:
    """sched_setparam(2)."""
    if param is None:
        return -errno.EINVAL
    target = _thread(task, pid)
    policy = _policy(target)
    return _set_policy(task, target, policy, struct.unpack("<i", param)[0])


@syscall()
def sched_getparam(task: Task, pid: Pid, param: Pointer) -> Answer:
    """sched_getparam(2)."""
    if not param:
        return -errno.EINVAL
    priority = _priority(_thread(task, pid))
    return Reply.out(0, (param, struct.pack("<i", priority)))


@syscall()
def sched_rr_get_interval(task: Task, pid: Pid, interval: Pointer) -> Answer:
    """sched_rr_get_interval(2)."""
    target = _thread(task, pid)
    with _host_errors():
        seconds = os.sched_rr_get_interval(target.host_tid)
    return Reply.out(0, (interval, struct.pack("<qq", int(seconds), int(seconds % 1 * 1e9))))


@syscall(missing="deadline scheduling, utilisation clamps")
async def sched_setattr(task: Task, pid: Pid, attr: Pointer, flags: Flags) -> Answer:
    """sched_setattr(2)."""
    if not attr or pid < 0 or flags:
        return -errno.EINVAL
    size = struct.unpack("<I", await task.copy_in(attr, 4))[0]
    if size and size < _ATTR.size:
        await task.copy_out(attr, struct.pack("<I", _ATTR.size))
        return -errno.E2BIG
    _, policy, attr_flags, nice, priority, *_ = _ATTR.unpack(await task.copy_in(attr, _ATTR.size))
    if attr_flags & ~1:
        return -errno.EINVAL
    target = _thread(task, pid)
    result = _set_policy(task, target, policy | (_RESET_ON_FORK if attr_flags else 0), priority)
    if result or policy not in (_SCHED_OTHER, _SCHED_BATCH):
        return result
    return setpriority(task, _PRIO_PROCESS, target.tid, nice)


@syscall()
def sched_getattr(task: Task, pid: Pid, attr: Pointer, size: UInt, flags: Flags) -> Answer:
    """sched_getattr(2)."""
    if not attr or pid < 0 or flags or not _ATTR.size <= size <= 4096:
        return -errno.EINVAL
    target = _thread(task, pid)
    policy, nice, priority = _policy(target), _nice(target), _priority(target)
    reset = int(bool(policy & _RESET_ON_FORK))
    policy &= ~_RESET_ON_FORK
    packed = _ATTR.pack(_ATTR.size, policy, reset, nice, priority, 0, 0, 0)
    return Reply.out(0, (attr, packed))


# -- processors ----------------------------------------------------------------------------------


@syscall()
def sched_setaffinity(task: Task, pid: Pid, len: UInt, user_mask_ptr: InBuffer) -> int:
    """sched_setaffinity(2)."""
    target = _thread(task, pid)
    _require_same_user(task, target)
    mask = int.from_bytes(user_mask_ptr, "little")
    processors = {number for number in range(mask.bit_length()) if mask >> number & 1}
    try:
        os.sched_setaffinity(target.host_tid, processors)
    except (OSError, ValueError, OverflowError) as error:
        return -(getattr(error, "errno", None) or errno.EINVAL)
    return 0


@syscall()
def sched_getaffinity(task: Task, pid: Pid, len: UInt, user_mask_ptr: Pointer) -> Answer:
    """sched_getaffinity(2): answers the size of the kernel's own mask."""
    size = min(len, 4096)
    buffer = ctypes.create_string_buffer(max(size, 1))
    result = _host(_NUMBERS[2], _thread(task, pid).host_tid, size, buffer)
    return result if result < 0 else Reply.out(result, (user_mask_ptr, buffer.raw[:result]))


# -- input and output ----------------------------------------------------------------------------


@syscall(missing="IOPRIO_WHO_PGRP and IOPRIO_WHO_USER")
def ioprio_set(task: Task, which: Int, who: Int, ioprio: Int) -> int:
    """ioprio_set(2)."""
    if which != _IOPRIO_PROCESS:
        return -errno.EINVAL
    if ioprio >> 13 == _IOPRIO_CLASS_RT:
        task.credentials.require(CAP_SYS_NICE)
    target = _thread(task, who)
    _require_same_user(task, target)
    return _host(_NUMBERS[0], which, target.host_tid, ioprio)


@syscall(missing="IOPRIO_WHO_PGRP and IOPRIO_WHO_USER")
def ioprio_get(task: Task, which: Int, who: Int) -> int:
    """ioprio_get(2)."""
    if which != _IOPRIO_PROCESS:
        return -errno.EINVAL
    return _host(_NUMBERS[1], which, _thread(task, who).host_tid)
