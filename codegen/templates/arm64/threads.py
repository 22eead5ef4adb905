"""Whose slot? The guest keeps all its registers, so the slot is found by TPIDR_EL0.

A table of this process's threads maps the thread pointer to the slot. Only a thread's own stub
enters and removes its key: at its start, when the guest sets the register (`msr tpidr_el0` is
patched like `svc`), at its end. Two threads with one key make it ambiguous for good: slot 0. Who
is not in the table, shares a key or has none asks the host for its alternate signal stack, which
lies in the slot and which no guest call can move.
"""

from __future__ import annotations

from codegen.asm.arm64 import (
    X,
    at,
    indexed,
    sp,
    x0,
    x1,
    x8,
    x9,
    x10,
    x11,
    x12,
    x13,
    x14,
    x15,
    x16,
    x17,
    x28,
    x30,
    xzr,
)
from codegen.layout import ALT_STACK, STUB_MEMORY, Slot, SlotArm64, Trampoline
from codegen.templates.arm64.common import HostCall, Stub

TABLE = STUB_MEMORY  # within reach of `adr`
ENTRIES_BITS = 11
TABLE_BYTES = 16 << ENTRIES_BITS  # an entry: u64 key, u64 slot
_ASK = 96  # bytes below sp that asking the host takes


def find(s: Stub, name: str) -> None:
    """x17 = slot, the scratch registers saved in it; x30 = where to return to. Falls through.

    x17 and x30 of the guest lie at [sp, #-32]. Until the last line of the part a fault means that
    there is no stack: see signals.prologue_fault.
    """
    a = s.a
    miss, found = a.label(f"{name}_miss"), a.label(f"{name}_found")
    a.stp(x15, x16, at(sp, -16))
    a.mrs(x17, "tpidr_el0")
    a.eor(x16, x17, x17, "lsr #16")
    a.ubfx(x16, x16, 4, ENTRIES_BITS)
    a.load_address(x15, s["thread_table"])
    a.add(x15, x15, x16, "lsl #4")
    a.ldp(x16, x15, at(x15))
    a.sub(x16, x16, x17)
    a.cbnz(x16, miss)
    a.cbz(x15, miss)
    a.mov(x17, x15)
    a.bind(found)
    a.ldp(x15, x16, at(sp, -16))
    a.stp(x15, x16, at(x17, SlotArm64.SAVED_X15))
    a.ldp(x15, x16, at(sp, -32))
    a.stp(x15, x16, at(x17, SlotArm64.SAVED_X17))
    a.str_(x30, at(x17, SlotArm64.RETURN))
    if s.variant.reserved_x18:
        a.mov(X[18], xzr)  # as the host may: whoever counts on it shall notice
    s.bind(f"{name}_saved")
    s.misses.append((miss, found))


def misses(s: Stub) -> None:
    """The other half of `find`: sigaltstack(NULL, &old) tells the slot."""
    a = s.a
    s.bind("misses")
    for miss, found in s.misses:
        a.bind(miss)
        a.stp(x0, x1, at(sp, -48))
        a.str_(x8, at(sp, -56))
        a.str_(xzr, at(sp, -_ASK))
        a.mov(x0, xzr)
        a.sub(x1, sp, _ASK)
        s.host_call(HostCall.SIGALTSTACK)
        a.ldr(x17, at(sp, -_ASK))
        a.sub(x17, x17, ALT_STACK >> 12, "lsl #12")
        a.ldp(x0, x1, at(sp, -48))
        a.ldr(x8, at(sp, -56))
        a.b(found)
    s.bind("misses_end")


