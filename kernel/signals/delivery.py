"""DELIVER: a thread stands in its host signal handler and asks what to do next.

The host's frame is in the slot. We note the host signals that arrived, restart an interrupted call
or let it fail, put the next deliverable signal's frame on the guest's stack, and let the handler
return into the result. A thread leaves native code only through here.
"""

from __future__ import annotations

import errno
import logging
import struct
from typing import TYPE_CHECKING

from codegen.layout import PAYLOAD, Op, Reason, Slot
from kernel.errors import LinuxError
from kernel.reply import Program
from kernel.robust import release_all
from kernel.signals.injection import errands
from kernel.signals.jobcontrol import settle_refusal
from kernel.signals.sending import send_to_process, stop
from kernel.signals.state import (
    IGNORED_BY_DEFAULT,
    SA_NODEFER,
    SA_ONSTACK,
    SA_RESETHAND,
    SA_RESTART,
    SA_RESTORER,
    SI_KERNEL,
    SIG_DFL,
    SIG_IGN,
    SIGKILL,
    SIGSEGV,
    STOPS,
    UNBLOCKABLE,
    Action,
    Info,
    Pending,
    bit,
)

if TYPE_CHECKING:
    from kernel.isa.frames import HostFrame
    from kernel.task import Task

_log = logging.getLogger("ddock.kernel")
_ARGS, _REASON, _SAVED_NR = Slot.ARGS // 8, Slot.REASON // 8, Slot.SAVED_NR // 8
_HOST_SIGNALS = Slot.HOST_SIGNALS // 8
_FUTEX_LOCKS = (6, 13)  # FUTEX_LOCK_PI, FUTEX_LOCK_PI2
_SO_RCVTIMEO, _SO_SNDTIMEO = 20, 21
_TIME_LIMITS = {
    **dict.fromkeys(
        ("read", "readv", "recvfrom", "recvmsg", "recvmmsg", "accept", "accept4"), _SO_RCVTIMEO
    ),
    **dict.fromkeys(
        ("write", "writev", "sendto", "sendmsg", "sendmmsg", "connect", "sendfile"), _SO_SNDTIMEO
    ),
}
_SS_ONSTACK, _SS_DISABLE = 1, 2
_SS_AUTODISARM = 1 << 31


def note_host_signals(task: Task) -> None:
    """Host signals (from a terminal, a broken pipe, host timers) become virtual ones."""
    q = task.slot.q
    arrived, q[_HOST_SIGNALS] = q[_HOST_SIGNALS], 0
    while arrived:
        signal = (arrived & -arrived).bit_length()
        arrived &= arrived - 1
        send_to_process(task.process, Info(signal, SI_KERNEL))


async def deliver(task: Task) -> None:
    """Answer a DELIVER request. Leaves a program that ends with RETURN in the slot."""
    q = task.slot.q
    reason = q[_REASON]
    task.process.container.ring.clear_pending(task)
    try:
        host = task.frames.host(task.slot, q[_ARGS + 2])
    except ValueError:
        task.process.container.kill(task.process, SIGSEGV)
        return
    if task.process.doomed:
        await release_all(task)
        task.process.container.kill(task.process, SIGKILL)
        return
    restart_nr = -1
    if reason == Reason.FATAL:
        _log.error("stub of pid %d faulted at %#x", task.process.pid, host.instruction_pointer)
        task.process.container.kill(task.process, SIGSEGV)
        return
    interruptions = task.process.container.translations.interruptions
    if interruptions is not None and reason != Reason.FAULT:
        await interruptions.settle(task, host)
    if reason == Reason.FAULT:
        raw = _fault_info(task, q[_ARGS + 1])
        if interruptions is not None:
            code, address = struct.unpack_from("<i4xQ", raw, 8)
            outcome = await interruptions.fault(task, host, q[_ARGS], code, address)
            if not outcome.again:
                _continue(task, host)
                return
        if interruptions is None or outcome.theirs:
            _fault(task, q[_ARGS], raw)
    elif reason == Reason.SIGRETURN:
        await _sigreturn(task, host)
    elif reason == Reason.BEFORE:
        host.set_number(q[_SAVED_NR])
    elif reason == Reason.INTERRUPTED:
        if host.result == -errno.EINTR or await settle_refusal(task, host, q[_SAVED_NR]):
            restart_nr = q[_SAVED_NR]
    elif reason == Reason.AFTER and task.restart_nr >= 0:
        restart_nr, task.restart_nr = task.restart_nr, -1
    note_host_signals(task)
    await _next_signals(task, host, restart_nr)


async def _next_signals(task: Task, host: HostFrame, restart_nr: int) -> None:
    """Act on every deliverable signal, then let the thread continue in `host`."""
    process = task.process
    frames_made = 0
    while not process.ending:
        info = _take(task)
        if info is None:
            break
        action = process.signals.actions[info.signal]
        if action.handler == SIG_IGN:
            continue
        if action.handler == SIG_DFL:
            if bit(info.signal) & IGNORED_BY_DEFAULT or process.unkillable:
                continue
            if bit(info.signal) & STOPS:
                stop(process, info.signal)
                continue
            await release_all(task)
            process.container.kill(process, info.signal)
            return
        if restart_nr >= 0:
            await _settle_call(task, host, restart_nr, action)
            restart_nr = -1
        if not await _push_frame(task, host, info, action):
            process.container.kill(process, SIGSEGV)
            return
        frames_made += 1
    if process.ending:
        return
    if restart_nr >= 0:
        host.restart(restart_nr)
    if task.saved_mask is not None and not frames_made:
        task.blocked, task.saved_mask = task.saved_mask, None
    await _run_errands(task)
    _continue(task, host)


