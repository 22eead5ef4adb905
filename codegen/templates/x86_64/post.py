"""The slow path: save the guest, copy arguments in, post the request, wait, answer.

While a request is posted the kernel may write the slot; between DONE and the next REQUESTED it
belongs to the guest. The stub's own stack (Slot STACK_TOP) is used from `slow` on.
"""

from __future__ import annotations

from codegen.asm.x86_64 import (
    Mem,
    at,
    eax,
    ecx,
    edi,
    edx,
    esi,
    gs,
    r10,
    r11,
    r12,
    r13,
    r14,
    r15,
    rax,
    rbp,
    rbx,
    rcx,
    rdi,
    rsi,
    rsp,
)
from codegen.layout import (
    BELL_FD,
    BELLS_AWAKE,
    BELLS_BASE,
    BELLS_CPU,
    BELLS_SPIN,
    NULL_ARGUMENT,
    OVERSIZE_ARGUMENT,
    PAYLOAD,
    PAYLOAD_SIZE,
    STACK_TOP,
    Marshal,
    Slot,
    State,
)
from codegen.templates.rows import ROW_SIZE, Row
from codegen.templates.tables import TABLE_SIZE
from codegen.templates.x86_64.common import ARGUMENTS, HostCall, Stub

_PATH_MAX = 4096
_YIELD_MASK = 255  # pauses between two offers of the core


def slow(s: Stub) -> None:
    """slow: rax = number, rcx = return address, guest registers live."""
    a = s.a
    s.bind("slow")
    s.save_registers()
    s.bind("slow_saved")
    a.cld()  # the copies go up, whatever the guest had set
    a.mov(eax, eax)
    a.mov(gs(Slot.NR), rax)
    for i, register in enumerate(ARGUMENTS):
        a.mov(gs(Slot.ARGS + 8 * i), register)
    a.mov(rsp, gs(Slot.SELF))
    a.lea(r14, at(rsp, PAYLOAD))
    a.add(rsp, STACK_TOP)
    a.cmp(eax, TABLE_SIZE)
    a.jae(s["post"])
    a.load_address(r12, s["marshal_table"])
    a.shl(rax, 5)
    a.add(r12, rax)
    a.cmp(at(r12), 0)
    a.je(s["post"])
    _marshal(s)
    s.bind("post")
    a.call(s["post_wait"])
    s.bind("reply")
    a.cmp(gs(Slot.OPS), 0)
    a.jne(s["program"])
    a.mov(rcx, gs(Slot.OUT_LENGTH))
    a.test(rcx, rcx)
    a.je(s["answer"])
    a.load_address(rax, s["bad_address"])
    a.mov(gs(Slot.FIXUP), rax)
    a.mov(rsi, gs(Slot.SELF))
    a.add(rsi, PAYLOAD)
    a.mov(rdi, gs(Slot.OUT_ADDRESS))
    a.rep_movsb()
    a.mov(gs(Slot.FIXUP), 0)
    s.bind("answer")
    a.mov(rax, gs(Slot.RESULT))
    s.bind("resume")
    s.restore_registers()
    a.jmp(s["exit_check"])
    s.bind("bad_address")
    a.mov(gs(Slot.FIXUP), 0)
    a.mov(rax, -14)
    a.jmp(s["resume"])


