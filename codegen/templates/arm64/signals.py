"""The host signal handler: every host signal of a guest thread arrives here.

A kick or a host signal in guest code posts DELIVER: the kernel reads and edits the frame in place
(it lies in the slot, which is shared memory) and the handler returns into whatever the kernel
decided. So does a call that the filter trapped (SIGSYS): the kernel sends it through the stub. In
the stub's own code only the windows matter. All host signals are blocked while the handler runs
(sa_mask). It runs on the alternate stack, so sp tells the slot.
"""

from __future__ import annotations

from codegen.asm.arm64 import (
    X,
    at,
    sp,
    x0,
    x1,
    x2,
    x9,
    x10,
    x11,
    x12,
    x13,
    x14,
    x28,
    xzr,
)
from codegen.layout import (
    KICK_SIGNAL,
    LARGEST_PAGE,
    SLOT_SIZE,
    STUB_BASE,
    STUB_MEMORY,
    STUB_TEXT_LIMIT,
    Reason,
    Request,
    Slot,
    SlotArm64,
    State,
    Trampoline,
)
from codegen.templates.arm64.common import HostCall, Stub

SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS = 4, 5, 7, 8, 11, 31
_SYNCHRONOUS = (SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS)
# Offsets in ucontext (asm/ucontext.h, asm/sigcontext.h).
REGS, SP, PC = 184, 432, 440
# brk sites: (label, reason).
_TRAPS = (
    ("trap_before", Reason.BEFORE),
    ("trap_interrupted", Reason.INTERRUPTED),
    ("trap_after", Reason.AFTER),
    ("trap_enter", Reason.ASYNC),
    ("sigreturn", Reason.SIGRETURN),
    ("stub_broken", Reason.FATAL),
)


# Where a handler without a restorer returns to. Unwinders know a signal frame by these two words at
# its return address: `mov x8, #139` ends an executable page, `svc #0` begins one that is not.
SIGRETURN_PAGES = STUB_MEMORY + 0x2_0000
GUEST_SIGRETURN = SIGRETURN_PAGES + LARGEST_PAGE - 4
_MOV_SIGRETURN, _SVC = 0xD280_1168, 0xD400_0001


def _reg(n: int) -> int:
    return REGS + 8 * n


def _traps_of(s: Stub) -> tuple[tuple[str, int], ...]:
    return (*_TRAPS, ("trap_x18", Reason.ASYNC)) if s.variant.reserved_x18 else _TRAPS


def _finders(s: Stub) -> tuple[str, ...]:
    """The labels at which the stub looks for its slot."""
    return ("entry", "set_tls", "use_x18") if s.variant.reserved_x18 else ("entry", "set_tls")


def traps(s: Stub) -> None:
    """Breakpoints that turn a state of the stub into a host frame with all registers in it."""
    for label, _ in _traps_of(s):
        s.bind(label)
        s.a.brk(0)


def sigreturn_pages(s: Stub) -> None:
    """Map the words at `guest_sigreturn`."""
    a = s.a
    a.constant(x0, SIGRETURN_PAGES)
    a.constant(x1, 2 * LARGEST_PAGE)
    a.mov(x2, 3)  # PROT_READ | PROT_WRITE
    a.mov(X[3], 0x32)  # MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS
    a.constant(X[4], -1)
    a.mov(X[5], xzr)
    s.host_call(HostCall.MMAP)
    a.load_address(x9, s["guest_sigreturn"])
    a.constant(x10, _MOV_SIGRETURN)
    a.constant(x11, _SVC)
    a.stp(x10.w, x11.w, at(x9))
    for page, protection in ((SIGRETURN_PAGES, 5), (SIGRETURN_PAGES + LARGEST_PAGE, 1)):
        a.constant(x0, page)
        a.constant(x1, LARGEST_PAGE)
        a.mov(x2, protection)
        s.host_call(HostCall.MPROTECT)


