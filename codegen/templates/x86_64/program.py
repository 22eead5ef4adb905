"""The reply program's interpreter: the kernel composes, the stub obeys.

r12 = current op, r13 = ops left. Runs on the stub's stack (a reply to a system call) or on the
alternate stack (a reply to DELIVER). Every op leaves its result in rax and jumps to `op_done`.
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
    CTRL_FD,
    CTRL_MESSAGE_SIZE,
    FD_FLAGS_SIZE,
    PAYLOAD,
    SLOT_SIZE,
    STACK_TOP,
    Op,
    Request,
    Slot,
    State,
)
from codegen.templates.x86_64.common import ARGUMENTS, HostCall, Stub

_EINTR, _EFAULT, _EMFILE, _EAGAIN = -4, -14, -24, -11
_RLIMIT_NOFILE = 7
_MSG_DONTWAIT, _MSG_CTRUNC = 0x40, 8
_MESSAGE_NUMBER = 16 + 3 * 8  # offset of RECV_FDS's fourth argument in the op
_CMSG_ROOM = 24  # CMSG_SPACE of two descriptors
# Layout of the scratch area on the stack for sendmsg and recvmsg.
_MSGHDR, _IOV, _DATA, _CMSG, _SCRATCH = 0, 56, 72, 96, 128


def interpreter(s: Stub) -> None:
    """program: run the ops in the slot; END, ENTER, RETURN or a plain reply leave it."""
    a = s.a
    s.bind("program")
    a.mov(r13, gs(Slot.OPS))
    a.mov(r12, gs(Slot.SELF))
    a.add(r12, Slot.PROGRAM)
    s.bind("op_next")
    a.dec(r13)
    a.js(s["stub_broken"])
    for i, register in enumerate(ARGUMENTS):
        a.mov(register, at(r12, 16 + 8 * i))
    a.movzx(ecx, at(r12, 2, 2))
    a.test(ecx, ecx)
    a.je(s["op_dispatch"])
    for i, register in enumerate(ARGUMENTS):
        literal = a.label("literal")
        a.test(ecx, 1 << i)
        a.je(literal)
        a.mov(register, gs(Slot.RESULTS, 8, register))
        a.bind(literal)
    s.bind("op_dispatch")
    a.movzx(eax, at(r12, 0, 1))
    a.load_address(r11, s["op_table"])
    a.jmp(Mem(r11, 0, rax, 8))

    s.bind("op_done")
    a.movzx(ecx, at(r12, 1, 1))
    a.and_(ecx, 15)
    a.mov(gs(Slot.RESULTS, 8, rcx), rax)
    a.mov(ecx, at(r12, 4, 4))
    a.test(ecx, Op.REPORT_EINTR)
    a.je(s["op_check"])
    a.cmp(rax, _EINTR)
    a.je(s["op_failed"])
    s.bind("op_check")
    a.test(ecx, Op.CHECKED)
    a.je(s["op_advance"])
    a.cmp(rax, -4095)
    a.jae(s["op_failed"])
    s.bind("op_advance")
    a.add(r12, Slot.OP_SIZE)
    a.jmp(s["op_next"])
    s.bind("op_failed")
    a.sub(r12, gs(Slot.SELF))
    a.sub(r12, Slot.PROGRAM)
    a.shr(r12, 6)
    a.mov(gs(Slot.ARGS), r12)
    a.mov(gs(Slot.ARGS + 8), rax)
    a.movabs(rcx, Request.FAILED)
    a.mov(gs(Slot.NR), rcx)
    a.jmp(s["post"])
    s.bind("op_continue")
    a.movabs(rcx, Request.CONTINUED)
    a.mov(gs(Slot.NR), rcx)
    a.jmp(s["post"])
    s.bind("op_end")
    a.mov(rax, rdi)
    a.jmp(s["resume"])


def host_calls(s: Stub) -> None:
    """HOSTCALL. The interruptible form has the same window as a native call (see entry)."""
    a = s.a
    s.bind("op_hostcall")
    plain = a.label("hostcall_plain")
    a.mov(rax, at(r12, 8))
    a.test(at(r12, 4, 4), Op.INTERRUPTIBLE)
    a.je(plain)
    s.bind("hostcall_check")
    a.cmp(gs(Slot.PENDING, 4), 0)
    a.jne(s["hostcall_interrupted"])
    s.bind("hostcall_call")
    a.syscall()
    a.jmp(s["op_done"])
    a.bind(plain)
    a.syscall()
    a.jmp(s["op_done"])
    s.bind("hostcall_interrupted")
    a.mov(rax, _EINTR)
    a.jmp(s["op_done"])


def memory(s: Stub) -> None:
    """The ops on guest memory: a bad address gives -EFAULT as the op's result."""
    a = s.a
    for label, to_guest in (("op_copy_out", True), ("op_copy_in", False)):
        s.bind(label)
        _guard(s)
        a.mov(rcx, rdx)
        a.add(rsi, gs(Slot.SELF))
        a.add(rsi, PAYLOAD)
        if not to_guest:
            a.xchg(rsi, rdi)
        a.rep_movsb()
        a.jmp(s["op_unguard"])
    s.bind("op_cmpxchg32")
    _guard(s)
    a.mov(eax, esi)
    a.lock_cmpxchg(at(rdi, 0, 4), edx)
    a.mov(gs(Slot.FIXUP), 0)
    a.jmp(s["op_done"])
    s.bind("op_store32")
    _guard(s)
    a.mov(at(rdi, 0, 4), esi)
    s.bind("op_unguard")
    a.mov(gs(Slot.FIXUP), 0)
    a.xor(eax, eax)
    a.jmp(s["op_done"])
    s.bind("op_fault")
    a.mov(gs(Slot.FIXUP), 0)
    a.mov(rax, _EFAULT)
    a.jmp(s["op_done"])