def _continue(task: Task, host: HostFrame) -> None:
    """Let the thread go on in `host`."""
    host.save()
    program = Program()
    program.op(Op.RETURN)
    program.emit(task)


async def _run_errands(task: Task) -> None:
    """Make the host calls other processes have asked of this thread (setpgid)."""
    if not task.errands:
        return
    program = Program()
    errands(task, program)
    await task.run(program)
    done, task.errands_done = task.errands_done, []
    for waiter in done:
        waiter.wake()


def _take(task: Task) -> Info | None:
    wanted = ~task.blocked
    info = task.pending.take(wanted) if task.pending is not None else None
    return info or task.process.signals.pending.take(wanted)


async def _settle_call(task: Task, host: HostFrame, number: int, action: Action) -> None:
    """A handler will run: the interrupted call restarts after it or fails with EINTR."""
    container = task.process.container
    rule = container.restart_rule(number)
    if rule == "futex":
        rule = _futex_rule(host)
    restarts = rule == "nointr" or (rule == "always" and bool(action.flags & SA_RESTART))
    if restarts and container.socket_timeouts and await _has_time_limit(task, host, number):
        restarts = False
    if restarts:
        host.restart(number)
    else:
        host.set_result(-errno.EINTR)


def _futex_rule(host: HostFrame) -> str:
    """kernel/futex/: taking a lock never fails with EINTR, a wait with a timeout always does."""
    operation = host.arguments[1] & 0x7F
    if operation in _FUTEX_LOCKS:
        return "nointr"
    return "block" if host.arguments[3] else "always"


async def _has_time_limit(task: Task, host: HostFrame, number: int) -> bool:
    """Is it a call on a socket with a time limit? Then it never restarts (signal(7))."""
    name = task.abi.names.get(number)
    option = _TIME_LIMITS.get(name) if name is not None else None
    if option is None:
        return False
    program = Program()
    base = task.slot.address + PAYLOAD
    value = program.store(bytes(16))
    length = base + program.store(struct.pack("<I", 16))
    program.op(
        Op.HOSTCALL, host.arguments[0], 1, option, base + value, length,
        nr=task.abi.numbers["getsockopt"],
    )  # fmt: skip
    await task.run(program)
    return task.result(0) == 0 and any(task.slot.read_payload(value, 16))


async def _push_frame(task: Task, host: HostFrame, info: Info, action: Action) -> bool:
    """Build the handler's frame on the right stack; False if it cannot be written."""
    sp = host.stack_pointer
    alt, flags, size = task.alt_stack
    on_alternate = alt < sp <= alt + size and not flags & _SS_DISABLE
    top, switched = sp, False
    if action.flags & SA_ONSTACK and not flags & _SS_DISABLE and not on_alternate:
        top, switched = alt + size, True
    mask = task.saved_mask if task.saved_mask is not None else task.blocked
    shown = (alt, _SS_ONSTACK if on_alternate else flags, size)
    backup = list(host.registers)
    address, data = task.frames.build(
        host, info, action.handler, _restorer(task, action), top, switched, shown, mask
    )
    try:
        await task.copy_out(address, data)
    except LinuxError:
        host.registers = backup
        return False
    task.saved_mask = None
    task.blocked |= action.mask | (0 if action.flags & SA_NODEFER else bit(info.signal))
    task.blocked &= ~UNBLOCKABLE
    if action.flags & SA_RESETHAND:
        task.process.signals.actions[info.signal] = Action()
    if flags & _SS_AUTODISARM:
        task.alt_stack = (0, _SS_DISABLE, 0)
    return True


def _restorer(task: Task, action: Action) -> int:
    """Where a handler returns to: the program's own code, or the stub's if the C library has none.

    That is the vDSO's place in Linux, on machines whose C libraries rely on it.
    """
    if action.flags & SA_RESTORER:
        return action.restorer
    return task.process.container.stub.symbols.get("guest_sigreturn", action.restorer)


async def _sigreturn(task: Task, host: HostFrame) -> None:
    """rt_sigreturn(2): continue from the frame at the guest's stack pointer."""
    try:
        frames = task.frames
        guest = frames.parse(await task.copy_in(host.stack_pointer, frames.read_size))
        frames.load(host, guest)
        if guest.fp_address:
            host.set_floating_point(await task.copy_in(guest.fp_address, host.fp_size))
    except LinuxError:
        _force(task, Info(SIGSEGV, SI_KERNEL))
        return
    task.blocked = guest.mask & ~UNBLOCKABLE
    if not guest.alt_stack[1] & _SS_ONSTACK:
        task.alt_stack = guest.alt_stack


def _fault_info(task: Task, address: int) -> bytes:
    """The host's siginfo in the slot."""
    try:
        return task.slot.read(address, 128)
    except ValueError:
        return bytes(128)


def _fault(task: Task, signal: int, raw: bytes) -> None:
    """The host's siginfo of a synchronous fault is the guest's, byte for byte."""
    code, error = struct.unpack_from("<i", raw, 8)[0], struct.unpack_from("<i", raw, 4)[0]
    _force(task, Info(signal & 63, code, error, raw[16:]))


def _force(task: Task, info: Info) -> None:
    """A signal that cannot be put off: blocked or ignored, it takes the default action."""
    task.process.unkillable = False
    actions = task.process.signals.actions
    b = bit(info.signal)
    if task.blocked & b or actions[info.signal].handler == SIG_IGN:
        actions[info.signal] = Action()
        task.blocked &= ~b
    if task.pending is None:
        task.pending = Pending()
    task.pending.add(info)
