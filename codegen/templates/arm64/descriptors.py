"""RECV_FDS and SEND_FD: descriptors travel over the process's control socket."""

from __future__ import annotations

from collections.abc import Callable

from codegen.asm.arm64 import (
    at,
    indexed,
    sp,
    x0,
    x1,
    x2,
    x9,
    x10,
    x11,
    x19,
    x20,
    x21,
    x22,
    x23,
    x25,
    x28,
    xzr,
)
from codegen.layout import CTRL_FD, CTRL_MESSAGE_SIZE, FD_FLAGS_SIZE, Slot
from codegen.templates.arm64.common import HostCall, Stub

_EMFILE, _EAGAIN = -24, -11
_MSG_DONTWAIT, _CTRUNC_BIT = 0x40, 3
_MESSAGE_NUMBER = 16 + 3 * 8  # offset of RECV_FDS's fourth argument in the op
_CMSG_ROOM = 24  # CMSG_SPACE of two descriptors
# Layout of the scratch area on the stack for sendmsg and recvmsg.
MSGHDR, IOV, DATA, CMSG, SCRATCH = 0, 56, 72, 96, 128


def receiving(s: Stub) -> None:  # noqa: PLR0915 - straight-line assembly
    """RECV_FDS. x19 = count, x20 = recvmsg flags, x21 = fd flag byte.

    The kernel sends before it replies, so our message is queued, or a sibling thread that was
    receiving took it and is about to leave it in our mailbox: each message names its slot.
    """
    a = s.a
    s.bind("op_recv_fds")
    for saved, register in ((x19, x0), (x20, x1), (x21, x2)):
        a.mov(saved, register)
    a.sub(sp, sp, SCRATCH)
    again, flagged = a.label("recv_again"), a.label("recv_flag")
    a.bind(again)
    s.load(x9, Slot.MAIL_FULL)
    a.cbnz(x9, s["recv_mail"])
    receive_message(s, lambda: a.orr(x2, x20, _MSG_DONTWAIT))
    a.cmn(x0, -_EAGAIN)
    a.b_eq(s["recv_yield"])
    a.tbnz(x0, 63, s["recv_out"])
    a.ldr(x9.w, at(sp, MSGHDR + 48))
    a.tbnz(x9.w, _CTRUNC_BIT, s["recv_none"])
    a.ldr(x22, at(sp, DATA))
    a.cmp(x22, x28)
    a.b_ne(s["recv_deliver"])
    a.ldr(x0, at(sp, CMSG + 16))  # both descriptors
    a.ldr(x10, at(sp, DATA + 8))
    a.b(s["recv_got"])
    s.bind("recv_mail")
    s.load(x0, Slot.MAIL_FDS)
    s.load(x10, Slot.MAIL_FULL)
    a.str_(x0, at(sp, CMSG + 16))  # where recv_stale looks
    a.mov(x9, 24)
    a.str_(x9, at(sp, CMSG))
    s.store(xzr, Slot.MAIL_FULL)
    s.bind("recv_got")
    a.ldr(x9, at(x25, _MESSAGE_NUMBER))
    a.cmn(x9, 1)
    a.b_eq(s["recv_take"])
    a.ubfx(x10, x10, 1, 62)
    a.cmp(x10, x9)
    a.b_ne(s["recv_stale"])
    s.bind("recv_take")
    a.lsr(x9, x0, 32)
    a.mov(x0.w, x0.w)
    a.cmp(x19, 1)
    a.b_eq(s["recv_one"])
    a.ldrb(x10.w, at(x25, 1))
    a.add(x10.w, x10.w, 1)
    a.and_(x10.w, x10.w, 15)
    a.add(x11, x28, Slot.RESULTS)
    a.str_(x9, indexed(x11, x10, 3))
    a.b(s["recv_out"])
    s.bind("recv_one")
    a.lsr(x9, x0, FD_FLAGS_SIZE.bit_length() - 1)
    a.cbnz(x9, s["recv_out"])
    a.bind(flagged)
    s.load(x9, Slot.FLAGS_POINTER)
    a.strb(x21.w, indexed(x9, x0))
    a.b(s["recv_out"])
    s.bind("recv_none")
    a.constant(x0, _EMFILE)
    s.bind("recv_out")
    a.add(sp, sp, SCRATCH)
    a.b(s["op_done"])
    s.bind("recv_yield")
    s.host_call(HostCall.SCHED_YIELD)
    a.b(again)
    s.bind("recv_stale")  # of a program that failed before it came to its RECV_FDS
    close_received(s)
    a.b(again)
    s.bind("recv_deliver")  # a sibling's message (x22: its slot)
    two, empty = a.label("two_for_sibling"), a.label("mailbox_empty")
    a.ldr(x9, at(sp, CMSG))
    a.cmp(x9, 24)
    a.b_eq(two)
    a.constant(x9, -1)
    a.str_(x9.w, at(sp, CMSG + 20))
    a.bind(two)
    a.ldr(x9, at(x22, Slot.MAIL_FULL))
    a.cbz(x9, empty)
    for place in (Slot.MAIL_FDS, Slot.MAIL_FDS + 4):  # one message a thread is under way: stale
        a.ldr(x0.w, at(x22, place))
        s.host_call(HostCall.CLOSE)
    a.bind(empty)
    for place in (CMSG + 16, CMSG + 20):  # close-on-exec as the kernel said, not as we asked
        a.ldr(x0.w, at(sp, place))
        a.mov(x1, 2)  # F_SETFD
        a.ldr(x2, at(sp, DATA + 8))
        a.and_(x2, x2, 1)
        s.host_call(HostCall.FCNTL)
    a.ldr(x9, at(sp, CMSG + 16))
    a.str_(x9, at(x22, Slot.MAIL_FDS))
    a.ldr(x9, at(sp, DATA + 8))
    a.orr(x9, x9, "#0x8000000000000000")  # never zero
    a.dmb("ish")
    a.str_(x9, at(x22, Slot.MAIL_FULL))
    a.b(again)