def _guard(s: Stub) -> None:
    s.a.load_address(rax, s["op_fault"])
    s.a.mov(gs(Slot.FIXUP), rax)


def descriptors(s: Stub) -> None:  # noqa: PLR0915 - straight-line assembly
    """RECV_FDS and SEND_FD over the process's control socket.

    The kernel sends before it replies, so our message is queued, or a sibling thread that was
    receiving took it and is about to leave it in our mailbox: each message names its slot.
    """
    a = s.a
    s.bind("op_recv_fds")
    for saved, register in ((r14, rdi), (r15, rsi), (rbp, rdx)):
        a.mov(saved, register)  # r14 = count, r15 = recvmsg flags, rbp = fd flag byte
    a.sub(rsp, _SCRATCH)
    again = a.label("recv_again")
    a.bind(again)
    a.cmp(gs(Slot.MAIL_FULL), 0)
    a.jne(s["recv_mail"])
    receive_message(s, lambda: (a.mov(rdx, r15), a.or_(edx, _MSG_DONTWAIT)))
    a.cmp(rax, _EAGAIN)
    a.je(s["recv_yield"])
    a.test(rax, rax)
    a.js(s["recv_out"])
    a.test(at(rsp, _MSGHDR + 48, 4), _MSG_CTRUNC)
    a.jne(s["recv_none"])
    a.mov(rbx, at(rsp, _DATA))
    a.cmp(rbx, gs(Slot.SELF))
    a.jne(s["recv_deliver"])
    a.mov(rax, at(rsp, _CMSG + 16))  # both descriptors
    a.mov(rdx, at(rsp, _DATA + 8))
    a.jmp(s["recv_got"])
    s.bind("recv_mail")
    a.mov(rax, gs(Slot.MAIL_FDS))
    a.mov(rdx, gs(Slot.MAIL_FULL))
    a.mov(at(rsp, _CMSG + 16), rax)  # where recv_stale looks
    a.mov(at(rsp, _CMSG), 24)
    a.mov(gs(Slot.MAIL_FULL), 0)
    s.bind("recv_got")
    a.mov(rcx, at(r12, _MESSAGE_NUMBER))
    a.cmp(rcx, -1)
    a.je(s["recv_take"])
    a.shl(rdx, 1)
    a.shr(rdx, 2)
    a.cmp(rdx, rcx)
    a.jne(s["recv_stale"])
    s.bind("recv_take")
    a.mov(rcx, rax)
    a.shr(rcx, 32)
    a.mov(eax, eax)
    a.cmp(r14, 1)
    a.je(s["recv_one"])
    a.movzx(edx, at(r12, 1, 1))
    a.inc(edx)
    a.and_(edx, 15)
    a.mov(gs(Slot.RESULTS, 8, rdx), rcx)
    a.jmp(s["recv_out"])
    s.bind("recv_one")
    a.cmp(eax, FD_FLAGS_SIZE)
    a.jae(s["recv_out"])
    a.mov(rcx, gs(Slot.FLAGS_POINTER))
    a.mov(Mem(rcx, 0, rax, 1, 1), rbp.low8)
    a.jmp(s["recv_out"])
    s.bind("recv_none")
    a.mov(rax, _EMFILE)
    s.bind("recv_out")
    a.add(rsp, _SCRATCH)
    a.jmp(s["op_done"])
    s.bind("recv_yield")
    s.host_call(HostCall.SCHED_YIELD)
    a.jmp(again)
    s.bind("recv_stale")  # of a program that failed before it came to its RECV_FDS
    close_received(s)
    a.jmp(again)
    s.bind("recv_deliver")  # a sibling's message (rbx: its slot)
    two, empty = a.label("two_for_sibling"), a.label("mailbox_empty")
    a.cmp(at(rsp, _CMSG), 24)
    a.je(two)
    a.mov(at(rsp, _CMSG + 20, 4), -1)
    a.bind(two)
    a.cmp(at(rbx, Slot.MAIL_FULL), 0)
    a.je(empty)
    for place in (Slot.MAIL_FDS, Slot.MAIL_FDS + 4):  # one message a thread is under way: stale
        a.mov(edi, at(rbx, place, 4))
        s.host_call(HostCall.CLOSE)
    a.bind(empty)
    for place in (_CMSG + 16, _CMSG + 20):  # close-on-exec as the kernel said, not as we asked
        a.mov(edi, at(rsp, place, 4))
        a.mov(esi, 2)  # F_SETFD
        a.mov(rdx, at(rsp, _DATA + 8))
        a.and_(edx, 1)
        s.host_call(HostCall.FCNTL)
    a.mov(rax, at(rsp, _CMSG + 16))
    a.mov(at(rbx, Slot.MAIL_FDS), rax)
    a.mov(rax, at(rsp, _DATA + 8))
    a.bts(rax, 63)  # never zero
    a.mov(at(rbx, Slot.MAIL_FULL), rax)
    a.jmp(again)
    _send_fd(s)


