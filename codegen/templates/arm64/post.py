"""The slow path: save the guest, copy arguments in, post the request, wait, answer.

While a request is posted the kernel may write the slot; between DONE and the next REQUESTED it
belongs to the guest. x28 = slot, and the stub's own stack is used, from `slow` on. The parts that
are called keep x19..x28.
"""

from __future__ import annotations

from codegen.asm.arm64 import (
    Reg,
    at,
    indexed,
    post,
    sp,
    wzr,
    x0,
    x1,
    x2,
    x3,
    x8,
    x9,
    x10,
    x11,
    x12,
    x16,
    x19,
    x20,
    x21,
    x22,
    x23,
    x24,
    x28,
    xzr,
)
from codegen.layout import (
    BELL_FD,
    BELLS_AWAKE,
    BELLS_BASE,
    BELLS_SPIN,
    NULL_ARGUMENT,
    OVERSIZE_ARGUMENT,
    PAYLOAD,
    PAYLOAD_SIZE,
    Marshal,
    Slot,
    State,
)
from codegen.templates.arm64.common import ARGUMENTS, HostCall, Stub
from codegen.templates.rows import ROW_SIZE
from codegen.templates.tables import TABLE_SIZE

_PATH_MAX = 4096
_YIELD_MASK = 255  # pauses between two offers of the core
_STAT_SIZE = 128
_ROW_SHIFT = ROW_SIZE.bit_length() - 1
_ENAMETOOLONG, _EFAULT = -36, -14


def copy(s: Stub) -> None:
    """copy: x2 bytes from x1 to x0; x0 = end. Destroys x1, x2, x9, x10. Faults go to FIXUP."""
    a = s.a
    wide, bytes_, one, done = (a.label(f"copy_{n}") for n in ("wide", "bytes", "one", "done"))
    s.bind("copy")
    a.bind(wide)
    a.cmp(x2, 16)
    a.b_lo(bytes_)
    a.ldp(x9, x10, post(x1, 16))
    a.stp(x9, x10, post(x0, 16))
    a.sub(x2, x2, 16)
    a.b(wide)
    a.bind(bytes_)
    a.cbz(x2, done)
    a.bind(one)
    a.ldrb(x9.w, post(x1, 1))
    a.strb(x9.w, post(x0, 1))
    a.subs(x2, x2, 1)
    a.b_ne(one)
    a.bind(done)
    a.ret()


def slow(s: Stub) -> None:
    """slow: w8 = number, x17 = slot, guest registers live."""
    a = s.a
    s.bind("slow")
    s.save_registers()
    s.bind("slow_saved")
    a.mov(sp, x16)
    a.mov(x8.w, x8.w)
    s.store(x8, Slot.NR)
    for i, register in enumerate(ARGUMENTS):
        s.store(register, Slot.ARGS + 8 * i)
    a.cmp(x8, TABLE_SIZE)
    a.b_hs(s["post"])
    a.load_address(x19, s["marshal_table"])
    a.add(x19, x19, x8, f"lsl #{_ROW_SHIFT}")
    a.ldr(x9, at(x19))
    a.cbz(x9, s["post"])
    _marshal(s)
    s.bind("post")
    a.bl(s["post_wait"])
    s.bind("reply")
    s.load(x9, Slot.OPS)
    a.cbnz(x9, s["program"])
    s.load(x2, Slot.OUT_LENGTH)
    a.cbz(x2, s["answer"])
    a.load_address(x9, s["bad_address"])
    s.store(x9, Slot.FIXUP)
    s.far(x1, x28, PAYLOAD)
    s.load(x0, Slot.OUT_ADDRESS)
    a.bl(s["copy"])
    s.store(xzr, Slot.FIXUP)
    s.bind("answer")
    s.load(x0, Slot.RESULT)
    s.bind("resume")
    s.restore_registers()
    a.b(s["exit_check"])
    s.bind("bad_address")
    s.store(xzr, Slot.FIXUP)
    a.constant(x0, _EFAULT)
    a.b(s["resume"])


