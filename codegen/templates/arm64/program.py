"""The reply program's interpreter: the kernel composes, the stub obeys.

x25 = current op, x26 = ops left, x28 = slot. Runs on the stub's stack (a reply to a system call) or
on the alternate stack (a reply to DELIVER). Every op leaves its result in x0 and goes to `op_done`.
"""

from __future__ import annotations

from codegen.asm.arm64 import (
    X,
    at,
    indexed,
    sp,
    x0,
    x1,
    x2,
    x3,
    x8,
    x9,
    x10,
    x16,
    x25,
    x26,
    x28,
    xzr,
)
from codegen.layout import PAYLOAD, Op, Request, Slot, SlotArm64
from codegen.templates.arm64.common import ARGUMENTS, HostCall, Stub

_EINTR, _EFAULT = -4, -14


def interpreter(s: Stub) -> None:
    """program: run the ops in the slot; END, ENTER, RETURN or a plain reply leave it."""
    a = s.a
    s.bind("program")
    s.load(x26, Slot.OPS)
    a.add(x25, x28, Slot.PROGRAM)
    s.bind("op_next")
    a.subs(x26, x26, 1)
    a.b_mi(s["stub_broken"])
    for i in range(0, 6, 2):
        a.ldp(ARGUMENTS[i], ARGUMENTS[i + 1], at(x25, 16 + 8 * i))
    a.ldrh(x9.w, at(x25, 2))
    a.cbz(x9.w, s["op_dispatch"])
    a.add(x10, x28, Slot.RESULTS)
    for i, register in enumerate(ARGUMENTS):
        literal = a.label("literal")
        a.tbz(x9.w, i, literal)
        a.ldr(register, indexed(x10, register, 3))
        a.bind(literal)
    s.bind("op_dispatch")
    a.ldrb(x9.w, at(x25))
    a.load_address(x10, s["op_table"])
    a.ldr(x10, indexed(x10, x9, 3))
    a.br(x10)

    s.bind("op_done")
    a.ldrb(x9.w, at(x25, 1))
    a.and_(x9.w, x9.w, 15)
    a.add(x10, x28, Slot.RESULTS)
    a.str_(x0, indexed(x10, x9, 3))
    a.ldr(x9.w, at(x25, 4))
    a.tst(x9.w, Op.REPORT_EINTR)
    a.b_eq(s["op_check"])
    a.cmn(x0, -_EINTR)
    a.b_eq(s["op_failed"])
    s.bind("op_check")
    a.tst(x9.w, Op.CHECKED)
    a.b_eq(s["op_advance"])
    a.cmn(x0, 4095)
    a.b_hs(s["op_failed"])
    s.bind("op_advance")
    a.add(x25, x25, Slot.OP_SIZE)
    a.b(s["op_next"])
    s.bind("op_failed")
    a.sub(x25, x25, x28)
    a.sub(x25, x25, Slot.PROGRAM)
    a.lsr(x25, x25, 6)
    s.store(x25, Slot.ARGS)
    s.store(x0, Slot.ARGS + 8)
    a.constant(x9, Request.FAILED)
    s.store(x9, Slot.NR)
    a.b(s["post"])
    s.bind("op_continue")
    a.constant(x9, Request.CONTINUED)
    s.store(x9, Slot.NR)
    a.b(s["post"])
    s.bind("op_end")
    a.b(s["resume"])


def host_calls(s: Stub) -> None:
    """HOSTCALL. The interruptible form has the same window as a native call (see entry)."""
    a = s.a
    s.bind("op_hostcall")
    plain = a.label("hostcall_plain")
    a.ldr(x8, at(x25, 8))
    a.ldr(x9.w, at(x25, 4))
    a.tst(x9.w, Op.INTERRUPTIBLE)
    a.b_eq(plain)
    s.bind("hostcall_check")
    a.ldr(x9.w, at(x28, Slot.PENDING))
    a.cbnz(x9.w, s["hostcall_interrupted"])
    s.bind("hostcall_call")
    a.svc(0)
    a.b(s["op_done"])
    a.bind(plain)
    a.svc(0)
    a.b(s["op_done"])
    s.bind("hostcall_interrupted")
    a.constant(x0, _EINTR)
    a.b(s["op_done"])


def memory(s: Stub) -> None:
    """The ops on guest memory: a bad address gives -EFAULT as the op's result."""
    a = s.a
    again, other = a.label("cmpxchg_again"), a.label("cmpxchg_other")
    s.bind("op_copy_out")
    _guard(s)
    s.far(x9, x28, PAYLOAD)
    a.add(x1, x1, x9)
    a.bl(s["copy"])
    a.b(s["op_unguard"])
    s.bind("op_copy_in")
    _guard(s)
    s.far(x9, x28, PAYLOAD)
    a.add(x9, x1, x9)
    a.mov(x1, x0)
    a.mov(x0, x9)
    a.bl(s["copy"])
    a.b(s["op_unguard"])
    s.bind("op_cmpxchg32")
    _guard(s)
    a.mov(x9, x0)
    a.bind(again)
    a.ldaxr(x0.w, at(x9))
    a.cmp(x0.w, x1.w)
    a.b_ne(other)
    a.stlxr(x10.w, x2.w, at(x9))
    a.cbnz(x10.w, again)
    a.bind(other)
    a.clrex()
    s.store(xzr, Slot.FIXUP)
    a.b(s["op_done"])
    s.bind("op_store32")
    _guard(s)
    a.str_(x1.w, at(x0))
    s.bind("op_unguard")
    s.store(xzr, Slot.FIXUP)
    a.mov(x0, xzr)
    a.b(s["op_done"])
    s.bind("op_fault")
    s.store(xzr, Slot.FIXUP)
    a.constant(x0, _EFAULT)
    a.b(s["op_done"])


def _guard(s: Stub) -> None:
    s.a.load_address(x9, s["op_fault"])
    s.store(x9, Slot.FIXUP)


def unblock_signals(s: Stub) -> None:
    """Empty host signal mask; 16 bytes of stack are used."""
    a = s.a
    a.str_(xzr, "[sp, #-16]!")
    a.mov(x0, 2)  # SIG_SETMASK
    a.mov(x1, sp)
    a.mov(x2, xzr)
    a.mov(x3, 8)
    s.host_call(HostCall.RT_SIGPROCMASK)
    a.add(sp, sp, 16)


def enter(s: Stub) -> None:
    """ENTER: a fresh program: x0 = pc, x1 = sp, every other register zero (but x16 = pc).

    PENDING is looked at in a window of its own, as before any guest instruction.
    """
    a = s.a
    s.bind("op_enter")
    a.mov(x25, x0)
    a.mov(x26, x1)
    unblock_signals(s)
    a.mov(x16, x25)
    a.mov(sp, x26)
    a.mov(X[17], x28)
    if s.variant.reserved_x18:
        s.store(xzr, SlotArm64.X18)
    for register in (*X[:16], *X[18:]):
        a.mov(register, xzr)
    a.msr("tpidr_el0", xzr)
    s.bind("enter_check")
    a.ldr(X[15].w, at(X[17], Slot.PENDING))
    a.cbnz(X[15].w, s["trap_enter"])
    a.mov(X[17], xzr)
    s.bind("enter_jump")
    a.br(x16)


__all__ = ["enter", "host_calls", "interpreter", "memory", "unblock_signals"]