def close_received(s: Stub) -> None:
    """Close the descriptors of the message in the scratch area (cmsg_len tells one from two)."""
    a = s.a
    one = a.label("one_received")
    a.mov(edi, at(rsp, _CMSG + 16, 4))
    s.host_call(HostCall.CLOSE)
    a.cmp(at(rsp, _CMSG), 24)
    a.jne(one)
    a.mov(edi, at(rsp, _CMSG + 20, 4))
    s.host_call(HostCall.CLOSE)
    a.bind(one)


def receive_message(s: Stub, flags_to_rdx: object) -> None:
    """recvmsg on CTRL_FD into the scratch area at rsp; `flags_to_rdx` emits the flags' load."""
    a = s.a
    _message(s)
    a.mov(at(rsp, _MSGHDR + 40), _CMSG_ROOM)
    assert callable(flags_to_rdx)
    a.mov(edi, CTRL_FD)
    a.mov(rsi, rsp)
    flags_to_rdx()
    s.host_call(HostCall.RECVMSG)


def _message(s: Stub) -> None:
    """An empty msghdr at rsp whose data and control areas lie behind it."""
    a = s.a
    a.xor(eax, eax)
    for offset in (0, 8, 48):
        a.mov(at(rsp, _MSGHDR + offset), rax)
    a.lea(rax, at(rsp, _IOV))
    a.mov(at(rsp, _MSGHDR + 16), rax)
    a.mov(at(rsp, _MSGHDR + 24), 1)
    a.lea(rax, at(rsp, _CMSG))
    a.mov(at(rsp, _MSGHDR + 32), rax)
    a.lea(rax, at(rsp, _DATA))
    a.mov(at(rsp, _IOV), rax)
    a.mov(at(rsp, _IOV + 8), CTRL_MESSAGE_SIZE)


