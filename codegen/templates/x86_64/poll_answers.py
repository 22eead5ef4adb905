"""What the poll loop answers, a label a kind of call; its entry is found by `poll` beside this.

rsi = the entry, r11 = its flags, r8 = place of the path among the arguments, eax = what it takes
and the thread does not have; rbx, rbp, r14 and r15 as there. What is not known goes to `plain`,
what is to `enoent`, `answer`, `answer_out` or `done`.
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
    r8,
    r9,
    r10,
    r11,
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
from codegen.layout import PAYLOAD, SLOT_SIZE, SLOTS_BASE, Slot
from codegen.poll_layout import FILES, Entry, Poll, Record
from codegen.templates.x86_64.common import HostCall, Stub

_EINVAL = 22
_ST_DEV, _ST_INO, _ST_MODE, _ST_UID_GID, _ST_RDEV = 0, 8, 24, 28, 40  # asm/stat.h
_O_NONBLOCK, _O_CLOEXEC = 0o4000, 0o2000000
_OPEN = 2  # asm/unistd_64.h; no stub makes it
_MSG_DONTWAIT = 0x40
_SCM_RIGHTS = 1 << 32 | 1  # struct cmsghdr: level SOL_SOCKET, type SCM_RIGHTS
_CMSG_LENGTH = 20
_NUMBER = 16 + 8 * 3  # of the first op: its fourth argument

# The frame: the path, then a message (struct msghdr, iovec, its 16 bytes, struct cmsghdr).
PATH = 0
_HEADER, _IOVEC, _WORDS, _CONTROL = 0x80, 0xB8, 0xC8, 0xD8
FRAME = 0x108


def stat(s: Stub) -> None:
    """stat(2) and its family: all of the attributes."""
    a = s.a
    a.test(r11.low32, Entry.NEGATIVE)
    a.jne(s["enoent"])
    a.test(r11.low32, Entry.HAS_STAT)
    a.je(s["plain"])
    a.add(rsi, Entry.STAT)
    a.mov(rcx, at(rbx, Poll.STAT_SIZE))
    a.xor(edx, edx)
    # rsi, rcx: what to copy out to the argument after the path; rdx: the result
    s.bind("copy_out")
    a.mov(rax, Mem(rbp, Slot.ARGS + 8, r8, 8))
    a.mov(at(rbp, Slot.OUT_ADDRESS), rax)
    a.mov(at(rbp, Slot.OUT_LENGTH), rcx)
    a.lea(rdi, at(rbp, PAYLOAD))
    a.rep_movsb()
    a.mov(rax, rdx)
    a.jmp(s["answer_out"])


def fstat(s: Stub) -> None:
    """fstat(2): the host's answer with the file's own identity and owner."""
    a = s.a
    s.bind("fstat_key")
    a.movabs(rax, Entry.STAT_SIZE << 32)  # at the payload's beginning, and the call has succeeded
    a.cmp(rax, at(rbp, Slot.IN))
    a.jne(s["plain"])
    a.mov(rax, at(rbp, PAYLOAD))
    a.mov(at(rsp, PATH), rax)
    a.mov(rax, at(rbp, PAYLOAD + 8))
    a.mov(at(rsp, PATH + 8), rax)
    a.mov(r11.low32, 16)
    a.mov(r9.low32, 2 * FILES)
    a.xor(r8.low32, r8.low32)
    a.jmp(s["find"])

    s.bind("fstat")
    live = a.label("live_mode")
    for field in (_ST_DEV, _ST_INO, _ST_UID_GID, _ST_RDEV):
        a.mov(rax, at(rsi, Entry.STAT + field))
        a.mov(at(rbp, PAYLOAD + field), rax)
    a.test(r11.low32, Entry.LIVE_MODE)
    a.jne(live)
    a.mov(eax, at(rsi, Entry.STAT + _ST_MODE, 4))
    a.mov(at(rbp, PAYLOAD + _ST_MODE, 4), eax)
    a.bind(live)
    a.mov(rax, at(rbp, Slot.ARGS + 8))
    a.mov(at(rbp, Slot.OUT_ADDRESS), rax)
    a.mov(at(rbp, Slot.OUT_LENGTH), Entry.STAT_SIZE)
    a.xor(eax, eax)
    a.jmp(s["answer_out"])


def access(s: Stub) -> None:
    """access(2): whether it is there; whether it may be used is Python's."""
    a = s.a
    s.bind("access")
    there = a.label("there")
    a.mov(eax, Mem(rbp, Slot.ARGS + 8, r8, 8, 4))
    a.test(r11.low32, Entry.NEGATIVE)
    a.je(there)
    a.cmp(eax, 7)
    a.jbe(s["enoent"])
    a.jmp(s["plain"])
    a.bind(there)
    a.test(eax, eax)
    a.je(s["answer"])
    a.jmp(s["plain"])