def close_received(s: Stub) -> None:
    """Close the descriptors of the message in the scratch area (cmsg_len tells one from two)."""
    a = s.a
    one = a.label("one_received")
    a.ldr(x0.w, at(sp, CMSG + 16))
    s.host_call(HostCall.CLOSE)
    a.ldr(x9, at(sp, CMSG))
    a.cmp(x9, 24)
    a.b_ne(one)
    a.ldr(x0.w, at(sp, CMSG + 20))
    s.host_call(HostCall.CLOSE)
    a.bind(one)


def receive_message(s: Stub, flags_to_x2: Callable[[], None]) -> None:
    """recvmsg on CTRL_FD into the scratch area at sp; `flags_to_x2` emits the flags' load."""
    a = s.a
    _message(s)
    a.mov(x9, _CMSG_ROOM)
    a.str_(x9, at(sp, MSGHDR + 40))
    a.mov(x0, CTRL_FD)
    a.mov(x1, sp)
    flags_to_x2()
    s.host_call(HostCall.RECVMSG)


def _message(s: Stub) -> None:
    """An empty msghdr at sp whose data and control areas lie behind it."""
    a = s.a
    a.stp(xzr, xzr, at(sp, MSGHDR))
    a.str_(xzr, at(sp, MSGHDR + 48))
    a.add(x9, sp, IOV)
    a.mov(x10, 1)
    a.stp(x9, x10, at(sp, MSGHDR + 16))
    a.add(x9, sp, CMSG)
    a.str_(x9, at(sp, MSGHDR + 32))
    a.add(x9, sp, DATA)
    a.mov(x10, CTRL_MESSAGE_SIZE)
    a.stp(x9, x10, at(sp, IOV))


def sending(s: Stub) -> None:
    """SEND_FD."""
    a = s.a
    s.bind("op_send_fd")
    a.mov(x23, x0)
    a.sub(sp, sp, SCRATCH)
    _message(s)
    a.mov(x9, 24)
    a.str_(x9, at(sp, MSGHDR + 40))
    a.stp(x28, xzr, at(sp, DATA))
    a.mov(x9, 20)  # CMSG_LEN(4)
    a.str_(x9, at(sp, CMSG))
    a.mov(x9, 1)
    a.str_(x9.w, at(sp, CMSG + 8))  # SOL_SOCKET
    a.str_(x9.w, at(sp, CMSG + 12))  # SCM_RIGHTS
    a.str_(x23.w, at(sp, CMSG + 16))
    a.mov(x0, CTRL_FD)
    a.mov(x1, sp)
    a.mov(x2, xzr)
    s.host_call(HostCall.SENDMSG)
    a.add(sp, sp, SCRATCH)
    a.b(s["op_done"])