def _marshal(s: Stub) -> None:
    """Copy in what the row at x19 says. x20 = argument, x21 = cursor, x22 = end of payload."""
    a = s.a
    s.far(x21, x28, PAYLOAD)
    s.far(x22, x21, PAYLOAD_SIZE)
    a.mov(x20, xzr)
    a.load_address(x9, s["bad_address"])
    s.store(x9, Slot.FIXUP)
    s.bind("marshal_next")
    a.ldrb(x9.w, indexed(x19, x20))
    a.cbz(x9.w, s["marshal_skip"])
    a.add(x1, x28, Slot.ARGS)
    a.ldr(x1, indexed(x1, x20, 3))
    a.add(x10, x19, 8)
    a.ldrh(x23.w, indexed(x10, x20, 1))
    for kind, label in (
        (Marshal.BUFFER, "copy_buffer"),
        (Marshal.STAT, "copy_stat"),
        (Marshal.IOVEC, "copy_iovec"),
    ):
        a.cmp(x9.w, kind)
        a.b_eq(s[label])
    a.cbz(x1, s["copy_null"])
    a.cmp(x9.w, Marshal.PATH)
    a.b_eq(s["copy_path"])
    a.cmp(x9.w, Marshal.VECTOR)
    a.b_eq(s["copy_vector"])
    a.mov(x2, x23)  # Marshal.STRUCT
    a.b(s["copy_bytes"])
    s.bind("copied")  # x0 = end of what was copied to x21
    a.sub(x9, x0, x21)
    s.bind("record")  # x9 = length; x0 = next free byte
    a.sub(x10, x21, x28)
    s.far_back(x10, PAYLOAD)
    a.orr(x10, x10, x9, "lsl #32")
    a.add(x11, x28, Slot.IN)
    a.str_(x10, indexed(x11, x20, 3))
    a.add(x21, x0, 7)
    a.and_(x21, x21, "#0xfffffffffffffff8")
    s.bind("marshal_skip")
    a.add(x20, x20, 1)
    a.cmp(x20, 6)
    a.b_ne(s["marshal_next"])
    s.store(xzr, Slot.FIXUP)
    a.b(s["post"])
    s.bind("copy_null")
    a.constant(x9, NULL_ARGUMENT)
    a.mov(x0, x21)
    a.b(s["record"])
    _copies(s)


def _copies(s: Stub) -> None:
    """The copying loops, one a Marshal kind; x1 = source, w23 = the row's parameter."""
    a = s.a
    s.bind("copy_buffer")
    _count(s, x2)
    a.lsr(x9.w, x23.w, 3)
    a.mul(x2, x2, x9)
    s.bind("copy_bytes")  # x2 = length, cut to the room left
    a.sub(x9, x22, x21)
    a.cmp(x2, x9)
    a.csel(x2, x9, x2, "hi")
    a.mov(x0, x21)
    a.bl(s["copy"])
    a.b(s["copied"])

    s.bind("copy_path")
    byte = a.label("path_byte")
    a.mov(x0, x21)
    a.add(x10, x21, _PATH_MAX >> 12, "lsl #12")
    a.bind(byte)
    a.ldrb(x9.w, post(x1, 1))
    a.strb(x9.w, at(x0))
    a.cbz(x9.w, s["copied"])
    a.add(x0, x0, 1)
    a.cmp(x0, x10)
    a.b_ne(byte)
    s.store(xzr, Slot.FIXUP)
    a.constant(x0, _ENAMETOOLONG)
    a.b(s["resume"])

    s.bind("copy_stat")
    good = a.label("stat_good")
    a.mov(x0, x1)
    a.mov(x1, x21)
    s.host_call(HostCall.FSTAT)
    a.cbz(x0, good)
    s.store(xzr, Slot.FIXUP)
    a.b(s["resume"])
    a.bind(good)
    a.add(x0, x21, _STAT_SIZE)
    a.b(s["copied"])
    _copy_vector(s)
    _copy_iovec(s)


def _count(s: Stub, register: Reg) -> None:
    """register = the argument whose index is in the low 3 bits of w23."""
    s.a.and_(x9.w, x23.w, 7)
    s.a.add(x10, x28, Slot.ARGS)
    s.a.ldr(register, indexed(x10, x9, 3))