def handler(s: Stub) -> None:
    """handler: x0 = signal, x1 = siginfo, x2 = ucontext."""
    a = s.a
    s.bind("handler")
    a.mov(x28, sp)
    a.and_(x28, x28, f"#{(1 << 64) - SLOT_SIZE:#x}")
    a.mov(x9, sp)
    s.store(x9, Slot.HANDLER_RSP)
    a.ldr(x9, at(x2, PC))
    a.constant(x10, STUB_BASE)
    a.sub(x10, x9, x10)
    a.lsr(x10, x10, (STUB_TEXT_LIMIT - STUB_BASE).bit_length() - 1)
    a.cbz(x10, s["in_stub"])
    a.mov(x11, Reason.ASYNC)
    a.cmp(x0, KICK_SIGNAL)
    a.b_eq(s["deliver"])
    for signal in _SYNCHRONOUS:
        a.cmp(x0, signal)
        a.b_eq(s["maybe_fault"])
    s.bind("host_signal")
    a.mov(x11, Reason.ASYNC)
    _record(s)
    a.b(s["deliver"])
    s.bind("maybe_fault")  # si_code <= 0: sent by a process, not raised by the instruction
    a.ldr(x10.w, at(x1, 8))
    a.cmp(x10.w, 0)
    a.b_le(s["host_signal"])
    a.mov(x11, Reason.FAULT)
    s.bind("deliver")  # x11 = reason
    s.store(x11, Slot.REASON)
    s.store(x0, Slot.ARGS)
    s.store(x1, Slot.ARGS + 8)
    s.store(x2, Slot.ARGS + 16)
    a.constant(x9, Request.DELIVER)
    s.store(x9, Slot.NR)
    a.b(s["post"])
    s.bind("handler_return")
    s.load(x9, Slot.HANDLER_RSP)
    a.mov(sp, x9)
    s.bind("restorer")
    s.host_call(HostCall.RT_SIGRETURN)
    a.brk(1)
    _in_stub(s)
    _prologue_fault(s)


def _record(s: Stub) -> None:
    """Note host signal x0 in HOST_SIGNALS."""
    a = s.a
    a.sub(x12, x0, 1)
    a.mov(x13, 1)
    a.lsl(x13, x13, x12)
    s.load(x12, Slot.HOST_SIGNALS)
    a.orr(x12, x12, x13)
    s.store(x12, Slot.HOST_SIGNALS)


def _in_stub(s: Stub) -> None:
    """Interrupted inside the stub: x9 = pc."""
    a = s.a
    s.bind("in_stub")
    not_copy = a.label("not_copy")
    for signal in (SIGSEGV, SIGBUS):
        a.cmp(x0, signal)
        a.b_eq(s["stub_fault"])
    a.b(not_copy)
    s.bind("stub_fault")
    a.load_address(x10, s["guest_sigreturn"])
    a.add(x10, x10, 4)
    a.mov(x11, Reason.SIGRETURN)
    a.cmp(x9, x10)
    a.b_eq(s["deliver"])
    s.load(x10, Slot.FIXUP)
    a.cbz(x10, s["prologue_fault"])
    a.str_(x10, at(x2, PC))
    a.b(s["handler_return"])
    a.bind(not_copy)
    a.cmp(x0, SIGSYS)  # the filter denied the stub itself
    a.b_eq(s["fatal"])
    a.cmp(x0, SIGTRAP)
    a.b_ne(s["asynchronous"])
    for label, reason in _traps_of(s):
        other = a.label("other_trap")
        a.load_address(x10, s[label])
        a.cmp(x9, x10)
        a.b_ne(other)
        a.mov(x11, reason)
        _fix_frame(s, label, reason)
        a.b(s["deliver"])
        a.bind(other)
    s.bind("fatal")
    a.mov(x11, Reason.FATAL)
    a.b(s["deliver"])
    _windows(s)


def _fix_frame(s: Stub, label: str, reason: int) -> None:
    """Make the frame say what the guest would see."""
    a = s.a
    if label == "trap_enter":
        a.ldr(x9, at(x2, _reg(16)))
        a.str_(x9, at(x2, PC))
        a.str_(xzr, at(x2, _reg(15)))
        a.str_(xzr, at(x2, _reg(17)))
    if reason not in (Reason.BEFORE, Reason.INTERRUPTED, Reason.AFTER) and label != "trap_x18":
        return
    a.ldp(x9, x10, at(x28, SlotArm64.SAVED_X15))
    a.stp(x9, x10, at(x2, _reg(15)))
    a.ldp(x9, x10, at(x28, SlotArm64.SAVED_X17))
    a.str_(x9, at(x2, _reg(17)))
    a.str_(x10, at(x2, _reg(30)))
    s.load(x9, SlotArm64.RETURN)  # behind it stands `b site + 4`
    a.ldr(x10.w, at(x9, 4))
    a.sbfx(x10, x10, 0, 26)
    a.add(x9, x9, x10, "lsl #2")
    if reason in (Reason.INTERRUPTED, Reason.AFTER):
        a.add(x9, x9, 4)
    a.str_(x9, at(x2, PC))


