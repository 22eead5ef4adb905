"""Executable memory: what loader and memory calls ask of the way an engine catches system calls.

kernel.patching.Translations    x86_64: every call traps; patched text makes it faster
kernel.scanning.Scanner         nothing traps: what is executable has been looked at
Untouched                       every call traps, and that is that
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kernel.reply import Reply

if TYPE_CHECKING:
    from kernel.isa.frames import HostFrame
    from kernel.process import Process
    from kernel.reply import Answer, Program
    from kernel.task import Task

PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MAP_PRIVATE_FIXED = 0x12


class Interruptions(Protocol):
    """Where threads can be that signals must not see: in what stands for a system call."""

    async def settle(self, task: Task, host: HostFrame) -> None:
        """Let `host` be at an instruction of the guest's own. LinuxError: its stack is gone."""

    async def fault(
        self, task: Task, host: HostFrame, signal: int, code: int, address: int
    ) -> Outcome:
        """Settle a synchronous fault that the guest must not hear of."""


class Outcome:
    """What `Interruptions.fault` did."""

    __slots__ = ("again", "theirs")

    def __init__(self, theirs: bool, again: bool) -> None:
        self.theirs = theirs  # the guest gets its signal
        self.again = again  # the thread goes on in guest code: other signals may be delivered


GUESTS = Outcome(theirs=True, again=True)
REPEAT = Outcome(theirs=False, again=True)  # the instruction will now succeed
IN_STUB = Outcome(theirs=False, again=False)  # it goes on in the stub, which looks for signals


class TextPolicy(Protocol):
    """One container's executable memory."""

    @property
    def interruptions(self) -> Interruptions | None:
        """What signal delivery has to ask; None: nothing."""

    def begin(self, task: Task, program: Program) -> None:
        """While loading, before anything is mapped."""

    def map_segment(
        self,
        task: Task,
        program: Program,
        files: tuple[int, int],
        where: tuple[int, int, int],
        prot: int,
        room: int,
    ) -> int:
        """While loading: map file pages privately at a fixed address.

        `files`: the file's descriptor in the guest (a Result) and here; `where`: address, length,
        file offset; [room, ...) is free behind the whole image. Returns where it is free then.
        LinuxError(ENOEXEC).
        """

    def granted(self, process: Process, start: int, length: int, prot: int) -> int:
        """Protection to give private anonymous memory for which the guest asked `prot`."""

    async def mmap(
        self, task: Task, addr: int, length: int, prot: int, flags: int, fd: int, off: int
    ) -> Answer:
        """mmap(2) with PROT_EXEC, of what the caller has checked otherwise."""

    async def mprotect(self, task: Task, start: int, length: int, prot: int) -> Answer:
        """mprotect(2), of what the caller has checked otherwise."""

    def unmapped(self, process: Process, start: int, length: int) -> None:
        """The guest gives up or replaces a range."""

    @property
    def shares(self) -> bool:
        """Whether shared memory may be executable."""

    def trapped(self, task: Task) -> None:
        """The stub has logged traps."""

    async def close(self) -> None:
        """The container has ended."""


class Untouched:
    """Nothing is patched, nothing is looked at."""

    interruptions: Interruptions | None = None
    shares = True

    def begin(self, task: Task, program: Program) -> None:
        """Nothing to prepare."""

    def map_segment(
        self,
        task: Task,
        program: Program,
        files: tuple[int, int],
        where: tuple[int, int, int],
        prot: int,
        room: int,
    ) -> int:
        """The file's own pages."""
        start, length, offset = where
        program.do(
            task.abi.numbers["mmap"], start, length, prot, MAP_PRIVATE_FIXED, files[0], offset
        )
        return room

    def granted(self, process: Process, start: int, length: int, prot: int) -> int:
        """As asked."""
        return prot

    async def mmap(
        self, task: Task, addr: int, length: int, prot: int, flags: int, fd: int, off: int
    ) -> Answer:
        """As asked."""
        return Reply.hostcall("mmap", addr, length, prot, flags, fd, off)

    async def mprotect(self, task: Task, start: int, length: int, prot: int) -> Answer:
        """As asked."""
        return Reply.hostcall("mprotect", start, length, prot)

    def unmapped(self, process: Process, start: int, length: int) -> None:
        """Nothing is known of any range."""

    def trapped(self, task: Task) -> None:
        """Sites stay on the trap."""

    async def close(self) -> None:
        """Nothing is held."""
