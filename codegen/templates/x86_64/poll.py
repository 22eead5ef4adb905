"""The kernel's own loop: look for posted requests, answer what is known, wake who sleeps.

These run in the kernel process and are called by Python as builtins (`PyObject *f(self, argument)`,
System V calling convention, the lock held). `next_request` returns the number of a slot whose
request Python must serve, IDLE or ENOUGH; `publish` takes the address of a slot.

What guests may write at any time (the slot) is read once, or used as a number only: the path is
copied before it is looked at.
"""

from __future__ import annotations

from codegen.asm.assembler import Memo
from codegen.asm.x86_64 import (
    AsmX86,
    Mem,
    at,
    eax,
    ecx,
    edi,
    edx,
    esi,
    r8,
    r9,
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
    rdx,
    rsi,
    rsp,
)
from codegen.layout import (
    BELLS_CPU,
    BELLS_FIRST,
    PAYLOAD,
    PAYLOAD_SIZE,
    Slot,
    State,
)
from codegen.poll_layout import (
    ENOUGH,
    IDLE,
    KIND_LIMIT,
    MULTIPLIER,
    PLAIN,
    SHIFT,
    Entry,
    Kind,
    Poll,
    Record,
)
from codegen.templates.x86_64.common import HostCall, Stub
from codegen.templates.x86_64.poll_answers import (
    FRAME,
    PATH,
    access,
    fstat,
    open_,
    readlink,
    stat,
)

_ENOENT = 2
_AT_FDCWD, _AT_SYMLINK_NOFOLLOW = -100, 0x100
_FUTEX_WAKE = 1

_SAVED = (rbx, rbp, r12, r13, r14, r15)


def build(memo: Memo) -> Stub:
    """The functions; the first 8 bytes are a hole for the control block's address.

    Position-independent. rbx = control block, rbp = slot, r12 = looks left, r13 = answers left,
    r14 = the slot's number, r15 = its record.
    """
    s = Stub(AsmX86(0, memo))
    s.bind("control")
    s.a.set_bytes(bytes(8), ".quad control")
    _poll(s)
    _key(s)
    _find(s)
    stat(s)
    fstat(s)
    access(s)
    readlink(s)
    open_(s)
    _answer(s)
    _publish(s)
    return s


def _poll(s: Stub) -> None:
    """Find a bell that rings; a request that Python need not see goes on at `known`."""
    a = s.a
    s.bind("next_request")
    for register in _SAVED:
        a.push(register)
    a.sub(rsp, FRAME)
    a.load_address(rax, s["control"])
    a.mov(rbx, at(rax))
    a.mov(r13, at(rbx, Poll.LIMIT))
    same = a.label("same_cpu")
    a.mov(rsi, at(rbx, Poll.BELLS))
    s.current_cpu(rax, unknown=same)  # then guests spin, wherever they are
    a.cmp(eax, at(rsi, BELLS_CPU - BELLS_FIRST, 4))
    a.je(same)
    a.mov(at(rsi, BELLS_CPU - BELLS_FIRST, 4), eax)
    a.bind(same)
    s.bind("afresh")
    a.mov(r12, at(rbx, Poll.BUDGET))
    s.bind("look")
    one, single, none, rings = (a.label(n) for n in ("one", "single", "none", "rings"))
    a.mov(rsi, at(rbx, Poll.BELLS))
    a.mov(rdx, at(rbx, Poll.COUNT))
    a.mov(r14, at(rbx, Poll.NEXT))
    a.mov(rcx, rdx)
    s.bind("look_more")
    a.test(rcx, rcx)
    a.je(none)
    a.cmp(r14, rdx)
    a.jb(one)
    a.xor(r14.low32, r14.low32)
    a.bind(one)
    a.lea(rax, at(r14, 8))  # eight at once, where there are so many
    a.cmp(rax, rdx)
    a.ja(single)
    a.cmp(Mem(rsi, 0, r14, 1), 0)
    a.jne(single)
    a.mov(r14, rax)
    a.sub(rcx, 8)
    a.ja(s["look_more"])
    a.jmp(none)
    a.bind(single)
    a.cmp(Mem(rsi, 0, r14, 1, 1), 0)
    a.jne(rings)
    a.inc(r14)
    a.dec(rcx)
    a.jmp(s["look_more"])
    a.bind(none)
    a.pause()
    a.dec(r12)
    a.jne(s["look"])
    a.mov(rdi, IDLE)
    s.bind("give_back")
    a.call(at(rbx, Poll.PY_LONG))
    a.add(rsp, FRAME)
    for register in reversed(_SAVED):
        a.pop(register)
    a.ret()

    a.bind(rings)
    _check(s)