def _windows(s: Stub) -> None:
    """A kick or host signal in the stub's own code."""
    a = s.a
    s.bind("asynchronous")
    a.cmp(x0, KICK_SIGNAL)
    a.b_eq(s["windows"])
    _record(s)
    a.mov(x10, 1)
    a.str_(x10.w, at(x28, Slot.PENDING))
    s.bind("windows")
    windows = [
        ("native_check", "native_call", False),
        ("exit_check", "exit_jump", True),
        ("hostcall_check", "hostcall_call", False),
        ("watch_check", "watch_call", False),
        ("enter_check", "enter_jump", True),
    ]
    if s.variant.reserved_x18:
        windows.append(("x18_check", "x18_jump", True))
    for first, last, reload in windows:
        outside = a.label("outside_window")
        a.load_address(x10, s[first])
        a.cmp(x9, x10)
        a.b_lo(outside)
        a.load_address(x12, s[last])
        a.cmp(x9, x12)
        a.b_hi(outside)
        a.str_(x10, at(x2, PC))
        if reload:
            a.str_(x28, at(x2, _reg(17)))
        a.b(s["handler_return"])
        a.bind(outside)
    s.load(x10, Slot.HOST_SIGNALS)
    a.cbz(x10, s["handler_return"])
    a.ldr(x10.w, at(x28, Slot.STATE))
    a.cmp(x10, State.DONE)
    a.b_eq(s["handler_return"])
    a.mov(x10, 1)
    a.str_(x10.w, at(x28, Slot.ATTENTION))
    a.bl(s["ring"])
    a.b(s["handler_return"])


def _prologue_fault(s: Stub) -> None:
    """There is no stack below the guest's sp to find the slot with: but we know it here.

    x9 = pc. Only what the trampoline stored is certain to be readable.
    """
    a = s.a
    s.bind("prologue_fault")
    inside, stored = a.label("prologue_inside"), a.label("prologue_stored")
    entry = a.label("prologue_entry")
    finders = _finders(s)
    for first, last in (*((name, f"{name}_saved") for name in finders), ("misses", "misses_end")):
        outside = a.label("outside_prologue")
        a.load_address(x10, s[first])
        a.cmp(x9, x10)
        a.b_lo(outside)
        a.load_address(x12, s[last])
        a.cmp(x9, x12)
        a.b_lo(inside)
        a.bind(outside)
    a.b(s["fatal"])
    a.bind(inside)
    a.ldr(x10, at(x2, SP))
    a.ldp(x11, x12, at(x10, -32))
    a.stp(x11, x12, at(x28, SlotArm64.SAVED_X17))
    a.ldp(x11, x12, at(x2, _reg(15)))
    for first in finders:
        a.load_address(x13, s[first])
        a.cmp(x9, x13)
        a.b_eq(stored)
    a.ldp(x11, x12, at(x10, -16))
    a.bind(stored)
    a.stp(x11, x12, at(x28, SlotArm64.SAVED_X15))
    a.ldr(x11, at(x2, _reg(30)))
    s.store(x11, SlotArm64.RETURN)
    a.str_(x28, at(x2, _reg(17)))
    a.ldr(x12, at(x11, Trampoline.ENTRY - Trampoline.BACK))
    for name in finders[:-1]:
        a.load_address(x13, s[name])
        a.cmp(x12, x13)
        a.load_address(x14, s[f"{name}_saved"])
        a.b_eq(entry)
    a.load_address(x14, s[f"{finders[-1]}_saved"])
    a.bind(entry)
    a.str_(x14, at(x2, PC))
    a.b(s["handler_return"])
