"""The host signal handler: every host signal of a guest thread arrives here.

A trap (SIGSYS) continues at `entry`. A kick or a host signal in guest code posts DELIVER: the
kernel reads and edits the frame in place (it lies in the slot, which is shared memory) and the
handler returns into whatever the kernel decided. In the stub's own code only the windows matter.
All host signals are blocked while the handler runs (sa_mask).
"""

from __future__ import annotations

from codegen.asm.x86_64 import (
    at,
    eax,
    edi,
    gs,
    r8,
    r9,
    r10,
    r11,
    rax,
    rcx,
    rdi,
    rdx,
    rsi,
    rsp,
)
from codegen.layout import (
    KICK_SIGNAL,
    STUB_BASE,
    STUB_TEXT_LIMIT,
    Reason,
    Request,
    Slot,
    State,
)
from codegen.templates.x86_64.common import HostCall, Stub

SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS = 4, 5, 7, 8, 11, 31
_SYNCHRONOUS = (SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV)
# Offsets in ucontext (asm/ucontext.h, asm/sigcontext.h).
RAX, RCX, RIP, R10 = 144, 152, 168, 56
# int3 sites: (label, reason). The guest's registers are final there but for rip (and rax).
_TRAPS = (
    ("trap_before", Reason.BEFORE),
    ("trap_interrupted", Reason.INTERRUPTED),
    ("trap_after", Reason.AFTER),
    ("sigreturn", Reason.SIGRETURN),
    ("stub_broken", Reason.FATAL),
)


def traps(s: Stub) -> None:
    """Breakpoints that turn a state of the stub into a host frame with all registers in it."""
    for label, _ in _TRAPS:
        s.bind(label)
        s.a.int3()
        s.a.ud2()


def handler(s: Stub) -> None:
    """handler: rdi = signal, rsi = siginfo, rdx = ucontext; on the alternate stack."""
    a = s.a
    s.bind("handler")
    a.mov(gs(Slot.HANDLER_RSP), rsp)
    a.mov(rax, at(rdx, RIP))
    a.movabs(rcx, STUB_BASE)
    a.mov(r8, rax)
    a.sub(r8, rcx)
    a.cmp(edi, SIGSYS)
    a.je(s["on_sigsys"])
    a.cmp(r8, STUB_TEXT_LIMIT - STUB_BASE)
    a.jb(s["in_stub"])
    a.mov(r9.low32, Reason.ASYNC)
    a.cmp(edi, KICK_SIGNAL)
    a.je(s["deliver"])
    for signal in _SYNCHRONOUS:
        a.cmp(edi, signal)
        a.je(s["maybe_fault"])
    s.bind("host_signal")
    _record(s)
    a.jmp(s["deliver"])
    s.bind("maybe_fault")  # si_code <= 0: sent by a process, not raised by the instruction
    a.cmp(at(rsi, 8, 4), 0)
    a.jle(s["host_signal"])
    a.mov(r9.low32, Reason.FAULT)
    s.bind("deliver")  # r9 = reason
    a.mov(gs(Slot.REASON), r9)
    a.mov(gs(Slot.ARGS), rdi)
    a.mov(gs(Slot.ARGS + 8), rsi)
    a.mov(gs(Slot.ARGS + 16), rdx)
    a.movabs(rcx, Request.DELIVER)
    a.mov(gs(Slot.NR), rcx)
    a.jmp(s["post"])
    s.bind("handler_return")
    a.mov(rsp, gs(Slot.HANDLER_RSP))
    a.add(rsp, 8)
    s.host_call(HostCall.RT_SIGRETURN)
    a.ud2()
    _on_sigsys(s)
    _in_stub(s)


def _record(s: Stub) -> None:
    """Note host signal edi in HOST_SIGNALS."""
    a = s.a
    a.mov(eax, edi)
    a.dec(eax)
    a.mov(r10, gs(Slot.HOST_SIGNALS))
    a.bts(r10, rax)
    a.mov(gs(Slot.HOST_SIGNALS), r10)


