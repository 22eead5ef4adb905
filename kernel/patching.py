"""The translation cache at run time: patched text mapped in place of a file's own, traps noted.

A process that can reach the site table (its low addresses are free) gets patched text for every
executable mapping the cache knows. What still traps is logged by the stub in the slot; the file
offset of each such site is recorded, and a thread patches the file for the processes to come.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from codegen.layout import JUMP_TABLE, RETURN_TABLE, Op, Slot
from codegen.site_table import RETURN_TABLE_SIZE, SIZE
from kernel.reply import Program, Reply
from kernel.texts import MAP_PRIVATE_FIXED, Untouched

if TYPE_CHECKING:
    from codegen.cache import TranslationCache
    from codegen.cache_texts import FileText
    from kernel.container import Container
    from kernel.reply import Answer
    from kernel.scanned import Scanned
    from kernel.task import Task

_MAP_SHARED_FIXED, _MAP_PRIVATE_FIXED_ANON = 0x11, 0x32
_MAP_PRIVATE, _MAP_ANONYMOUS = 2, 0x20
_PROT_WRITE, _PROT_EXEC = 2, 4
_READ_EXEC, _READ_WRITE = 5, 3
_NO_FD = (1 << 64) - 1
_TRAPS, _TRAP_LOG = Slot.TRAPS // 8, Slot.TRAP_LOG // 8
_FLUSH_DELAY_S = 0.05
_KEPT_FILES = 256


class Mapping(NamedTuple):
    """An executable file mapping: [start, end) holds the file from `base` = start - offset on."""

    start: int
    end: int
    base: int
    text: FileText


@dataclass
class Texts:
    """A process's executable mappings, as its container's text policy keeps them."""

    patchable: bool = False  # the site table is mapped
    mappings: list[Mapping] = field(default_factory=list)
    bases: dict[FileText, int] = field(default_factory=dict)  # where each patched file lies
    scanned: Scanned | None = None  # kernel.scanning's

    def copy(self) -> Texts:
        """For a forked child."""
        looked_at = self.scanned.copy() if self.scanned is not None else None
        return Texts(self.patchable, list(self.mappings), dict(self.bases), looked_at)


class Translations(Untouched):
    """A container's use of the translation cache: the text policy where every call traps."""

    def __init__(self, container: Container, cache: TranslationCache) -> None:
        self._container = container
        self.cache = cache
        self._files: dict[FileText, int] = {}  # descriptors of files that may want patching
        self._flush: asyncio.TimerHandle | None = None
        self._flushing: asyncio.Future[int] | None = None

    def known(self, fd: int) -> FileText | None:
        """What the cache says of an open file; it is kept at hand while it may want patching."""
        text = self.cache.lookup(fd)
        if (
            text is not None
            and not text.complete
            and text not in self._files
            and len(self._files) < _KEPT_FILES
        ):
            self._files[text] = os.dup(fd)
        return text

    def trapped(self, task: Task) -> None:
        """The stub has logged traps since the last look: record the sites."""
        q = task.slot.q
        count = q[_TRAPS]
        new = min(count - task.traps_seen, Slot.TRAP_LOG_SIZE)
        task.traps_seen = count
        for i in range(count - new, count):
            self._record(task, q[_TRAP_LOG + i % Slot.TRAP_LOG_SIZE] - 2)

    def _record(self, task: Task, site: int) -> None:
        for mapping in task.process.texts.mappings:
            if mapping.start <= site < mapping.end:
                fd = self._files.get(mapping.text)
                offset = site - mapping.base
                if fd is not None and mapping.text.wants(offset):
                    self.cache.record(mapping.text, offset, fd)
                    self._flush_soon()
                return

    def _flush_soon(self) -> None:
        if self._flush is None and self._flushing is None and self.cache.has_pending:
            self._flush = asyncio.get_running_loop().call_later(_FLUSH_DELAY_S, self._start_flush)

    def _start_flush(self) -> None:
        self._flush = None
        loop = asyncio.get_running_loop()
        self._flushing = loop.run_in_executor(None, self.cache.flush)
        self._flushing.add_done_callback(self._flushed)

    def _flushed(self, _future: asyncio.Future[int]) -> None:
        self._flushing = None
        for text in [t for t in self._files if t.complete]:
            os.close(self._files.pop(text))
        self._flush_soon()

    def begin(self, task: Task, program: Program) -> None:
        """While loading: map what patched sites jump through."""
        fd = self.cache.site_table_fd()
        if fd is None:
            return
        nr = task.abi.numbers
        got = task.process.channel.give(task, program, os.dup(fd), True)
        program.do(nr["mmap"], JUMP_TABLE, SIZE, _READ_EXEC, _MAP_SHARED_FIXED, got, 0)
        program.do(
            nr["mmap"], RETURN_TABLE, RETURN_TABLE_SIZE, _READ_WRITE, _MAP_PRIVATE_FIXED_ANON,
            _NO_FD, 0,
        )  # fmt: skip
        program.do(nr["close"], got)
        task.process.texts.patchable = True

    def map_segment(
        self,
        task: Task,
        program: Program,
        files: tuple[int, int],
        where: tuple[int, int, int],
        prot: int,
        room: int,
    ) -> int:
        """While loading: the file's own pages, then patched text over them."""
        super().map_segment(task, program, files, where, prot, room)
        if prot & _PROT_EXEC and not prot & _PROT_WRITE:
            start, length, offset = where
            self._map_patched(task, program, files[1], start, length, offset, prot)
        return room

    def _map_patched(
        self,
        task: Task,
        program: Program,
        fd: int,
        start: int,
        length: int,
        offset: int,
        prot: int,
    ) -> bool:
        """After `fd` was mapped at `start`: map patched text over it; False if there is none."""
        text = self.known(fd)
        if text is None:
            return False
        texts = task.process.texts
        base = start - offset
        texts.mappings.append(Mapping(start, start + length, base, text))
        patched = text.patched
        if patched is None or not texts.patchable or texts.bases.setdefault(text, base) != base:
            return False
        part = patched.part_of(offset, length)
        if part is None:
            return False
        try:
            copy = os.dup(patched.fd)
        except OSError:
            return False
        distance, text_offset, size = part
        nr = task.abi.numbers
        got = task.process.channel.give(task, program, copy, True)
        program.do(nr["mmap"], start + distance, size, prot, MAP_PRIVATE_FIXED, got, text_offset)
        program.do(nr["close"], got)
        for address, block in patched.return_addresses(base):
            program.copy_out(address, block)
        return True

    async def mmap(
        self, task: Task, addr: int, length: int, prot: int, flags: int, fd: int, off: int
    ) -> Answer:
        """mmap(2) of executable file pages: as asked, then patched text over it."""
        shared = not flags & _MAP_PRIVATE
        if flags & _MAP_ANONYMOUS or prot & _PROT_WRITE or shared:
            return Reply.hostcall("mmap", addr, length, prot, flags, fd, off)
        first = Program()
        result = first.hostcall(task.abi.numbers["mmap"], addr, length, prot, flags, fd, off)
        first.op(Op.SEND_FD, fd, flags=Op.CHECKED)
        await task.run(first)
        start = task.result(result)
        taken = task.sent_fd()
        program = Program()
        try:
            patched = self._map_patched(task, program, taken, start, length, off, prot)
        finally:
            os.close(taken)
        if not patched:
            return start
        program.op(Op.END, start)
        return Reply.program(program)

    async def close(self) -> None:
        """Patch what was recorded and give everything back."""
        if self._flush is not None:
            self._flush.cancel()
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
        if self.cache.has_pending:
            self.cache.flush()
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()