def _marshal(s: Stub) -> None:
    """Copy in what the row at r12 says. r13 = argument, r14 = cursor, r15 = end of payload."""
    a = s.a
    a.lea(r15, at(r14, PAYLOAD_SIZE))
    a.xor(r13.low32, r13.low32)
    a.load_address(rax, s["bad_address"])
    a.mov(gs(Slot.FIXUP), rax)
    s.bind("marshal_next")
    a.movzx(eax, Mem(r12, 0, r13, 1, 1))
    a.test(eax, eax)
    a.je(s["marshal_skip"])
    a.mov(rsi, gs(Slot.ARGS, 8, r13))
    a.movzx(edx, Mem(r12, 8, r13, 2, 2))
    for kind, label in (
        (Marshal.BUFFER, "copy_buffer"),
        (Marshal.STAT, "copy_stat"),
        (Marshal.IOVEC, "copy_iovec"),
    ):
        a.cmp(eax, kind)
        a.je(s[label])
    a.test(rsi, rsi)
    a.je(s["copy_null"])
    a.cmp(eax, Marshal.PATH)
    a.je(s["copy_path"])
    a.cmp(eax, Marshal.VECTOR)
    a.je(s["copy_vector"])
    a.mov(ecx, edx)  # Marshal.STRUCT
    a.jmp(s["copy_bytes"])
    s.bind("copied")  # rdi = end of what was copied to r14
    a.mov(rax, rdi)
    a.sub(rax, r14)
    s.bind("record")  # eax = length; rdi = next free byte
    a.mov(rcx, r14)
    a.sub(rcx, gs(Slot.SELF))
    a.sub(rcx, PAYLOAD)
    a.shl(rax, 32)
    a.or_(rax, rcx)
    a.mov(gs(Slot.IN, 8, r13), rax)
    a.lea(r14, at(rdi, 7))
    a.and_(r14, -8)
    s.bind("marshal_skip")
    a.inc(r13)
    a.cmp(r13.low32, 6)
    a.jne(s["marshal_next"])
    a.mov(gs(Slot.FIXUP), 0)
    a.jmp(s["post"])
    s.bind("copy_null")
    a.mov(eax, NULL_ARGUMENT)
    a.mov(rdi, r14)
    a.jmp(s["record"])
    _copies(s)


def _copies(s: Stub) -> None:
    """The copying loops, one a Marshal kind; rsi = source, edx = the row's parameter."""
    a = s.a
    s.bind("copy_buffer")
    _count(s)
    a.mov(eax, edx)
    a.shr(eax, 3)
    a.imul(rcx, rax)
    s.bind("copy_bytes")  # rcx = length, cut to the room left
    a.mov(rax, r15)
    a.sub(rax, r14)
    a.cmp(rcx, rax)
    a.cmova(rcx, rax)
    a.mov(rdi, r14)
    a.rep_movsb()
    a.jmp(s["copied"])

    s.bind("copy_path")
    byte, done = a.label("path_byte"), a.label("path_done")
    a.mov(rdi, r14)
    a.lea(rbx, at(r14, _PATH_MAX))
    a.bind(byte)
    a.movzx(eax, at(rsi, 0, 1))
    a.mov(at(rdi, 0, 1), rax.low8)
    a.test(eax, eax)
    a.je(done)
    a.inc(rsi)
    a.inc(rdi)
    a.cmp(rdi, rbx)
    a.jne(byte)
    a.mov(gs(Slot.FIXUP), 0)
    a.mov(rax, -36)  # ENAMETOOLONG
    a.jmp(s["resume"])
    a.bind(done)
    a.jmp(s["copied"])

    s.bind("copy_stat")
    a.mov(edi, esi)
    a.mov(rsi, r14)
    s.host_call(HostCall.FSTAT)
    a.test(rax, rax)
    a.lea(rdi, at(r14, 144))
    a.je(s["copied"])
    a.mov(gs(Slot.FIXUP), 0)
    a.jmp(s["resume"])
    _copy_vector(s)
    _copy_iovec(s)


def _count(s: Stub) -> None:
    """rcx = the argument whose index is in the low 3 bits of edx."""
    s.a.mov(ecx, edx)
    s.a.and_(ecx, 7)
    s.a.mov(rcx, gs(Slot.ARGS, 8, rcx))


def _copy_vector(s: Stub) -> None:
    """A NULL-terminated array of strings, laid one after another with their NULs."""
    a = s.a
    s.bind("copy_vector")
    string, byte, full = (a.label(n) for n in ("vector_string", "vector_byte", "vector_full"))
    a.mov(rdi, r14)
    a.lea(rbp, at(r15, -64))
    a.bind(string)
    a.mov(rbx, at(rsi))
    a.add(rsi, 8)
    a.test(rbx, rbx)
    a.je(s["copied"])
    a.bind(byte)
    a.cmp(rdi, rbp)
    a.jae(full)
    a.movzx(eax, at(rbx, 0, 1))
    a.mov(at(rdi, 0, 1), rax.low8)
    a.inc(rbx)
    a.inc(rdi)
    a.test(eax, eax)
    a.jne(byte)
    a.jmp(string)
    a.bind(full)
    a.mov(eax, OVERSIZE_ARGUMENT)
    a.mov(rdi, r14)
    a.jmp(s["record"])


