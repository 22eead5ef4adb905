"""A process's control socket: descriptors travel between kernel and guest over it.

One SEQPACKET pair a process. Each message names the slot it is for, so that threads which receive
at the same time can hand each other theirs (codegen.templates.*.program, RECV_FDS).
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from codegen.layout import BOOT_MESSAGE, Op, Slot
from codegen.poll_layout import Record
from kernel.reply import SCRATCH, Program, Result

if TYPE_CHECKING:
    from kernel.fs.openfile import OpenFile
    from kernel.slot import SlotMemory
    from kernel.task import Task

_HEADER = struct.Struct("<QQ")
_MSG_CMSG_CLOEXEC = 0x4000_0000
_MAIL_LIMIT = 1024
_STOCK = 8  # of channels: what a burst of forks needs before there is time again


_DESCRIPTORS = {1: struct.Struct("i"), 2: struct.Struct("ii")}
_FIRST = Result(0)
_NUMBER_MASK = (1 << 32) - 1
_FIRST_OP_NUMBER = (Slot.PROGRAM + 16 + 3 * 8) // 8  # the first op's fourth argument
_SENT = Record.NUMBER // 8


def one_descriptor(cloexec: bool, flagged: bool) -> bytes:
    """The program of an answer with one descriptor; its first op lacks the message's number."""
    program = Program()
    flags = _MSG_CMSG_CLOEXEC if cloexec else 0
    got = program.op(Op.RECV_FDS, 1, flags, int(flagged), flags=Op.CHECKED)
    program.op(Op.END, got, register=SCRATCH)
    return b"".join(program.ops)


_ONE_DESCRIPTOR = {(c, f): one_descriptor(c, f) for c in (False, True) for f in (False, True)}


def receive(
    program: Program, count: int, number: int, cloexec: bool, flagged: bool = False
) -> Result:
    """Append the op that receives message `number` with `count` descriptors."""
    flags = _MSG_CMSG_CLOEXEC if cloexec else 0
    return program.op(Op.RECV_FDS, count, flags, int(flagged), number, flags=Op.CHECKED)


class Channel:
    """The kernel's end; `guest_end` is sent or given to the guest and closed here."""

    def __init__(self) -> None:
        self._ours, self.guest_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self.fileno = self._ours.fileno()
        self._mail: dict[int, int] = {}  # slot address -> descriptor received from its thread

    def send_boot(self, slot: SlotMemory, bells: int) -> None:
        """Send a stub that is about to boot its slot and the bell page."""
        self._send(slot.address, [slot.fd, bells], BOOT_MESSAGE)

    def transfer(
        self, task: Task, program: Program, fds: list[int], cloexec: bool, flagged: bool = False
    ) -> Result:
        """Send one or two descriptors and append the op that receives them."""
        number = self.send(task, fds, cloexec)
        return receive(program, len(fds), number, cloexec, flagged)

    def send(self, task: Task, fds: list[int], cloexec: bool) -> int:
        """Send one or two descriptors; the message's number, for the op that receives them."""
        record = task.slot.record
        record[_SENT] = number = (record[_SENT] + 1) & _NUMBER_MASK
        self._send(task.slot.address, fds, cloexec | number << 1)
        return number

    def _send(self, slot_address: int, fds: list[int], word: int) -> None:
        data = _DESCRIPTORS[len(fds)].pack(*fds)
        self._ours.sendmsg(
            [_HEADER.pack(slot_address, word)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, data)]
        )

    def receive(self, slot_address: int) -> int:
        """The descriptor the thread at `slot_address` sent with SEND_FD; -1 if there is none.

        Threads send at the same time: what belongs to another one is kept for it.
        """
        while slot_address not in self._mail:
            try:
                data, control, _, _ = self._ours.recvmsg(
                    _HEADER.size, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return -1
            if len(data) < _HEADER.size:
                return -1
            fds = array.array("i")
            for _, _, numbers in control:
                fds.frombytes(numbers[: len(numbers) - len(numbers) % fds.itemsize])
            for extra in fds[1:]:
                os.close(extra)
            sender = _HEADER.unpack(data)[0]
            if sender in self._mail or len(self._mail) >= _MAIL_LIMIT:
                for fd in fds:  # no honest stub sends these
                    os.close(fd)
            elif fds:
                self._mail[sender] = fds[0]
        return self._mail.pop(slot_address)

    def give(
        self,
        task: Task,
        program: Program,
        host_fd: int,
        cloexec: bool,
        open_file: OpenFile | None = None,
    ) -> Result:
        """Send `host_fd` (and close it) and append the op that receives it."""
        try:
            result = self.transfer(task, program, [host_fd], cloexec, open_file is not None)
        finally:
            os.close(host_fd)
        task.process.expect(task, result, cloexec, open_file)
        return result

    def give_one(self, task: Task, host_fd: int, cloexec: bool, open_file: OpenFile | None) -> None:
        """Answer a call with one descriptor: ready-made ops, which open(2) uses all day.

        Ours is closed before the guest can close its own, which must be the last one.
        """
        flagged = open_file is not None
        try:
            number = self.send(task, [host_fd], cloexec)
        finally:
            os.close(host_fd)
        if flagged:
            task.process.expect(task, _FIRST, cloexec, open_file)
        task.slot.write_ready(_ONE_DESCRIPTOR[cloexec, flagged], 2)
        task.slot.q[_FIRST_OP_NUMBER] = number

    def close(self) -> None:
        """Close our end (and the guest's, if it was never handed over)."""
        self._ours.close()
        for fd in self._mail.values():
            os.close(fd)
        self._mail.clear()
        with contextlib.suppress(OSError):
            self.guest_end.close()


class Stock:
    """Channels made ahead of need, while nobody waits: fork(2) takes one."""

    def __init__(self, later: Callable[[Callable[[], None]], None]) -> None:
        self._later = later
        self._ready: list[Channel] = []
        self._closed = False

    def take(self) -> Channel:
        """A fresh channel; another is made when there is time."""
        self._later(self._refill)
        return self._ready.pop() if self._ready else Channel()

    def _refill(self) -> None:
        if len(self._ready) < _STOCK and not self._closed:
            with contextlib.suppress(OSError):  # no descriptors left: `take` will say so
                self._ready.append(Channel())
                self._later(self._refill)

    def close(self) -> None:
        """Close what was not taken."""
        self._closed = True
        for channel in self._ready:
            channel.close()
        self._ready.clear()
