"""Signals: dispositions, masks, sending and waiting (signal(7))."""

import asyncio
import errno
import struct

from kernel.abi import InStruct, Int, Pid, Pointer, SignalNumber, Size
from kernel.errors import LinuxError
from kernel.pidfds import pid_of_pidfd
from kernel.process import Process
from kernel.reply import Answer, Reply
from kernel.signals.sending import deliverable, send_to_process, send_to_task, user_info
from kernel.signals.state import (
    COUNT,
    SI_TKILL,
    SI_USER,
    SIGCONT,
    SIGKILL,
    SIGSTOP,
    UNBLOCKABLE,
    Action,
    Info,
    bit,
)
from kernel.syscalls.declare import Restart, syscall
from kernel.task import Task, Waiter

_ACTION = struct.Struct("<4Q")
_STACK = struct.Struct("<QI4xQ")
_SS_ONSTACK, _SS_DISABLE, _SS_AUTODISARM = 1, 2, 1 << 31
CAP_KILL = 5


@syscall()
def rt_sigaction(
    task: Task, sig: SignalNumber, act: InStruct, oact: Pointer, sigsetsize: Size
) -> Answer:
    """rt_sigaction(2)."""
    if sigsetsize != 8 or not 1 <= sig <= COUNT:
        return -errno.EINVAL
    signals = task.process.signals
    old = signals.actions[sig]
    if act is not None:
        if sig in (SIGKILL, SIGSTOP):
            return -errno.EINVAL
        handler, flags, restorer, mask = _ACTION.unpack(act[:32])
        signals.actions[sig] = Action(handler, flags & 0xFFFF_FFFF, restorer, mask & ~UNBLOCKABLE)
        if signals.ignores(sig):
            signals.pending.drop(bit(sig))
            for thread in task.process.tasks.values():
                if thread.pending is not None:
                    thread.pending.drop(bit(sig))
    if oact:
        return Reply.out(0, (oact, _ACTION.pack(old.handler, old.flags, old.restorer, old.mask)))
    return 0


@syscall()
def rt_sigprocmask(task: Task, how: Int, nset: InStruct, oset: Pointer, sigsetsize: Size) -> Answer:
    """rt_sigprocmask(2)."""
    if sigsetsize != 8:
        return -errno.EINVAL
    old = task.blocked
    if nset is not None:
        mask = int.from_bytes(nset[:8], "little")
        if how == 0:
            mask |= old
        elif how == 1:
            mask = old & ~mask
        elif how != 2:
            return -errno.EINVAL
        task.blocked = mask & ~UNBLOCKABLE
        if deliverable(task):
            task.process.container.ring.mark_pending(task)
    if oset:
        return Reply.out(0, (oset, old.to_bytes(8, "little")))
    return 0


@syscall()
def rt_sigpending(task: Task, uset: Pointer, sigsetsize: Size) -> Answer:
    """rt_sigpending(2)."""
    if sigsetsize > 8:
        return -errno.EINVAL
    mask = deliverable(task, blocked=False) & task.blocked
    return Reply.out(0, (uset, mask.to_bytes(8, "little")[:sigsetsize]))


@syscall(restart=Restart.NOHAND)
async def rt_sigsuspend(task: Task, unewset: InStruct, sigsetsize: Size) -> Answer:
    """rt_sigsuspend(2): the mask of before comes back when the handler's frame is made."""
    if sigsetsize != 8 or unewset is None:
        return -errno.EINVAL if sigsetsize != 8 else -errno.EFAULT
    task.saved_mask = task.blocked
    task.blocked = int.from_bytes(unewset[:8], "little") & ~UNBLOCKABLE
    await _forever(task)
    return -errno.EINTR


@syscall(restart=Restart.NOHAND)
async def pause(task: Task) -> Answer:
    """pause(2)."""
    await _forever(task)
    return -errno.EINTR


async def _forever(task: Task) -> None:
    """Sleep until a signal is to be delivered."""
    if not deliverable(task):
        await Waiter()


@syscall(restart=Restart.NEVER)
async def rt_sigtimedwait(
    task: Task, uthese: InStruct, uinfo: Pointer, uts: InStruct, sigsetsize: Size
) -> Answer:
    """rt_sigtimedwait(2): take a pending signal of the set, waiting for one if need be."""
    if sigsetsize != 8:
        return -errno.EINVAL
    if uthese is None:
        return -errno.EFAULT
    wanted = int.from_bytes(uthese[:8], "little") & ~UNBLOCKABLE
    info = _take(task, wanted)
    if info is None:
        timeout = None
        if uts is not None:
            seconds, nanoseconds = struct.unpack("<qq", uts[:16])
            if seconds < 0 or not 0 <= nanoseconds < 10**9:
                return -errno.EINVAL
            timeout = seconds + nanoseconds / 1e9
        if timeout != 0:
            await _wait_for(task, wanted, timeout)
            info = _take(task, wanted)
        if info is None:
            return -errno.EAGAIN
    return Reply.out(info.signal, (uinfo, info.pack())) if uinfo else info.signal


def _take(task: Task, wanted: int) -> Info | None:
    info = task.pending.take(wanted) if task.pending is not None else None
    return info or task.process.signals.pending.take(wanted)


async def _wait_for(task: Task, wanted: int, timeout: float | None) -> None:
    waiter = Waiter()
    waits = task.process.container.signal_waits
    waits[task] = (wanted, waiter)
    timer = None
    if timeout is not None:
        timer = asyncio.get_running_loop().call_later(timeout, waiter.wake)
    try:
        await waiter
    finally:
        waits.pop(task, None)
        if timer is not None:
            timer.cancel()


