"""Interval timers and POSIX timers (setitimer(2), timer_create(2))."""

import errno
import struct
import time

from codegen.layout import Slot
from kernel.abi import Flags, InStruct, Int, Pointer, UInt
from kernel.errors import LinuxError
from kernel.reply import Answer, Reply
from kernel.signals.sending import send_to_process, send_to_task
from kernel.signals.state import SI_KERNEL, SI_TIMER, SIGALRM, TIMER_BODY, Info
from kernel.syscalls.declare import syscall
from kernel.task import Task
from kernel.timers import Timer

_ARG1 = Slot.ARGS // 8 + 1
_ITIMERVAL = struct.Struct("<4q")
_ITIMER_REAL, _ITIMER_PROF = 0, 2
_CLOCKS = (0, 1, 4, 5, 6, 7, 8, 9, 11)  # wall, monotonic and boot clocks
_CLOCK_REALTIME_KIND = (0, 5, 8, 11)
_SIGEV_SIGNAL, _SIGEV_NONE, _SIGEV_THREAD_ID = 0, 1, 4
_TIMER_ABSTIME = 1
_TIMER_LIMIT = 1 << 12


def _real_timer(task: Task) -> Timer:
    process = task.process
    if process.real_timer is None:
        process.real_timer = Timer(lambda: send_to_process(process, Info(SIGALRM, SI_KERNEL)))
    return process.real_timer


def _itimerval(timer: Timer) -> bytes:
    value, interval = timer.remaining_ns() // 1000, timer.interval_ns // 1000
    if timer.remaining_ns() and not value:
        value = 1
    return _ITIMERVAL.pack(*divmod(interval, 10**6), *divmod(value, 10**6))


