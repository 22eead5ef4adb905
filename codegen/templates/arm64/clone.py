"""CLONE: the parent goes on with the program; the child starts from its own slot's registers.

Host signals are blocked across the call (the program does it), because the child has no alternate
stack of its own until it has set one.
"""

from __future__ import annotations

from codegen.asm.arm64 import (
    X,
    at,
    sp,
    x0,
    x1,
    x2,
    x3,
    x4,
    x5,
    x9,
    x10,
    x25,
    x27,
    x28,
    xzr,
)
from codegen.layout import CTRL_FD, SLOT_SIZE, Op, Slot, SlotArm64, State
from codegen.templates.arm64 import threads
from codegen.templates.arm64.common import HostCall, Stub
from codegen.templates.arm64.program import unblock_signals

_RLIMIT_NOFILE = 7
_SIGCHLD, _WALL = 17, 0x4000_0000


def clone(s: Stub) -> None:
    """Arguments as Op.CLONE says; the host's order here is flags, stack, ptid, tls, ctid.

    a1 = 1: the host cannot make a process whose parent is ours (CLONE_PARENT), so a process in
    between makes it and ends; the kernel, a subreaper, becomes its parent.
    """
    a = s.a
    plain, mapped = a.label("clone_plain"), a.label("slot_mapped")
    s.bind("op_clone")
    a.mov(x27, x5)
    a.cbnz(x1, s["clone_twice"])
    a.ldr(x9.w, at(x25, 4))
    a.tst(x9.w, Op.MAPS)
    a.constant(x9, -1)
    a.mov(X[21], x9)  # the control socket; a thread gets none
    a.b_eq(plain)
    s.load(X[21].w, Slot.RESULTS)
    s.load(X[22].w, Slot.RESULTS + 8)
    a.bind(plain)
    a.mov(x9, x3)
    a.mov(x3, x4)
    a.mov(x4, x9)
    s.host_call(HostCall.CLONE)
    a.cbnz(x0, s["op_done"])
    a.tbnz(X[21], 31, mapped)
    _map_slot(s)
    a.bind(mapped)
    a.mov(x28, x27)
    s.bind("clone_child")
    common_start(s)
    s.host_call(HostCall.GETTID)
    a.str_(x0.w, at(x28, Slot.HOST_TID))
    no_ctrl, no_tid = a.label("no_ctrl"), a.label("no_tid")
    s.far(x9, x28, SlotArm64.STACK_TOP)
    a.mov(sp, x9)
    a.tbnz(X[21], 31, no_ctrl)
    threads.fresh_table(s)  # what it says are the parent's threads
    _child_limit(s, Slot.CHILD_LIMIT)
    a.mov(x0, X[21])
    a.mov(x1, CTRL_FD)
    a.mov(x2, xzr)
    s.host_call(HostCall.DUP3)
    a.mov(x0, X[21])
    s.host_call(HostCall.CLOSE)
    _child_limit(s, Slot.CHILD_LIMIT_AFTER)
    a.bind(no_ctrl)
    a.mrs(x10, "tpidr_el0")
    a.bl(s["learn_key"])
    s.load(x9, Slot.CHILD_TID)
    a.cbz(x9, no_tid)
    a.load_address(x10, no_tid)
    s.store(x10, Slot.FIXUP)
    s.load(x10, Slot.TID)
    a.str_(x10.w, at(x9))
    a.bind(no_tid)
    s.store(xzr, Slot.FIXUP)
    a.mov(x9, State.IDLE)
    a.str_(x9.w, at(x28, Slot.STATE))
    unblock_signals(s)
    a.mov(x0, xzr)
    a.b(s["resume"])
    _twice(s)