def _on_sigsys(s: Stub) -> None:
    """A trapped `syscall`: continue at `entry` as if the site had been patched.

    The filter denied the stub itself: that is a bug or an attack, the kernel ends the process.
    """
    a = s.a
    s.bind("on_sigsys")
    a.mov(r9.low32, Reason.FATAL)
    a.cmp(r8, STUB_TEXT_LIMIT - STUB_BASE)
    a.jb(s["deliver"])
    a.mov(rcx, gs(Slot.TRAPS))
    a.mov(r10, rcx)
    a.inc(rcx)
    a.mov(gs(Slot.TRAPS), rcx)
    a.and_(r10.low32, Slot.TRAP_LOG_SIZE - 1)
    a.mov(gs(Slot.TRAP_LOG, 8, r10), rax)
    a.mov(at(rdx, RCX), rax)
    a.load_address(rax, s["entry"])
    a.mov(at(rdx, RIP), rax)
    a.jmp(s["handler_return"])


def _in_stub(s: Stub) -> None:
    """Interrupted inside the stub: rax = rip."""
    a = s.a
    s.bind("in_stub")
    not_copy = a.label("not_copy")
    for signal in (SIGSEGV, SIGBUS):
        a.cmp(edi, signal)
        a.je(s["stub_fault"])
    a.jmp(not_copy)
    s.bind("stub_fault")
    a.mov(r9.low32, Reason.FATAL)
    a.mov(rcx, gs(Slot.FIXUP))
    a.test(rcx, rcx)
    a.je(s["deliver"])
    a.mov(at(rdx, RIP), rcx)
    a.jmp(s["handler_return"])
    a.bind(not_copy)
    a.cmp(edi, SIGTRAP)
    a.jne(s["asynchronous"])
    for label, reason in _TRAPS:
        other = a.label("other_trap")
        a.load_address(rcx, s[label])
        a.inc(rcx)
        a.cmp(rax, rcx)
        a.jne(other)
        a.mov(r9.low32, reason)
        _fix_frame(s, reason)
        a.jmp(s["deliver"])
        a.bind(other)
    a.mov(r9.low32, Reason.FATAL)
    a.jmp(s["deliver"])
    _windows(s)


def _fix_frame(s: Stub, reason: int) -> None:
    """Make the frame say what the guest would see (rcx = its return address)."""
    a = s.a
    if reason not in (Reason.BEFORE, Reason.INTERRUPTED, Reason.AFTER, Reason.SIGRETURN):
        return
    a.mov(rax, at(rdx, RCX))
    if reason == Reason.BEFORE:
        a.sub(rax, 2)
    a.mov(at(rdx, RIP), rax)


def _windows(s: Stub) -> None:
    """A kick or host signal in the stub's own code."""
    a = s.a
    s.bind("asynchronous")
    a.cmp(edi, KICK_SIGNAL)
    a.je(s["windows"])
    a.mov(r11, rax)
    _record(s)
    a.mov(rax, r11)
    a.mov(gs(Slot.PENDING, 4), 1)
    s.bind("windows")
    for first, last in (
        ("native_check", "native_call"),
        ("exit_check", "exit_jump"),
        ("hostcall_check", "hostcall_call"),
        ("watch_check", "watch_call"),
    ):
        outside = a.label("outside_window")
        a.load_address(rcx, s[first])
        a.cmp(rax, rcx)
        a.jb(outside)
        a.load_address(r8, s[last])
        a.cmp(rax, r8)
        a.ja(outside)
        a.mov(at(rdx, RIP), rcx)
        a.jmp(s["handler_return"])
        a.bind(outside)
    a.cmp(gs(Slot.HOST_SIGNALS), 0)
    a.je(s["handler_return"])
    a.cmp(gs(Slot.STATE, 4), State.DONE)
    a.je(s["handler_return"])
    a.mov(gs(Slot.ATTENTION, 4), 1)
    a.call(s["ring"])
    a.jmp(s["handler_return"])
    s.bind("restorer")
    s.host_call(HostCall.RT_SIGRETURN)
    a.ud2()