def _copy_vector(s: Stub) -> None:
    """A NULL-terminated array of strings, laid one after another with their NULs."""
    a = s.a
    s.bind("copy_vector")
    string, byte, full = (a.label(n) for n in ("vector_string", "vector_byte", "vector_full"))
    a.mov(x0, x21)
    a.sub(x12, x22, 64)
    a.bind(string)
    a.ldr(x10, post(x1, 8))
    a.cbz(x10, s["copied"])
    a.bind(byte)
    a.cmp(x0, x12)
    a.b_hs(full)
    a.ldrb(x9.w, post(x10, 1))
    a.strb(x9.w, post(x0, 1))
    a.cbnz(x9.w, byte)
    a.b(string)
    a.bind(full)
    a.constant(x9, OVERSIZE_ARGUMENT)
    a.mov(x0, x21)
    a.b(s["record"])


def _copy_iovec(s: Stub) -> None:
    """Gather struct iovec[count] until the payload is full."""
    a = s.a
    s.bind("copy_iovec")
    entry, fits = a.label("iovec_entry"), a.label("iovec_fits")
    _count(s, x24)
    a.mov(x23, x1)
    a.mov(x0, x21)
    a.bind(entry)
    a.cbz(x24, s["copied"])
    a.ldp(x1, x2, post(x23, 16))
    a.sub(x9, x22, x0)
    a.cmp(x2, x9)
    a.b_ls(fits)
    a.mov(x2, x9)
    a.mov(x24, 1)
    a.bind(fits)
    a.bl(s["copy"])
    a.sub(x24, x24, 1)
    a.b(entry)


def waiting(s: Stub) -> None:
    """announce: publish the request. post_wait: announce and wait for DONE.

    Both are called on the stub's stack; x0..x18 are destroyed. The store to the bell must be
    visible before AWAKE is read, hence the barriers.
    """
    a = s.a
    s.bind("announce")
    awake = a.label("kernel_awake")
    a.mov(x9, State.REQUESTED)
    a.stlr(x9.w, at(x28))
    s.bind("ring")
    s.load(x10, Slot.BELL)
    a.mov(x9, 1)
    a.dmb("ish")
    a.strb(x9.w, at(x10))
    a.dmb("ish")
    a.constant(x10, BELLS_BASE)
    a.ldr(x9.w, at(x10, BELLS_AWAKE))
    a.cbnz(x9.w, awake)
    a.mov(x0, BELL_FD)
    a.load_address(x1, s["one"])
    a.mov(x2, 8)
    s.host_call(HostCall.WRITE)
    a.bind(awake)
    a.ret()

    s.bind("post_wait")
    spin, sleep, woken, done = (a.label(n) for n in ("spin", "sleep", "woken", "done"))
    s.push_link()
    a.bl(s["announce"])
    a.constant(x11, BELLS_BASE)
    a.ldr(x11.w, at(x11, BELLS_SPIN))
    a.bind(spin)
    a.ldar(x9.w, at(x28))
    a.cmp(x9.w, State.DONE)
    a.b_eq(done)
    a.cmp(x9.w, State.REQUESTED)
    a.b_ne(sleep)
    a.yield_()
    a.subs(x11.w, x11.w, 1)
    a.b_mi(sleep)
    a.tst(x11.w, _YIELD_MASK)
    a.b_ne(spin)
    s.host_call(HostCall.SCHED_YIELD)  # the kernel may be waiting for this very core
    a.b(spin)
    a.bind(sleep)
    a.mov(x9, 1)
    a.str_(x9.w, at(x28, Slot.SLEEPING))
    a.dmb("ish")
    a.ldar(x2.w, at(x28))
    a.cmp(x2.w, State.DONE)
    a.b_eq(woken)
    a.mov(x0, x28)
    a.mov(x1, xzr)  # FUTEX_WAIT, shared: the kernel is another process
    a.mov(x3, xzr)
    s.host_call(HostCall.FUTEX)
    a.b(sleep)
    a.bind(woken)
    a.str_(wzr, at(x28, Slot.SLEEPING))
    a.bind(done)
    s.pop_link()
    a.ret()