def _send_fd(s: Stub) -> None:
    a = s.a
    s.bind("op_send_fd")
    a.sub(rsp, _SCRATCH)
    _message(s)
    a.mov(at(rsp, _MSGHDR + 40), 24)
    a.mov(rax, gs(Slot.SELF))
    a.mov(at(rsp, _DATA), rax)
    a.mov(at(rsp, _DATA + 8), 0)
    a.mov(at(rsp, _CMSG), 20)  # CMSG_LEN(4)
    a.mov(at(rsp, _CMSG + 8, 4), 1)  # SOL_SOCKET
    a.mov(at(rsp, _CMSG + 12, 4), 1)  # SCM_RIGHTS
    a.mov(at(rsp, _CMSG + 16, 4), edi)
    a.mov(edi, CTRL_FD)
    a.mov(rsi, rsp)
    a.xor(edx, edx)
    s.host_call(HostCall.SENDMSG)
    a.add(rsp, _SCRATCH)
    a.jmp(s["op_done"])


def clone(s: Stub) -> None:
    """CLONE: the parent goes on with the program; the child starts from its own slot's REGS.

    Host signals are blocked across the call (the program does it), because the child has no
    alternate stack of its own until it has set one. The child runs on the parent's stack pointer
    but touches no stack until its registers are loaded.
    """
    a = s.a
    plain, mapped, no_ctrl, no_tid = (
        a.label(name) for name in ("clone_plain", "slot_mapped", "no_ctrl", "no_tid")
    )
    s.bind("op_clone")
    a.mov(rbx, r9)
    a.mov(r14.low32, -1)  # the control socket; a thread gets none
    a.test(at(r12, 4, 4), Op.MAPS)
    a.je(plain)
    a.mov(r14.low32, gs(Slot.RESULTS, 4))
    a.mov(r15.low32, gs(Slot.RESULTS + 8, 4))
    a.bind(plain)
    s.host_call(HostCall.CLONE)
    a.test(rax, rax)
    a.jne(s["op_done"])
    a.test(r14.low32, r14.low32)
    a.js(mapped)
    _map_slot(s)
    a.bind(mapped)
    a.mov(rsi, rbx)
    a.mov(edi, 0x1001)  # ARCH_SET_GS
    s.host_call(HostCall.ARCH_PRCTL)
    common_start(s, rbx)
    s.host_call(HostCall.GETTID)
    a.mov(gs(Slot.HOST_TID, 4), eax)
    a.test(r14.low32, r14.low32)
    a.js(no_ctrl)
    _child_limit(s, Slot.CHILD_LIMIT)
    a.mov(edi, r14.low32)
    a.mov(esi, CTRL_FD)
    a.xor(edx, edx)
    s.host_call(HostCall.DUP3)
    a.mov(edi, r14.low32)
    s.host_call(HostCall.CLOSE)
    _child_limit(s, Slot.CHILD_LIMIT_AFTER)
    a.bind(no_ctrl)
    a.mov(rdi, gs(Slot.CHILD_TID))
    a.test(rdi, rdi)
    a.je(no_tid)
    a.load_address(rax, no_tid)
    a.mov(gs(Slot.FIXUP), rax)
    a.mov(rax, gs(Slot.TID))
    a.mov(at(rdi, 0, 4), eax)
    a.bind(no_tid)
    a.mov(gs(Slot.FIXUP), 0)
    a.mov(gs(Slot.STATE, 4), State.IDLE)
    a.mov(rsp, gs(Slot.SELF))
    a.add(rsp, STACK_TOP - 64)
    unblock_signals(s)
    a.xor(eax, eax)
    a.jmp(s["resume"])


