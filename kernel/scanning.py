"""Executable memory that is looked at, every page, before it becomes executable.

For engines under which nothing traps, and for instruction sets whose sites are whole words: there
a filter is the net underneath (kernel.trap_net).

Counterpart of kernel.patching. File text is mapped without PROT_EXEC first, then its code pages are
replaced by a patched copy (codegen.svc_texts), or made executable if there is nothing to patch; its
other pages become executable if they are executed (kernel.write_or_execute). Trampolines lie behind
the image where there is room, else wherever branches reach.

What is mapped before the program, by the host (vDSO) or an emulator, is not looked at. Where there
is no filter the loader must not tell guests of it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

from codegen import svc_patch
from codegen.layout import Slot, Trampoline
from codegen.svc_patch import Entries, UnreachableError
from codegen.svc_texts import Text, TextStore, usual_distance
from kernel.errors import LinuxError
from kernel.isa import arm64_trampolines
from kernel.reply import Program, Reply
from kernel.scanned import Pages
from kernel.signals.state import SIGBUS, SIGSEGV, SIGSYS
from kernel.stale_ranges import forget_unmapped
from kernel.text_mapping import READ_EXEC, call, map_copy, scanned
from kernel.texts import (
    GUESTS,
    IN_STUB,
    MAP_PRIVATE_FIXED,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    Outcome,
)
from kernel.trampoline_room import find_room, used_before
from kernel.trap_net import SYS_SECCOMP, TrapNet
from kernel.write_or_execute import WriteOrExecute

if TYPE_CHECKING:
    from codegen.image import StubImage
    from kernel.isa.frames import HostFrame
    from kernel.process import Process
    from kernel.reply import Answer
    from kernel.task import Task

_MAP_TYPE, _MAP_PRIVATE, _MAP_ANONYMOUS = 0xF, 2, 0x20


class Trampolines:
    """Interruptions of threads within trampolines, and faults that are ours to settle."""

    def __init__(
        self, stub: StubImage, entries: Entries, rule: WriteOrExecute, net: TrapNet
    ) -> None:
        self._entries = entries
        self._saved = {
            stub.symbols[name]: stub.symbols[f"{name}_saved"]
            for name in ("entry", "set_tls", "use_x18")
            if name in stub.symbols
        }
        self._rule = rule
        self._net = net

    async def settle(self, task: Task, host: HostFrame) -> None:
        """A thread in a trampoline is before or behind its site."""
        registers = host.registers
        found = scanned(task.process).trampoline(host.instruction_pointer)
        if found is None:
            self._settle_body(task, host)
            return
        area, trampoline, site = found
        offset = host.instruction_pointer - trampoline
        if site.x18 and offset >= Trampoline.BACK:
            place = area.text + site.offset
            arm64_trampolines.settle_body(registers, -1, place, site.x18, host.slot)
            return
        at = arm64_trampolines.stored_x17(offset, host.stack_pointer)
        x17 = int.from_bytes(await task.copy_in(at, 8), "little") if at is not None else None
        arm64_trampolines.settle(registers, offset, area.text + site.offset, host.slot, x17)

    @staticmethod
    def _settle_body(task: Task, host: HostFrame) -> None:
        found = scanned(task.process).body(host.instruction_pointer)
        if found is not None:
            area, body, site = found
            offset, at = host.instruction_pointer - body, area.text + site.offset
            arm64_trampolines.settle_body(host.registers, offset, at, site.x18, host.slot)

    async def fault(
        self, task: Task, host: HostFrame, signal: int, code: int, address: int
    ) -> Outcome:
        """A trampoline without a stack enters the stub; pages change between their two states."""
        if signal == SIGSYS and code == SYS_SECCOMP:
            try:
                trampoline = await self._net.way(task, host.instruction_pointer)
            except LinuxError:
                return GUESTS
            host.registers[arm64_trampolines.PC] = trampoline
            return IN_STUB
        self._settle_body(task, host)
        pc = host.instruction_pointer
        found = scanned(task.process).trampoline(pc)
        stores = found is not None and found[1] == pc != address
        if found is None or not stores or signal not in (SIGSEGV, SIGBUS):
            return await self._rule.fault(task, pc, signal, code, address)
        _, trampoline, site = found
        saved = self._saved[self._entries.of(site)]
        arm64_trampolines.enter(host.registers, trampoline, host.slot, saved)
        return IN_STUB


class Scanner:
    """One container's executable memory under an engine without a filter."""

    shares = False  # one process's look would not hold for the others' writes

    def __init__(
        self,
        stub: StubImage,
        cache: str | os.PathLike[str] | None,
        page: int,
        *,
        strict: bool = False,
    ) -> None:
        """`cache`: the translation cache's directory. `page`, `strict`: codegen.svc_texts."""
        entries = Entries.of_stub(stub.symbols)
        self.store = TextStore(cache, entries, page, strict=strict)
        self._rule = WriteOrExecute(self.store)
        self.interruptions = Trampolines(stub, entries, self._rule, TrapNet(entries, page))

    def begin(self, task: Task, program: Program) -> None:
        """Nothing has to be there before the program."""

    def map_segment(
        self,
        task: Task,
        program: Program,
        files: tuple[int, int],
        where: tuple[int, int, int],
        prot: int,
        room: int,
    ) -> int:
        """See TextPolicy."""
        got, fd = files
        start, length, offset = where
        nr = task.abi.numbers
        granted = self.granted(task.process, start, length, prot)
        program.do(nr["mmap"], start, length, granted, MAP_PRIVATE_FIXED, got, offset)
        if not prot & PROT_EXEC or prot & PROT_WRITE:
            return room
        text = self._look(fd, offset, length, errno.ENOEXEC)
        if text is None:
            return room
        address = start + text.first - offset
        if text.copy is None:
            program.do(nr["mprotect"], address, text.size, READ_EXEC)
        else:
            area = room
            if not svc_patch.reaches(text.sites, room - address):  # a program with vast data
                area = self._below(task.process, text, address)
            self._map_copy(task, program, text, address, area, errno.ENOEXEC)
            room = max(room, area + text.area_size)
        self._looked_at(task.process, address, text, prot)
        return room

    def _look(self, fd: int, offset: int, length: int, refusal: int) -> Text | None:
        try:
            return self.store.look(fd, offset, length)
        except UnreachableError:  # more text than a branch reaches over
            raise LinuxError(refusal) from None
        except OSError as error:
            raise LinuxError(error.errno or errno.EIO) from error

    def _below(self, process: Process, text: Text, address: int) -> int:
        """Room for trampolines before the image that is being loaded."""
        image = text.layout.image_of(text.first) if text.layout is not None else None
        area = address + (image[0] if image is not None else 0) - text.area_size
        while taken := scanned(process).areas.over(area, area + text.area_size):
            area = taken[0][0] - text.area_size
        return area

    def _map_copy(
        self, task: Task, program: Program, text: Text, address: int, area: int, refusal: int
    ) -> None:
        try:
            copy = self.store.at(text, area - address)
        except UnreachableError:
            raise LinuxError(refusal) from None
        map_copy(task, program, os.dup(copy.fd), address, text.size, area, text.sites, text.page)

    def _looked_at(self, process: Process, address: int, text: Text, prot: int) -> None:
        pages = Pages(prot & 7, True)
        scanned(process).pages.set(address, address + text.size, pages)

    def granted(self, process: Process, start: int, length: int, prot: int) -> int:
        """Not executable yet; what was asked is remembered."""
        if not prot & PROT_EXEC:
            return prot
        scanned(process).asked(start, start + length + -length % self.store.page, prot, False)
        return prot & ~PROT_EXEC | PROT_READ

    async def mmap(
        self, task: Task, addr: int, length: int, prot: int, flags: int, fd: int, off: int
    ) -> Answer:
        """mmap(2) with PROT_EXEC. Memory shared with writers is EACCES, as SELinux answers."""
        if flags & _MAP_ANONYMOUS:
            if flags & _MAP_TYPE != _MAP_PRIVATE:
                return -errno.EACCES
            async with scanned(task.process).turn:
                return await self._mmap(task, addr, length, prot, flags, fd, off)
        taken = await task.take_fd(fd)
        try:
            if flags & _MAP_TYPE != _MAP_PRIVATE:
                if fcntl.fcntl(taken, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
                    return -errno.EACCES
                flags = flags & ~_MAP_TYPE | _MAP_PRIVATE
            async with scanned(task.process).turn:
                start = await self._mmap(task, addr, length, prot, flags, fd, off)
                if not prot & PROT_WRITE:
                    await self._map_code(task, taken, start, length, off, prot)
            return start
        finally:
            os.close(taken)

    async def _mmap(
        self, task: Task, addr: int, length: int, prot: int, flags: int, fd: int, off: int
    ) -> int:
        """As asked, but not executable yet."""
        readable = prot & ~PROT_EXEC | PROT_READ
        await forget_unmapped(task)
        start = await call(task, "mmap", addr, length, readable, flags, fd, off)
        self.unmapped(task.process, start, length)
        self.granted(task.process, start, length, prot)
        return start

    async def _map_code(
        self, task: Task, fd: int, start: int, length: int, offset: int, prot: int
    ) -> None:
        """Let the code of a file mapping be executed; the mapping goes if that fails."""
        try:
            text = self._look(fd, offset, length, errno.ENOMEM)
            if text is None:
                return
            address = start + text.first - offset
            if text.copy is None:
                await call(task, "mprotect", address, text.size, READ_EXEC)
            else:
                program = Program()
                area = await self._room(task, text, address, start + length)
                self._map_copy(task, program, text, address, area, errno.ENOMEM)
                await task.run(program)
            self._looked_at(task.process, address, text, prot)
        except (LinuxError, OSError) as error:
            await call(task, "munmap", start, length)
            self.unmapped(task.process, start, length)
            raise LinuxError(error.errno or errno.ENOMEM) from error

    async def _room(self, task: Task, text: Text, address: int, end: int) -> int:
        """An address for the trampolines of text that was just mapped."""
        if not text.sites:
            return end
        keep_out = (address, max(end, address + text.size))
        image = text.layout.image_of(text.first) if text.layout is not None else None
        if image is not None:
            keep_out = (
                min(keep_out[0], address + image[0]), max(keep_out[1], address + image[1])
            )  # fmt: skip
        covered = end + -end % text.page - address
        used = await used_before(task, address, covered, text.sites, keep_out, text.page)
        if used is not None:
            return used
        usual = address + usual_distance(text)
        hints = dict.fromkeys((usual, keep_out[1], keep_out[0] - text.area_size))
        return await find_room(task, address, text.sites, keep_out, hints, text.page)

    async def mprotect(self, task: Task, start: int, length: int, prot: int) -> Answer:
        """mprotect(2): pages become executable after a look."""
        if prot & PROT_EXEC and start % self.store.page == 0 and length:
            return await self._rule.protect(task, start, length, prot)
        self.unmapped(task.process, start, length)
        return Reply.hostcall("mprotect", start, length, prot)

    def unmapped(self, process: Process, start: int, length: int) -> None:
        """Forget what is known of a range."""
        memory = scanned(process)
        end = start + length + -length % self.store.page
        memory.pages.clear(start, end)
        memory.areas.clear(start, end)

    def trapped(self, task: Task) -> None:
        """The net has seen to it."""
        task.traps_seen = task.slot.q[Slot.TRAPS // 8]

    async def close(self) -> None:
        """Copies are closed with the last process that could map them: this one."""