@syscall()
def sigaltstack(task: Task, uss: InStruct, uoss: Pointer) -> Answer:
    """sigaltstack(2)."""
    address, flags, size = task.alt_stack
    sp = task.slot.q[task.isa.saved_sp // 8]
    on_it = address < sp <= address + size and not flags & _SS_DISABLE
    old = _STACK.pack(address, _SS_ONSTACK if on_it else flags, size)
    if uss is not None:
        if on_it:
            return -errno.EPERM
        new_address, new_flags, new_size = _STACK.unpack(uss[:24])
        mode = new_flags & ~_SS_AUTODISARM & 0xFFFF_FFFF
        if mode not in (0, _SS_ONSTACK, _SS_DISABLE):
            return -errno.EINVAL
        if mode == _SS_DISABLE:
            task.alt_stack = (0, _SS_DISABLE, 0)
        elif new_size < task.abi.constants["MINSIGSTKSZ"]:
            return -errno.ENOMEM
        else:
            task.alt_stack = (new_address, new_flags & _SS_AUTODISARM, new_size)
    return Reply.out(0, (uoss, old)) if uoss else 0


# -- sending -------------------------------------------------------------------------------------


def _may_signal(task: Task, target: Process, signal: int) -> bool:
    """kill(2), PERMISSIONS."""
    who = task.credentials
    leader = target.leader
    if leader is None or who.can(CAP_KILL) or target is task.process:
        return True
    other = leader.credentials
    if who.euid in (other.uid, other.suid) or who.uid in (other.uid, other.suid):
        return True
    return signal == SIGCONT and target.session == task.process.session


@syscall()
def kill(task: Task, pid: Pid, sig: SignalNumber) -> Answer:
    """kill(2)."""
    if not 0 <= sig <= COUNT:
        return -errno.EINVAL
    container = task.process.container
    if pid > 0:
        target = container.pids.get(pid)
        targets = [target] if target is not None else []
    elif pid == -1:
        targets = [p for p in container.pids.values() if p.pid != 1 and p is not task.process]
    else:
        group = task.process.group if pid == 0 else -pid
        targets = [p for p in container.pids.values() if p.group == group]
    if not targets:
        return -errno.ESRCH
    allowed = [p for p in targets if _may_signal(task, p, sig)]
    if not allowed:
        return -errno.EPERM
    if sig:
        for target in allowed:
            send_to_process(target, user_info(sig, SI_USER, task))
    return 0


@syscall()
def tgkill(task: Task, tgid: Pid, pid: Pid, sig: SignalNumber) -> Answer:
    """tgkill(2)."""
    if tgid <= 0 or pid <= 0:
        return -errno.EINVAL
    return _signal_thread(task, pid, tgid, sig)


@syscall()
def tkill(task: Task, pid: Pid, sig: SignalNumber) -> Answer:
    """tkill(2)."""
    if pid <= 0:
        return -errno.EINVAL
    return _signal_thread(task, pid, None, sig)


def _signal_thread(
    task: Task, tid: int, pid: int | None, signal: int, info: Info | None = None
) -> Answer:
    if not 0 <= signal <= COUNT:
        return -errno.EINVAL
    processes = task.process.container.pids
    for process in [processes.get(pid)] if pid is not None else processes.values():
        target = process.tasks.get(tid) if process is not None else None
        if process is not None and target is not None:
            if not _may_signal(task, process, signal):
                return -errno.EPERM
            if signal:
                send_to_task(target, info or user_info(signal, SI_TKILL, task))
            return 0
    return -errno.ESRCH


@syscall()
def rt_sigqueueinfo(task: Task, pid: Pid, sig: SignalNumber, uinfo: InStruct) -> Answer:
    """rt_sigqueueinfo(2)."""
    target = task.process.container.pids.get(pid)
    info = _queued(task, target, sig, uinfo)
    if target is None:
        return -errno.ESRCH
    if not _may_signal(task, target, sig):
        return -errno.EPERM
    if sig:
        send_to_process(target, info)
    return 0


@syscall()
def rt_tgsigqueueinfo(
    task: Task, tgid: Pid, pid: Pid, sig: SignalNumber, uinfo: InStruct
) -> Answer:
    """rt_tgsigqueueinfo(2)."""
    if tgid <= 0 or pid <= 0:
        return -errno.EINVAL
    target = task.process.container.pids.get(tgid)
    return _signal_thread(task, pid, tgid, sig, _queued(task, target, sig, uinfo))


def _queued(task: Task, target: Process | None, signal: int, raw: bytes | None) -> Info:
    if raw is None:
        raise LinuxError(errno.EFAULT)
    if not 0 <= signal <= COUNT:
        raise LinuxError(errno.EINVAL)
    error, code = struct.unpack_from("<ii", raw, 4)
    if (code >= 0 or code == SI_TKILL) and target is not task.process:
        raise LinuxError(errno.EPERM)
    return Info(signal, code, error, raw[16:128])


@syscall(missing="flags")
async def pidfd_send_signal(
    task: Task, pidfd: Int, sig: SignalNumber, info: InStruct, flags: Int
) -> Answer:
    """pidfd_send_signal(2)."""
    if flags:
        return -errno.EINVAL
    target = task.process.container.pids.get(await pid_of_pidfd(task, pidfd))
    if target is None or target.zombie:
        return -errno.ESRCH
    if not _may_signal(task, target, sig):
        return -errno.EPERM
    if sig:
        chosen = user_info(sig, SI_USER, task)
        if info is not None:
            chosen = _queued(task, target, sig, info)
        send_to_process(target, chosen)
    return 0