def _map_slot(s: Stub) -> None:
    """A new process maps its slot (r15) at rbx. Without one it can tell nobody, and ends."""
    a = s.a
    good = a.label("slot_good")
    a.mov(rdi, rbx)
    a.mov(esi, SLOT_SIZE)
    a.mov(edx, 3)  # PROT_READ | PROT_WRITE
    a.mov(r10.low32, 0x11)  # MAP_SHARED | MAP_FIXED
    a.mov(r8.low32, r15.low32)
    a.xor(r9.low32, r9.low32)
    s.host_call(HostCall.MMAP)
    a.cmp(rax, rbx)
    a.je(good)
    a.ud2()
    a.bind(good)
    a.mov(edi, r15.low32)
    s.host_call(HostCall.CLOSE)


def _child_limit(s: Stub, limit: int) -> None:
    """RLIMIT_NOFILE of this process = the slot's struct rlimit, unless that is empty.

    dup3 onto CTRL_FD fails where the soft limit is not above it.
    """
    a = s.a
    unlimited = a.label("unlimited")
    a.cmp(gs(limit + 8), 0)
    a.je(unlimited)
    a.xor(edi, edi)
    a.mov(esi, _RLIMIT_NOFILE)
    a.mov(rdx, gs(Slot.SELF))
    a.add(rdx, limit)
    a.xor(r10.low32, r10.low32)
    s.host_call(HostCall.PRLIMIT64)
    a.bind(unlimited)


def common_start(s: Stub, slot: object) -> None:
    """What a new thread does once GS is its slot: no inheritance, own stack, death signal."""
    a = s.a
    assert slot in (rbx, r14)
    a.mov(rdi, gs(Slot.SELF))
    a.mov(esi, SLOT_SIZE)
    a.mov(edx, 10)  # MADV_DONTFORK
    s.host_call(HostCall.MADVISE)
    a.mov(rdi, gs(Slot.SELF))
    a.add(rdi, Slot.ALT_DESCRIPTOR)
    a.xor(esi, esi)
    s.host_call(HostCall.SIGALTSTACK)
    a.mov(edi, 1)  # PR_SET_PDEATHSIG
    a.mov(esi, 9)
    s.host_call(HostCall.PRCTL)


def unblock_signals(s: Stub) -> None:
    """Empty host signal mask; 8 bytes of stack are used."""
    a = s.a
    a.push(0)
    a.mov(edi, 2)  # SIG_SETMASK
    a.mov(rsi, rsp)
    a.xor(edx, edx)
    a.mov(r10.low32, 8)
    s.host_call(HostCall.RT_SIGPROCMASK)
    a.add(rsp, 8)


def enter(s: Stub) -> None:
    """ENTER: a fresh program: rdi = rip, rsi = rsp, every other register zero (ELF psABI)."""
    a = s.a
    s.bind("op_enter")
    a.mov(r14, rdi)
    a.mov(r15, rsi)
    unblock_signals(s)
    a.mov(rcx, r14)
    a.mov(rsp, r15)
    for register in (rax, rbx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15):
        a.xor(register.low32, register.low32)
    a.jmp(s["exit_check"])