def _twice(s: Stub) -> None:
    """Fork a process that forks the child, and wait for its end."""
    a = s.a
    between, reap = a.label("clone_between"), a.label("clone_reap")
    adopted, waits = a.label("clone_adopted"), a.label("clone_waits")
    s.bind("clone_twice")
    a.mov(X[24], x4)  # tls
    a.mov(X[23], x0)  # flags
    _fork(s)
    a.cbz(x0, between)
    a.tbnz(x0, 63, s["op_done"])
    a.mov(X[22], x0)
    a.bind(reap)
    a.mov(x0, X[22])
    a.mov(x1, xzr)
    a.constant(x2, _WALL)
    a.mov(x3, xzr)
    s.host_call(HostCall.WAIT4)
    a.cmn(x0, 4)  # EINTR
    a.b_eq(reap)
    a.ldrsw(x0, at(x27, Slot.HOST_TID))
    a.b(s["op_done"])

    a.bind(between)
    _fork(s)
    a.cbz(x0, waits)
    a.str_(x0.w, at(x27, Slot.HOST_TID))  # or the error
    a.mov(x0, xzr)
    s.host_call(HostCall.EXIT_GROUP)
    a.brk(1)

    a.bind(waits)  # until the kernel is our parent: it must get our end, we its death signal
    a.mov(x28, x27)
    s.load(X[21].w, Slot.CHILD_CTRL)
    a.bind(adopted)
    s.host_call(HostCall.SCHED_YIELD)
    s.host_call(HostCall.GETPPID)
    s.load(x9, SlotArm64.KERNEL_PID)
    a.cmp(x0, x9)
    a.b_ne(adopted)
    a.tbz(X[23], 19, s["clone_child"])  # CLONE_SETTLS
    a.msr("tpidr_el0", X[24])
    a.b(s["clone_child"])


def _map_slot(s: Stub) -> None:
    """A new process maps its slot (w22) at x27. Without one it can tell nobody, and ends."""
    a = s.a
    good = a.label("slot_good")
    a.mov(x0, x27)
    a.constant(x1, SLOT_SIZE)
    a.mov(x2, 3)  # PROT_READ | PROT_WRITE
    a.mov(x3, 0x11)  # MAP_SHARED | MAP_FIXED
    a.mov(x4, X[22])
    a.mov(x5, xzr)
    s.host_call(HostCall.MMAP)
    a.cmp(x0, x27)
    a.b_eq(good)
    a.brk(1)
    a.bind(good)
    a.mov(x0, X[22])
    s.host_call(HostCall.CLOSE)


def _fork(s: Stub) -> None:
    a = s.a
    a.mov(x0, _SIGCHLD)
    for register in (x1, x2, x3, x4):
        a.mov(register, xzr)
    s.host_call(HostCall.CLONE)


def _child_limit(s: Stub, limit: int) -> None:
    """RLIMIT_NOFILE of this process = the slot's struct rlimit, unless that is empty.

    dup3 onto CTRL_FD fails where the soft limit is not above it.
    """
    a = s.a
    unlimited = a.label("unlimited")
    s.load(x9, limit + 8)
    a.cbz(x9, unlimited)
    a.mov(x0, xzr)
    a.mov(x1, _RLIMIT_NOFILE)
    a.add(x2, x28, limit)
    a.mov(x3, xzr)
    s.host_call(HostCall.PRLIMIT64)
    a.bind(unlimited)


def common_start(s: Stub) -> None:
    """What a new thread does first, x28 = slot: no inheritance, own stack, death signal."""
    a = s.a
    if s.variant.reserved_x18:
        a.mov(x9, 1)
        s.store(x9, SlotArm64.RESERVED_X18)
    a.mov(x0, x28)
    a.constant(x1, SLOT_SIZE)
    a.mov(x2, 10)  # MADV_DONTFORK
    s.host_call(HostCall.MADVISE)
    a.add(x0, x28, Slot.ALT_DESCRIPTOR)
    a.mov(x1, xzr)
    s.host_call(HostCall.SIGALTSTACK)
    a.mov(x0, 1)  # PR_SET_PDEATHSIG
    a.mov(x1, 9)
    s.host_call(HostCall.PRCTL)


__all__ = ["clone", "common_start"]
