"""From the host's execve of the stub to its first reply.

Nothing is known yet but the descriptors: the first message on CTRL_FD brings the slot and the
bell page. Host signals are blocked (the program that exec'ed did it) until ENTER.
"""

from __future__ import annotations

from codegen.asm.x86_64 import (
    Mem,
    Reg,
    at,
    edi,
    edx,
    esi,
    gs,
    r8,
    r9,
    r10,
    r12,
    r13,
    r14,
    r15,
    rax,
    rbx,
    rcx,
    rdi,
    rsi,
    rsp,
)
from codegen.layout import BELLS_BASE, PAGE, PAYLOAD, SLOT_SIZE, STACK_TOP, Request, Slot
from codegen.templates.x86_64.common import HostCall, Stub
from codegen.templates.x86_64.program import (
    close_received,
    common_start,
    receive_message,
)

_SA_FLAGS = 4 | 0x0800_0000 | 0x0400_0000  # SA_SIGINFO | SA_ONSTACK | SA_RESTORER
_UNHANDLED = (9, 17, 18, 19)  # KILL, CHLD (never ours), CONT and STOP
_EINTR = -4


def boot(s: Stub) -> None:
    """boot: the ELF entry point. rsp = the host's initial stack."""
    a = s.a
    s.bind("boot")
    a.mov(r15, rsp)
    a.sub(rsp, 256)
    again = a.label("boot_receive")
    a.bind(again)
    receive_message(s, lambda: a.mov(edx, 0x4000_0000))  # MSG_CMSG_CLOEXEC
    a.cmp(rax, _EINTR)
    a.je(again)
    a.cmp(rax, 16)
    a.jne(s["boot_failed"])
    a.cmp(at(rsp, 72 + 8), 0)
    mine = a.label("boot_message")
    a.jl(mine)  # BOOT_MESSAGE is the sign bit
    close_received(s)
    a.jmp(again)
    a.bind(mine)
    a.mov(r14, at(rsp, 72))
    a.mov(rbx.low32, at(rsp, 96 + 16, 4))
    a.mov(r13.low32, at(rsp, 96 + 20, 4))
    _map(s, r14, SLOT_SIZE, rbx)
    a.movabs(r12, BELLS_BASE)
    _map(s, r12, PAGE, r13)
    a.mov(rsi, r14)
    a.mov(edi, 0x1001)  # ARCH_SET_GS
    s.host_call(HostCall.ARCH_PRCTL)
    common_start(s, r14)
    _install_handlers(s)
    a.movabs(rcx, Request.BOOT)
    a.mov(gs(Slot.NR), rcx)
    a.mov(gs(Slot.ARGS), r15)
    _copy_stack(s)
    a.lea(rsp, at(r14, STACK_TOP))
    a.jmp(s["post"])
    s.bind("boot_failed")
    a.mov(edi, 127)
    s.host_call(HostCall.EXIT_GROUP)
    a.ud2()


def _copy_stack(s: Stub) -> None:
    """argc, argv, envp and auxv at r15 into the payload.

    Exactly these: they end close to the top of the stack, and no fault can be caught yet.
    """
    a = s.a
    environment, auxiliary = a.label("boot_environment"), a.label("boot_auxiliary")
    a.mov(rcx, at(r15))
    a.lea(rsi, Mem(r15, 16, rcx, 8))
    for label, step in ((environment, 8), (auxiliary, 16)):
        a.bind(label)
        a.mov(rax, at(rsi))
        a.add(rsi, step)
        a.test(rax, rax)
        a.jne(label)
    a.mov(rcx, rsi)
    a.sub(rcx, r15)
    a.mov(rsi, r15)
    a.lea(rdi, at(r14, PAYLOAD))
    a.rep_movsb()


def _map(s: Stub, address: Reg, length: int, descriptor: Reg) -> None:
    """Map shared memory at a fixed address and close its descriptor."""
    a = s.a
    a.mov(rdi, address)
    a.mov(esi, length)
    a.mov(edx, 3)
    a.mov(r10.low32, 0x11)  # MAP_SHARED | MAP_FIXED
    a.mov(r8, descriptor)
    a.xor(r9.low32, r9.low32)
    s.host_call(HostCall.MMAP)
    a.mov(rdi, descriptor)
    a.test(rax, rax)
    a.js(s["boot_failed"])
    s.host_call(HostCall.CLOSE)


def _install_handlers(s: Stub) -> None:
    """rt_sigaction for every host signal but the unhandled ones; all blocked while one runs."""
    a = s.a
    a.load_address(rax, s["handler"])
    a.mov(at(rsp, 0), rax)
    a.mov(at(rsp, 8), _SA_FLAGS)
    a.load_address(rax, s["restorer"])
    a.mov(at(rsp, 16), rax)
    a.mov(at(rsp, 24), -1)
    a.mov(rbx.low32, 1)
    loop, skip = a.label("handlers"), a.label("handler_skip")
    a.bind(loop)
    for signal in _UNHANDLED:
        a.cmp(rbx.low32, signal)
        a.je(skip)
    a.mov(edi, rbx.low32)
    a.mov(rsi, rsp)
    a.xor(edx, edx)
    a.mov(r10.low32, 8)
    s.host_call(HostCall.RT_SIGACTION)
    a.bind(skip)
    a.inc(rbx.low32)
    a.cmp(rbx.low32, 64)
    a.jbe(loop)