def readlink(s: Stub) -> None:
    """readlink(2) of a link, and of what is none."""
    a = s.a
    s.bind("readlink")
    text = a.label("link_text")
    a.mov(eax, Mem(rbp, Slot.ARGS + 16, r8, 8, 4))
    a.test(eax, eax)
    a.jle(s["plain"])
    a.test(r11.low32, Entry.NEGATIVE)
    a.jne(s["enoent"])
    a.test(r11.low32, Entry.HAS_LINK)
    a.jne(text)
    a.test(r11.low32, Entry.NO_LINK)
    a.je(s["plain"])
    a.mov(rax, -_EINVAL)
    a.jmp(s["answer"])
    a.bind(text)
    a.mov(ecx, at(rsi, Entry.TEXT_LENGTH, 4))
    a.cmp(rcx, rax)
    a.cmova(rcx, rax)
    a.mov(rdx, rcx)
    a.add(rsi, Entry.TEXT)
    a.jmp(s["copy_out"])


def open_(s: Stub) -> None:
    """Open the host's file, send the descriptor, close ours; the guest's program receives it.

    What fails is done again by Python, which knows what to say.
    """
    a = s.a
    s.bind("open")
    a.mov(r10.low32, Mem(rbp, Slot.ARGS + 8, r8, 8, 4))
    a.test(r10.low32, at(rbx, Poll.NOT_PLAIN, 4))
    a.jne(s["plain"])
    a.test(r11.low32, Entry.NEGATIVE)
    a.jne(s["enoent"])
    a.test(r11.low32, Entry.HAS_FILE)
    a.je(s["plain"])
    a.test(eax, Entry.NEEDS_READ)
    a.jne(s["plain"])
    a.lea(rdi, at(rsi, Entry.TEXT))
    a.mov(esi, r10.low32)
    a.and_(esi, _O_NONBLOCK)
    a.or_(esi, _O_CLOEXEC)
    s.host_call(_OPEN)
    a.test(rax, rax)
    a.js(s["plain"])
    a.mov(r9, rax)  # kept by host calls, as r8 and r10 are
    _message(s)
    a.mov(edi, at(r15, Record.SOCKET, 4))
    a.lea(rsi, at(rsp, _HEADER))
    a.mov(edx, _MSG_DONTWAIT)
    s.host_call(HostCall.SENDMSG)
    a.mov(rdx, rax)
    # Ours is closed before the guest can close its own, which must be the last one.
    a.mov(edi, r9.low32)
    s.host_call(HostCall.CLOSE)
    a.test(rdx, rdx)
    a.js(s["plain"])
    a.shl(r10.low32, 7)
    a.lea(rsi, Mem(rbx, Poll.DESCRIPTOR, r10, 1))
    a.lea(rdi, at(rbp, Slot.PROGRAM))
    a.mov(ecx, Poll.DESCRIPTOR_SIZE // 8)
    a.rep_movsq()
    a.mov(at(rbp, Slot.PROGRAM + _NUMBER), r8)
    a.mov(at(rbp, Slot.OPS), 2)
    a.jmp(s["done"])


def _message(s: Stub) -> None:
    """The message with descriptor r9 for this slot; r8 = its number, r10 = 1: close on exec."""
    a = s.a
    a.mov(r8, at(r15, Record.NUMBER))
    a.inc(r8)
    a.mov(r8.low32, r8.low32)
    a.mov(at(r15, Record.NUMBER), r8)
    a.mov(rdx, r14)  # for whom: the slot's address in the guest, which the slot also says
    a.shl(rdx, SLOT_SIZE.bit_length() - 1)
    a.movabs(rax, SLOTS_BASE)
    a.add(rax, rdx)
    a.mov(at(rsp, _WORDS), rax)
    a.shr(r10.low32, 19)  # O_CLOEXEC
    a.and_(r10.low32, 1)
    a.lea(rax, Mem(r10, 0, r8, 2))
    a.mov(at(rsp, _WORDS + 8), rax)
    a.lea(rax, at(rsp, _WORDS))
    a.mov(at(rsp, _IOVEC), rax)
    a.mov(at(rsp, _IOVEC + 8), 16)
    a.xor(eax, eax)
    a.mov(at(rsp, _HEADER), rax)
    a.mov(at(rsp, _HEADER + 8), rax)
    a.mov(at(rsp, _HEADER + 48), rax)
    a.lea(rax, at(rsp, _IOVEC))
    a.mov(at(rsp, _HEADER + 16), rax)
    a.mov(at(rsp, _HEADER + 24), 1)
    a.lea(rax, at(rsp, _CONTROL))
    a.mov(at(rsp, _HEADER + 32), rax)
    a.mov(at(rsp, _HEADER + 40), 24)
    a.mov(at(rsp, _CONTROL), _CMSG_LENGTH)
    a.movabs(rax, _SCM_RIGHTS)
    a.mov(at(rsp, _CONTROL + 8), rax)
    a.mov(at(rsp, _CONTROL + 16), r9)
