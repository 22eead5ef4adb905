"""From the host's execve of the stub to its first reply.

Nothing is known yet but the descriptors: the first message on CTRL_FD brings the slot and the
bell page. Host signals are blocked (the program that exec'ed did it) until ENTER.
"""

from __future__ import annotations

from codegen.asm.arm64 import (
    Reg,
    X,
    at,
    post,
    sp,
    x0,
    x1,
    x2,
    x3,
    x9,
    x10,
    x19,
    x20,
    x21,
    x22,
    x28,
    xzr,
)
from codegen.layout import BELLS_BASE, PAGE, PAYLOAD, SLOT_SIZE, Request, Slot, SlotArm64
from codegen.templates.arm64 import signals, threads
from codegen.templates.arm64.clone import common_start
from codegen.templates.arm64.common import HostCall, Stub
from codegen.templates.arm64.descriptors import CMSG, DATA, close_received, receive_message

_SA_FLAGS = 4 | 0x0800_0000 | 0x0400_0000  # SA_SIGINFO | SA_ONSTACK | SA_RESTORER
_UNHANDLED = (9, 17, 18, 19)  # KILL, CHLD (never ours), CONT and STOP
_SIGNALS = 64


def boot(s: Stub) -> None:
    """boot: the ELF entry point. sp = the host's initial stack."""
    a = s.a
    s.bind("boot")
    a.mov(x19, sp)
    a.sub(sp, sp, 256)
    again, mine = a.label("boot_receive"), a.label("boot_message")
    a.bind(again)
    receive_message(s, lambda: a.constant(x2, 0x4000_0000))  # MSG_CMSG_CLOEXEC
    a.cmn(x0, 4)  # EINTR
    a.b_eq(again)
    a.cmp(x0, 16)
    a.b_ne(s["boot_failed"])
    a.ldr(x9, at(sp, DATA + 8))
    a.tbnz(x9, 63, mine)  # BOOT_MESSAGE
    close_received(s)
    a.b(again)
    a.bind(mine)
    a.ldr(x28, at(sp, DATA))
    a.ldr(x20.w, at(sp, CMSG + 16))
    a.ldr(x21.w, at(sp, CMSG + 20))
    a.mov(x22, x28)
    _map(s, x22, SLOT_SIZE, x20)
    a.constant(x22, BELLS_BASE)
    _map(s, x22, PAGE, x21)
    common_start(s)
    threads.fresh_table(s)
    signals.sigreturn_pages(s)
    _install_handlers(s)
    a.constant(x9, Request.BOOT)
    s.store(x9, Slot.NR)
    s.store(x19, Slot.ARGS)
    _copy_stack(s)
    s.far(x9, x28, SlotArm64.STACK_TOP)
    a.mov(sp, x9)
    a.b(s["post"])
    s.bind("boot_failed")
    a.mov(x0, 127)
    s.host_call(HostCall.EXIT_GROUP)
    a.brk(1)


def _copy_stack(s: Stub) -> None:
    """argc, argv, envp and auxv at x19 into the payload.

    Exactly these: they end close to the top of the stack, and no fault can be caught yet.
    """
    a = s.a
    environment, auxiliary = a.label("boot_environment"), a.label("boot_auxiliary")
    a.ldr(x9, at(x19))
    a.add(x1, x19, x9, "lsl #3")
    a.add(x1, x1, 16)
    for label, step in ((environment, 8), (auxiliary, 16)):
        a.bind(label)
        a.ldr(x10, post(x1, step))
        a.cbnz(x10, label)
    a.sub(x2, x1, x19)
    a.mov(x1, x19)
    s.far(x0, x28, PAYLOAD)
    a.bl(s["copy"])


def _map(s: Stub, address: Reg, length: int, descriptor: Reg) -> None:
    """Map shared memory at a fixed address and close its descriptor."""
    a = s.a
    a.mov(x0, address)
    a.constant(x1, length)
    a.mov(x2, 3)
    a.mov(x3, 0x11)  # MAP_SHARED | MAP_FIXED
    a.mov(X[4], descriptor)
    a.mov(X[5], xzr)
    s.host_call(HostCall.MMAP)
    a.tbnz(x0, 63, s["boot_failed"])
    a.mov(x0, descriptor)
    s.host_call(HostCall.CLOSE)


def _install_handlers(s: Stub) -> None:
    """rt_sigaction for every host signal but the unhandled ones; all blocked while one runs.

    An emulator lacks the last two.
    """
    a = s.a
    a.load_address(x9, s["handler"])
    a.constant(x10, _SA_FLAGS)
    a.stp(x9, x10, at(sp, 0))
    a.load_address(x9, s["restorer"])
    a.constant(x10, -1)
    a.stp(x9, x10, at(sp, 16))
    a.mov(x20, 1)
    loop, skip = a.label("handlers"), a.label("handler_skip")
    a.bind(loop)
    for signal in _UNHANDLED:
        a.cmp(x20, signal)
        a.b_eq(skip)
    a.mov(x0, x20)
    a.mov(x1, sp)
    a.mov(x2, xzr)
    a.mov(x3, 8)
    s.host_call(HostCall.RT_SIGACTION)
    a.bind(skip)
    a.add(x20, x20, 1)
    a.cmp(x20, _SIGNALS)
    a.b_ls(loop)