def _check(s: Stub) -> None:
    """The bell r14 (at rsi) rings: go on if it is a plain request of a known kind."""
    a = s.a
    # Locked: what rings after this was not seen, and what is read from here on is not older.
    a.xor(eax, eax)
    a.xchg(Mem(rsi, 0, r14, 1, 1), rax.low8)
    a.lea(rax, at(r14, 1))
    a.mov(at(rbx, Poll.NEXT), rax)
    a.mov(r15, r14)
    a.shl(r15, 6)
    a.add(r15, at(rbx, Poll.RECORDS))
    a.mov(rbp, at(r15, Record.SLOT))
    a.test(rbp, rbp)
    a.je(s["python"])
    a.cmp(at(r15, Record.HOLD), 0)
    a.jne(s["python"])
    a.cmp(at(rbp, Slot.STATE), State.REQUESTED)  # and ATTENTION, its other half, is 0
    a.jne(s["python"])
    a.cmp(at(rbp, Slot.HOST_SIGNALS), 0)
    a.jne(s["python"])
    a.mov(rax, at(rbp, Slot.TRAPS))
    a.sub(rax, at(r15, Record.TRAPS))
    a.cmp(rax, Slot.TRAP_LOG_SIZE // 2)  # none is lost while the log has room
    a.jae(s["python"])
    a.mov(rax, at(rbp, Slot.NR))
    a.cmp(rax, KIND_LIMIT)
    a.jae(s["python"])
    a.mov(rcx, at(rbx, Poll.KINDS))
    a.movzx(r10.low32, Mem(rcx, 0, rax, 1, 1))
    a.test(r10.low32, r10.low32)
    a.jne(s["known"])
    s.bind("plain")
    a.or_(r14, PLAIN)
    s.bind("python")
    a.mov(rdi, r14)
    a.jmp(s["give_back"])


def _key(s: Stub) -> None:
    """r10 = Kind. Which walks, and the path: r8 = place of its argument, r9 = key, r11 = length."""
    a = s.a
    s.bind("known")
    a.cmp(r10.low32, Kind.FSTAT)
    a.je(s["fstat_key"])
    copy, tail, copied = (a.label(n) for n in ("copy", "tail", "copied"))
    a.xor(r8.low32, r8.low32)
    a.test(r10.low32, Kind.AT)
    a.setne(r8.low8)
    a.mov(rdx, Mem(rbp, Slot.IN, r8, 8))
    a.mov(r11, rdx)
    a.shr(r11, 32)
    a.mov(edx, edx)
    a.lea(rax, at(r11, -1))
    a.cmp(rax, Entry.PATH_SIZE)
    a.jae(s["plain"])
    a.cmp(rdx, PAYLOAD_SIZE - Entry.PATH_SIZE)
    a.ja(s["plain"])
    a.lea(rsi, Mem(rbp, PAYLOAD, rdx, 1))

    # The path as whole words, zeros behind it: the slot has room behind every payload.
    a.xor(ecx, ecx)
    a.bind(copy)
    a.lea(rax, at(rcx, 8))
    a.cmp(rax, r11)
    a.ja(tail)
    a.mov(rdx, Mem(rsi, 0, rcx, 1))
    a.mov(Mem(rsp, PATH, rcx, 1), rdx)
    a.mov(rcx, rax)
    a.jmp(copy)
    a.bind(tail)
    a.cmp(rcx, r11)
    a.jae(copied)
    a.mov(rdx, Mem(rsi, 0, rcx, 1))
    a.mov(rdi, rcx)
    a.sub(rcx, r11)
    a.add(rcx, 8)  # bytes of the word that are not the path's
    a.shl(ecx, 3)
    a.shl(rdx, rcx.low8)
    a.shr(rdx, rcx.low8)
    a.mov(Mem(rsp, PATH, rdi, 1), rdx)
    a.bind(copied)

    _start(s)


def _start(s: Stub) -> None:
    """r9 = the key: where the path begins, whether a last link is followed."""
    a = s.a
    absolute = a.label("absolute")
    a.mov(r9, at(r15, Record.ROOT))
    a.cmp(at(rsp, PATH, 1), ord("/"))
    a.je(absolute)
    a.mov(r9, at(r15, Record.CWD))
    a.test(r8.low32, r8.low32)
    a.je(absolute)
    a.cmp(at(rbp, Slot.ARGS, 4), _AT_FDCWD)
    a.jne(s["plain"])
    a.bind(absolute)
    a.test(r9, r9)
    a.je(s["plain"])
    a.add(r9, r9)
    follows, no_flags = a.label("follows"), a.label("no_flags")
    a.test(r10.low32, Kind.FLAGS)
    a.je(no_flags)
    a.mov(eax, at(rbp, Slot.ARGS + 24, 4))
    a.test(eax, eax)
    a.je(follows)
    a.cmp(eax, _AT_SYMLINK_NOFOLLOW)
    a.jne(s["plain"])
    a.inc(r9)
    a.bind(no_flags)
    a.test(r10.low32, Kind.NOFOLLOW)
    a.je(follows)
    a.inc(r9)
    a.bind(follows)


def _find(s: Stub) -> None:
    """rsi = the entry of key r9 and the path; on to what the call wants of it."""
    a = s.a
    words, entry, bytes_, miss, found = (
        a.label(n) for n in ("hash_words", "entry", "entry_bytes", "miss", "found")
    )
    s.bind("find")
    a.movabs(rdi, MULTIPLIER)
    a.mov(rax, r9)
    a.xor(ecx, ecx)
    a.bind(words)
    a.xor(rax, Mem(rsp, PATH, rcx, 1))
    a.imul(rax, rdi)
    a.mov(rdx, rax)
    a.shr(rdx, SHIFT)
    a.xor(rax, rdx)
    a.add(rcx, 8)
    a.cmp(rcx, r11)
    a.jb(words)
    a.mov(rsi, rax)
    a.shr(rsi, 64 - Entry.BUCKET_BITS)
    a.imul(rsi, rsi, Entry.BUCKET * Entry.SIZE)
    a.add(rsi, at(rbx, Poll.ENTRIES))
    a.mov(edx, Entry.BUCKET)
    a.bind(entry)
    a.cmp(at(rsi, Entry.HASH), rax)
    a.jne(miss)
    a.cmp(at(rsi, Entry.KEY), r9)
    a.jne(miss)
    a.cmp(at(rsi, Entry.LENGTH), r11)
    a.jne(miss)
    a.mov(rcx, at(rbx, Poll.ENTRIES))
    a.mov(rcx, at(rcx, Entry.CURRENT))
    a.cmp(at(rsi, Entry.GENERATION), rcx)
    a.jne(miss)
    a.xor(ecx, ecx)
    a.bind(bytes_)
    a.mov(rdi, Mem(rsp, PATH, rcx, 1))
    a.cmp(rdi, Mem(rsi, Entry.PATH, rcx, 1))
    a.jne(miss)
    a.add(rcx, 8)
    a.cmp(rcx, r11)
    a.jb(bytes_)
    a.jmp(found)
    a.bind(miss)
    a.add(rsi, Entry.SIZE)
    a.dec(edx)
    a.jne(entry)
    a.jmp(s["plain"])
    a.bind(found)
    a.mov(r11.low32, at(rsi, Entry.FLAGS, 4))
    a.mov(eax, at(r15, Record.MAY, 4))
    a.not_(eax)
    a.and_(eax, r11.low32)
    a.test(eax, Entry.NEEDS_SEARCH)
    a.jne(s["plain"])
    a.and_(r10.low32, Kind.WHAT)
    for what, label in (
        (Kind.OPEN, "open"), (Kind.ACCESS, "access"), (Kind.READLINK, "readlink"),
        (Kind.FSTAT, "fstat"),
    ):  # fmt: skip
        a.cmp(r10.low32, what)
        a.je(s[label])


def _answer(s: Stub) -> None:
    a = s.a
    s.bind("enoent")
    a.mov(rax, -_ENOENT)
    s.bind("answer")  # rax = the result
    a.mov(at(rbp, Slot.OUT_LENGTH), 0)
    s.bind("answer_out")
    a.mov(at(rbp, Slot.RESULT), rax)
    a.mov(at(rbp, Slot.OPS), 0)
    s.bind("done")
    a.inc(at(rbx, Poll.ANSWERED))
    a.mov(rdi, rbp)
    a.call(s["wake"])
    a.dec(r13)
    a.jne(s["afresh"])
    a.mov(rdi, ENOUGH)
    a.jmp(s["give_back"])


def _publish(s: Stub) -> None:
    """wake: the answer in the slot at rdi is complete. Destroys rax, rcx, rdx, rsi, r8-r11."""
    a = s.a
    s.bind("wake")
    awake = a.label("awake")
    a.mov(at(rdi, Slot.STATE, 4), State.DONE)
    a.lock_or(at(rsp, 0, 4), 0)  # DONE is visible before SLEEPING is read
    a.cmp(at(rdi, Slot.SLEEPING, 4), 0)
    a.je(awake)
    a.mov(esi, _FUTEX_WAKE)
    a.mov(edx, 0x7FFF_FFFF)
    s.host_call(HostCall.FUTEX)
    a.bind(awake)
    a.ret()

    s.bind("publish")
    a.push(rbx)
    a.load_address(rax, s["control"])
    a.mov(rbx, at(rax))
    a.mov(rdi, rsi)
    a.call(at(rbx, Poll.PY_ADDRESS))
    a.mov(rdi, rax)
    a.call(s["wake"])
    a.xor(edi, edi)
    a.call(at(rbx, Poll.PY_LONG))
    a.pop(rbx)
    a.ret()