@syscall()
def alarm(task: Task, seconds: UInt) -> Answer:
    """alarm(2)."""
    timer = _real_timer(task)
    left = -(-timer.remaining_ns() // 10**9)
    timer.set(seconds * 10**9, 0)
    return left


@syscall()
def setitimer(task: Task, which: Int, value: InStruct, ovalue: Pointer) -> Answer:
    """setitimer(2); the CPU-time timers are the host's."""
    if not 0 <= which <= _ITIMER_PROF:
        return -errno.EINVAL
    if which != _ITIMER_REAL:
        return Reply.hostcall("setitimer", which, task.slot.q[_ARG1], ovalue)
    timer = _real_timer(task)
    old = _itimerval(timer)
    interval_s, interval_us, value_s, value_us = _ITIMERVAL.unpack(value or bytes(32))
    if not (0 <= interval_us < 10**6 and 0 <= value_us < 10**6) or interval_s < 0 or value_s < 0:
        return -errno.EINVAL
    timer.set((value_s * 10**6 + value_us) * 1000, (interval_s * 10**6 + interval_us) * 1000)
    return Reply.out(0, (ovalue, old)) if ovalue else 0


@syscall()
def getitimer(task: Task, which: Int, value: Pointer) -> Answer:
    """getitimer(2)."""
    if not 0 <= which <= _ITIMER_PROF:
        return -errno.EINVAL
    if which != _ITIMER_REAL:
        return Reply.hostcall("getitimer", which, value)
    return Reply.out(0, (value, _itimerval(_real_timer(task))))


@syscall(missing="CPU-time clocks")
def timer_create(
    task: Task, clockid: Int, timer_event_spec: InStruct, created_timer_id: Pointer
) -> Answer:
    """timer_create(2)."""
    if clockid not in _CLOCKS:
        return -errno.EINVAL
    timers = task.process.posix_timers
    number = next((n for n in range(_TIMER_LIMIT) if n not in timers), -1)
    if number < 0:
        return -errno.EAGAIN
    value, signal, notify, tid = 0, SIGALRM, _SIGEV_SIGNAL, 0
    if timer_event_spec is not None:
        value, signal, notify, tid = struct.unpack("<Qiii", timer_event_spec[:20])
    else:
        value = number
    if notify not in (_SIGEV_SIGNAL, _SIGEV_NONE, _SIGEV_THREAD_ID, 5):
        return -errno.EINVAL
    if notify != _SIGEV_NONE and not 1 <= signal <= 64:
        return -errno.EINVAL
    process = task.process
    target = process.tasks.get(tid) if notify & _SIGEV_THREAD_ID else None
    if notify & _SIGEV_THREAD_ID and target is None:
        return -errno.EINVAL

    def expired() -> None:
        if notify == _SIGEV_NONE:
            return
        pending = target.pending if target is not None else process.signals.pending
        if pending is not None and pending.overrun(signal, number, timer.missed + 1):
            timer.overruns += timer.missed + 1
            return
        timer.delivered_overruns, timer.overruns = timer.overruns, timer.missed
        info = Info(signal, SI_TIMER, 0, TIMER_BODY.pack(number, timer.missed, value))
        if target is not None:
            send_to_task(target, info)
        else:
            send_to_process(process, info)

    def taken() -> bool:
        pending = target.pending if target is not None else process.signals.pending
        return pending is None or not pending.overrun(signal, number, 0)

    timer = Timer(expired, taken)
    timers[number] = (timer, clockid)
    return Reply.out(0, (created_timer_id, struct.pack("<i", number)))


def _timer(task: Task, number: int) -> tuple[Timer, int]:
    found = task.process.posix_timers.get(number)
    if found is None:
        raise LinuxError(errno.EINVAL)
    return found


def _itimerspec(timer: Timer) -> bytes:
    return _ITIMERVAL.pack(*divmod(timer.interval_ns, 10**9), *divmod(timer.remaining_ns(), 10**9))


@syscall()
def timer_settime(
    task: Task, timer_id: Int, flags: Flags, new_setting: InStruct, old_setting: Pointer
) -> Answer:
    """timer_settime(2)."""
    timer, clock = _timer(task, timer_id)
    if new_setting is None:
        return -errno.EINVAL
    interval_s, interval_ns, value_s, value_ns = _ITIMERVAL.unpack(new_setting[:32])
    if not (0 <= interval_ns < 10**9 and 0 <= value_ns < 10**9) or interval_s < 0 or value_s < 0:
        return -errno.EINVAL
    old = _itimerspec(timer)
    value = value_s * 10**9 + value_ns
    if value and flags & _TIMER_ABSTIME:
        clock_id = time.CLOCK_REALTIME if clock in _CLOCK_REALTIME_KIND else time.CLOCK_MONOTONIC
        value = max(1, value - time.clock_gettime_ns(clock_id))
    timer.set(value, interval_s * 10**9 + interval_ns)
    return Reply.out(0, (old_setting, old)) if old_setting else 0


@syscall()
def timer_gettime(task: Task, timer_id: Int, setting: Pointer) -> Answer:
    """timer_gettime(2)."""
    timer, _ = _timer(task, timer_id)
    return Reply.out(0, (setting, _itimerspec(timer)))


@syscall()
def timer_getoverrun(task: Task, timer_id: Int) -> Answer:
    """timer_getoverrun(2)."""
    timer, _ = _timer(task, timer_id)
    return timer.overruns if timer.signal_taken() else timer.delivered_overruns


@syscall()
def timer_delete(task: Task, timer_id: Int) -> Answer:
    """timer_delete(2)."""
    timer, _ = _timer(task, timer_id)
    timer.stop()
    del task.process.posix_timers[timer_id]
    return 0


@syscall()
def clock_settime(task: Task, clockid: Int, tp: InStruct) -> Answer:
    """clock_settime(2): the clocks are the host's."""
    return -errno.EPERM


@syscall()
def settimeofday(task: Task, tv: InStruct, tz: InStruct) -> Answer:
    """settimeofday(2): the clocks are the host's."""
    return -errno.EPERM
