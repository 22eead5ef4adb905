"""A guest thread: who it is, its slot, and the coroutine of the call it is sleeping in.

A handler that may sleep is a coroutine, stepped inline by `Task.start` and whoever wakes it; no
asyncio task is made. It sleeps on three things: a `Waiter` (another handler wakes it), an
asyncio future (host I/O, timers), or the guest itself (a program that ends in CONTINUE). The first
two are interruptible by signals; the third answers by itself.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import struct
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

from codegen.layout import PAYLOAD_SIZE, Op, Slot, State
from codegen.poll_layout import Record
from kernel import isa
from kernel.errors import Interrupted, LinuxError
from kernel.records import set_credentials
from kernel.reply import Program, sleeping_flags

if TYPE_CHECKING:
    from kernel.credentials import Credentials
    from kernel.fs.context import FsContext
    from kernel.isa import Isa
    from kernel.isa.frames import Frames
    from kernel.process import Process
    from kernel.signals.state import Pending
    from kernel.slot import SlotMemory
    from tables import Table

_log = logging.getLogger("ddock.kernel")
_CHUNK = PAYLOAD_SIZE - 4096
_RESULTS = Slot.RESULTS // 8
_IDENTITY = struct.Struct("<7Q")  # from Slot.TID on
_TRAPS, _HOLD = Record.TRAPS // 8, Record.HOLD // 8
_HOST_TID, _PENDING, _STATE = Slot.HOST_TID // 4, Slot.PENDING // 4, Slot.STATE // 4


class Waiter:
    """What a sleeping handler awaits; `wake` resumes it with a value, once.

    Signals do not end an uninterruptible sleep (Linux's TASK_UNINTERRUPTIBLE): they wait for it.
    """

    __slots__ = ("_task", "_value", "done", "interruptible")

    def __init__(self, interruptible: bool = True) -> None:
        self._task: Task | None = None
        self._value: Any = None
        self.done = False
        self.interruptible = interruptible

    def __await__(self) -> Generator[Waiter, Any, Any]:
        if self.done:
            return self._value
        return (yield self)

    def bind(self, task: Task) -> None:
        """`task` sleeps here."""
        self._task = task

    def wake(self, value: Any = None) -> None:
        """Resume the sleeper (or let its await return at once)."""
        if self.done:
            return
        self.done = True
        self._value = value
        if self._task is not None and self._task.sleeping_on is self:
            self._task.resume(value)


class _Guest:
    """Awaited while the guest runs a program that will post CONTINUED or FAILED."""

    __slots__ = ()

    interruptible = False

    def __await__(self) -> Generator[_Guest, Any, Any]:
        return (yield self)


_GUEST = _Guest()
FAILURE = object()  # the answer of a coroutine that raised what it must not raise


class ProgramFailed(LinuxError):
    """A checked micro-op of an awaited program failed; `index` says which."""

    def __init__(self, number: int, index: int) -> None:
        super().__init__(number)
        self.index = index


class Task:
    """One guest thread. Created by process.clone or container.spawn, ended by `Process`."""

    # What every thread begins with, until it is assigned: fork(2) makes many.
    blocked = 0  # signal mask, bit n-1
    saved_mask: int | None = None  # restored after sigsuspend, ppoll, ...
    pending: Pending | None = None  # created when a signal is first aimed at this thread
    alt_stack = (0, 2, 0)  # address, SS_DISABLE, size
    restart_nr = -1  # number of an interrupted call whose fate DELIVER decides
    call_nr = -1  # number of the call being served
    coroutine: Coroutine[Any, Any, Any] | None = None
    sleeping_on: Any = None
    after: Callable[[], None] | None = None  # to be called once the answer is published
    # What to answer when a checked op of the present call's reply program fails.
    recover: Callable[[int, int], Any] | None = None
    on_finish: Callable[[Task, Any], None] | None = None
    newborn: Process | None = None  # the process it has made last

    def __init__(
        self,
        process: Process,
        tid: int,
        slot: SlotMemory,
        credentials: Credentials,
        fs: FsContext,
        abi: Table,
    ) -> None:
        self.process = process
        self.tid = tid
        self.slot = slot
        self._credentials = credentials
        self.fs = fs
        self.abi = abi
        self.isa: Isa = isa.of(abi.isa)
        self.comm = process.comm
        self.errands: list[tuple[str, tuple[int, ...], Waiter]] = []  # host calls asked by others
        self.errands_done: list[Waiter] = []  # to wake once the program with them has run

    @property
    def traps_seen(self) -> int:
        """Of the traps that the slot counts, those the kernel has looked at."""
        return self.slot.record[_TRAPS]

    @traps_seen.setter
    def traps_seen(self, count: int) -> None:
        self.slot.record[_TRAPS] = count

    def hold(self) -> None:
        """The next request is for Python: what this answer has left behind awaits it."""
        self.slot.record[_HOLD] = 1

    @property
    def frames(self) -> Frames:
        """Its signal frames."""
        return self.isa.frames

    @property
    def credentials(self) -> Credentials:
        """Who the thread acts as; assigning also updates what getuid(2) and friends answer."""
        return self._credentials

    @credentials.setter
    def credentials(self, value: Credentials) -> None:
        self._credentials = value
        set_credentials(self.slot.record, value)
        self.write_identity()

    @property
    def host_tid(self) -> int:
        """The host's thread id, 0 until the host has made the thread."""
        return self.slot.words[_HOST_TID]

    def change_context(self, fs: FsContext) -> None:
        """Root and working directory are no longer those of whom they were shared with."""
        self.fs.users.pop(self.slot.index, None)
        self.fs = fs
        fs.users[self.slot.index] = self.slot.record

    def wean(self) -> None:
        """The last process it has made does not need to be known by this thread's slot any more."""
        if self.newborn is not None:
            self.newborn.learn_host_pid()
            self.newborn = None

    # -- running a handler's coroutine -----------------------------------------------------------

    def start(
        self, coroutine: Coroutine[Any, Any, Any], finish: Callable[[Task, Any], None]
    ) -> None:
        """Step `coroutine`; `finish(task, answer)` is called with its result or Interrupted."""
        self.coroutine = coroutine
        self.on_finish = finish
        self._step(coroutine.send, None)

    def resume(self, value: Any = None) -> None:
        """Continue the sleeping coroutine with a value."""
        if self.coroutine is not None:
            self._step(self.coroutine.send, value)

    def throw(self, error: BaseException) -> None:
        """Continue the sleeping coroutine with an exception."""
        if self.coroutine is not None:
            self._step(self.coroutine.throw, error)

    def interrupt(self) -> bool:
        """Wake an interruptible sleep with Interrupted; False if there was none."""
        if self.coroutine is None or self.sleeping_on is None or not self._interruptible:
            return False
        self.throw(Interrupted())
        return True

    @property
    def _interruptible(self) -> bool:
        return getattr(self.sleeping_on, "interruptible", True)  # futures are

    def abandon(self) -> None:
        """The thread is gone: close its coroutine so that its cleanup runs."""
        coroutine, self.coroutine, self.sleeping_on = self.coroutine, None, None
        if coroutine is not None:
            coroutine.close()

    def _step(self, advance: Callable[[Any], Any], value: Any) -> None:
        self.sleeping_on = None
        answer: Any
        try:
            waiting = advance(value)
        except StopIteration as stop:
            answer = stop.value
        except LinuxError as error:
            answer = -error.errno
        except Interrupted as interrupted:
            answer = interrupted
        except Exception:  # noqa: BLE001 - our bug: the thread group ends, the kernel lives
            _log.exception("handler of call %d of task %d failed", self.call_nr, self.tid)
            answer = FAILURE
        else:
            self.sleeping_on = waiting
            if isinstance(waiting, Waiter):
                waiting.bind(self)
            elif asyncio.isfuture(waiting):
                waiting._asyncio_future_blocking = False
                waiting.add_done_callback(self._future_done)
            if self.slot.words[_PENDING] and self._interruptible:
                self.interrupt()  # a signal came before the call slept
            return
        self.coroutine = None
        finish, self.on_finish = self.on_finish, None
        if finish is not None:
            finish(self, answer)

    def _future_done(self, future: asyncio.Future[Any]) -> None:
        if self.sleeping_on is not future:
            return
        if future.cancelled():
            self.throw(Interrupted())
        elif (error := future.exception()) is not None:
            if isinstance(error, OSError) and error.errno is not None:
                error = LinuxError(error.errno)
            self.throw(error)
        else:
            self.resume(future.result())

    # -- what a coroutine handler asks of its guest ----------------------------------------------

    async def run(self, program: Program) -> None:
        """Let the guest run `program` (without END). ProgramFailed on a checked error."""
        program.op(Op.CONTINUE)
        program.emit(self)
        self.process.container.ring.publish(self)
        await _GUEST

    async def shortened(self, program: Program) -> Program:
        """Run as much of `program` beforehand as is too long for one; the rest of it.

        Results and payload stay: what follows may refer to them.
        """
        while len(program.ops) > Slot.PROGRAM_LIMIT:
            await self.run(program.beginning(Slot.PROGRAM_LIMIT - 1))
        return program

    def result(self, register: int) -> int:
        """A micro-op's result after `run`, as a signed number."""
        value = self.slot.q[_RESULTS + register]
        return value - (1 << 64) if value >> 63 else value

    @property
    def in_guest(self) -> bool:
        """The guest runs a program of ours (CONTINUED or FAILED will follow)."""
        return self.sleeping_on is _GUEST

    @property
    def in_kernel(self) -> bool:
        """A call has been posted and does not sleep."""
        return self.sleeping_on is None and self.slot.words[_STATE] == State.REQUESTED

    async def copy_in(self, address: int, length: int) -> bytes:
        """`length` bytes of guest memory; LinuxError(EFAULT)."""
        parts = []
        for start in range(0, length, _CHUNK):
            n = min(_CHUNK, length - start)
            program = Program()
            program.op(Op.COPY_IN, address + start, 0, n, flags=Op.CHECKED)
            await self.run(program)
            parts.append(self.slot.read_payload(0, n))
        return b"".join(parts)

    async def copy_out(self, address: int, data: bytes) -> None:
        """Write guest memory; LinuxError(EFAULT)."""
        for start in range(0, len(data), _CHUNK):
            program = Program()
            program.copy_out(address + start, data[start : start + _CHUNK])
            await self.run(program)

    async def hostcall(self, name: str, *args: int) -> int:
        """Have the guest's thread make a host call.

        LinuxError on failure, Interrupted where a signal ends its sleep.
        """
        program = Program()
        flags = sleeping_flags(self.abi, name)
        register = program.op(Op.HOSTCALL, *args, nr=self.abi.numbers[name], flags=flags)
        try:
            await self.run(program)
        except ProgramFailed as failed:
            if failed.errno == errno.EINTR:
                raise Interrupted from None
            raise
        result = self.result(register)
        if -4096 < result < 0:
            raise LinuxError(-result)
        return result

    async def take_fd(self, fd: int) -> int:
        """A duplicate of the guest's descriptor `fd` in this process; the caller closes it."""
        program = Program()
        program.op(Op.SEND_FD, fd, flags=Op.CHECKED)
        await self.run(program)
        return self.sent_fd()

    def sent_fd(self) -> int:
        """The descriptor that a program's SEND_FD has sent; the caller closes it."""
        received = self.process.channel.receive(self.slot.address)
        if received < 0:
            raise LinuxError(errno.EBADF)
        return received

    async def sleep_on(self, future: asyncio.Future[Any] | Waiter) -> Any:
        """Wait for `future`; Interrupted when a signal comes first."""
        return await future

    def write_identity(self) -> None:
        """Put the answers of getpid, getuid, ... into the slot."""
        parent = self.process.parent
        ppid = parent.pid if parent is not None else 0
        write_identity(self.slot, self.tid, self.process.pid, ppid, self.credentials)


def write_identity(slot: SlotMemory, tid: int, pid: int, ppid: int, who: Credentials) -> None:
    """Put the answers of getpid, getuid, ... into a slot."""
    _IDENTITY.pack_into(slot.mm, Slot.TID, tid, pid, ppid, who.uid, who.euid, who.gid, who.egid)