def _copy_iovec(s: Stub) -> None:
    """Gather struct iovec[count] until the payload is full."""
    a = s.a
    s.bind("copy_iovec")
    entry, fits = a.label("iovec_entry"), a.label("iovec_fits")
    _count(s)
    a.mov(rbx, rcx)
    a.mov(rbp, rsi)
    a.mov(rdi, r14)
    a.bind(entry)
    a.test(rbx, rbx)
    a.je(s["copied"])
    a.mov(rsi, at(rbp))
    a.mov(rcx, at(rbp, 8))
    a.mov(rax, r15)
    a.sub(rax, rdi)
    a.cmp(rcx, rax)
    a.jbe(fits)
    a.mov(rcx, rax)
    a.mov(rbx.low32, 1)
    a.bind(fits)
    a.rep_movsb()
    a.add(rbp, 16)
    a.dec(rbx)
    a.jmp(entry)


def waiting(s: Stub) -> None:
    """announce: publish the request. post_wait: announce and wait for DONE.

    Both are called on the stub's stack; all registers but r12-r15, rbx and rbp are destroyed.
    The store to the bell must be visible before AWAKE is read, hence the locked instruction.
    """
    a = s.a
    s.bind("announce")
    awake = a.label("kernel_awake")
    a.mov(gs(Slot.STATE, 4), State.REQUESTED)
    s.bind("ring")
    a.mov(r11, gs(Slot.BELL))
    a.mov(at(r11, 0, 1), 1)
    a.lock_or(at(rsp, 0, 4), 0)
    a.movabs(r11, BELLS_BASE)
    a.cmp(at(r11, BELLS_AWAKE, 4), 0)
    a.jne(awake)
    a.mov(edi, BELL_FD)
    a.load_address(rsi, s["one"])
    a.mov(edx, 8)
    s.host_call(HostCall.WRITE)
    a.bind(awake)
    a.ret()

    s.bind("post_wait")
    spin, sleep, woken, done = (a.label(n) for n in ("spin", "sleep", "woken", "done"))
    a.call(s["announce"])
    a.movabs(r11, BELLS_BASE)
    s.current_cpu(rax)
    a.cmp(eax, at(r11, BELLS_CPU, 4))
    a.je(sleep)  # where we run it cannot
    a.mov(r10.low32, at(r11, BELLS_SPIN, 4))
    a.bind(spin)
    a.mov(eax, gs(Slot.STATE, 4))
    a.cmp(eax, State.DONE)
    a.je(done)
    a.cmp(eax, State.REQUESTED)
    a.jne(sleep)
    a.pause()
    a.dec(r10.low32)
    a.js(sleep)
    a.test(r10.low32, _YIELD_MASK)
    a.jne(spin)
    s.host_call(HostCall.SCHED_YIELD)  # the kernel may be waiting for this very core
    a.jmp(spin)
    a.bind(sleep)
    a.mov(gs(Slot.SLEEPING, 4), 1)
    a.lock_or(at(rsp, 0, 4), 0)
    a.mov(edx, gs(Slot.STATE, 4))
    a.cmp(edx, State.DONE)
    a.je(woken)
    a.mov(rdi, gs(Slot.SELF))
    a.xor(esi, esi)  # FUTEX_WAIT, shared: the kernel is another process
    a.xor(r10.low32, r10.low32)
    s.host_call(HostCall.FUTEX)
    a.jmp(sleep)
    a.bind(woken)
    a.mov(gs(Slot.SLEEPING, 4), 0)
    a.bind(done)
    a.ret()


__all__ = ["ROW_SIZE", "Row", "slow", "waiting"]