def set_tls(s: Stub) -> None:
    """set_tls: the guest's `msr tpidr_el0, Xt`; t stands in the trampoline."""
    a = s.a
    ready = a.label("tls_value")
    s.bind("set_tls")
    find(s, "set_tls")
    s.save_registers()
    s.load(x9, SlotArm64.RETURN)
    a.ldr(x9.w, at(x9, Trampoline.REGISTER - Trampoline.BACK))
    if s.variant.reserved_x18:
        s.load(x10, SlotArm64.X18)
        a.str_(x10, at(x16, 8 * 18))
    a.mov(x10, xzr)
    a.cmp(x9, 31)
    a.b_eq(ready)
    a.ldr(x10, indexed(x16, x9, 3))
    a.bind(ready)
    s.far(x9, x28, SlotArm64.STACK_TOP)
    a.mov(sp, x9)
    a.str_(x10, "[sp, #-16]!")
    a.bl(s["forget_key"])
    a.ldr(x10, "[sp], #16")
    a.msr("tpidr_el0", x10)
    a.bl(s["learn_key"])
    s.far(x16, x28, SlotArm64.XREGS)
    a.ldr(x0, at(x16))
    a.b(s["resume"])


def use_x18(s: Stub) -> None:
    """use_x18: an instruction that names x18 is about to run in its trampoline's body.

    Nothing but the slot's address in x30 is brought. A signal that is pending is delivered now: the
    kick may have found this thread in the stub.
    """
    a = s.a
    s.bind("use_x18")
    find(s, "use_x18")
    s.bind("x18_check")
    a.ldr(x16.w, at(x17, Slot.PENDING))
    a.cbnz(x16.w, s["trap_x18"])
    a.ldp(x15, x16, at(x17, SlotArm64.SAVED_X15))
    a.mov(x30, x17)
    a.ldr(x17, at(x17, SlotArm64.RETURN))
    s.bind("x18_jump")
    a.br(x17)


def keys(s: Stub) -> None:
    """learn_key: x10 = TPIDR_EL0 of this thread. forget_key: it has another now, or ends.

    Both destroy x9..x14. x28 = slot.
    """
    a = s.a
    claim, taken = a.label("key_claim"), a.label("key_taken")
    other, out = a.label("key_other"), a.label("key_out")
    s.bind("learn_key")
    s.store(xzr, SlotArm64.KEY)
    a.cbz(x10, out)
    _entry(s)
    a.bind(claim)  # key and slot at once: a thread with the same key may be here too
    a.ldaxp(x13, x14, at(x12))
    a.cbnz(x13, taken)
    a.stlxp(x14.w, x10, x28, at(x12))
    a.cbnz(x14.w, claim)
    s.store(x10, SlotArm64.KEY)
    a.ret()
    a.bind(taken)
    a.cmp(x13, x10)
    a.b_ne(other)
    a.stlxp(x14.w, x10, xzr, at(x12))  # another thread's key too
    a.cbnz(x14.w, claim)
    a.ret()
    a.bind(other)
    a.clrex()
    a.bind(out)
    a.ret()
    s.bind("forget_key")
    mine = a.label("key_mine")
    s.load(x10, SlotArm64.KEY)
    a.cbz(x10, out)
    s.store(xzr, SlotArm64.KEY)
    _entry(s)
    a.ldr(x13, at(x12, 8))
    a.cmp(x13, x28)
    a.b_eq(mine)
    a.ret()
    a.bind(mine)
    a.str_(xzr, at(x12, 8))
    a.dmb("ish")
    a.str_(xzr, at(x12))
    a.ret()


def _entry(s: Stub) -> None:
    """x12 = the entry of key x10."""
    a = s.a
    a.eor(x11, x10, x10, "lsr #16")
    a.ubfx(x11, x11, 4, ENTRIES_BITS)
    a.load_address(x12, s["thread_table"])
    a.add(x12, x12, x11, "lsl #4")


def fresh_table(s: Stub) -> None:
    """Map an empty table: at the start of a program and in a forked child."""
    a = s.a
    a.load_address(x0, s["thread_table"])
    a.constant(x1, TABLE_BYTES)
    a.mov(X[2], 3)  # PROT_READ | PROT_WRITE
    a.mov(X[3], 0x32)  # MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS
    a.constant(X[4], -1)
    a.mov(X[5], xzr)
    s.host_call(HostCall.MMAP)


__all__ = ["TABLE", "TABLE_BYTES", "find", "fresh_table", "keys", "misses", "set_tls", "use_x18"]
