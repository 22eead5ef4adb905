"""Memory that a guest may write and execute: it can do either, a page at a time, never both.

What the guest asked for is remembered; pages become executable when they are executed, or, in
small ranges, when the guest says so. Before that they are made read-only and looked at. If there is
something to replace (or nothing else may be trusted, `strict`) a sealed copy is mapped in their
place, so that no other thread can change them after the look. Without `strict`, pages that need no
patch only change their protection, and a thread that writes them meanwhile cheats itself.

Limits: an instruction that writes the page it lies in is a fault. Memory that is shared with others
becomes this process's own where it is executed, so shared executable memory is refused where it can
be seen (`Scanner.mmap`). The kernel does not hear of native calls: a write fault in pages that the
guest itself has write-protected passes once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codegen import svc_patch
from codegen.svc_texts import TextStore, sealed_file
from kernel.errors import LinuxError
from kernel.reply import Program
from kernel.scanned import Pages, Scanned
from kernel.signals.state import SIGSEGV
from kernel.stale_ranges import forget_unmapped
from kernel.text_mapping import READ_EXEC, call, map_copy, scanned
from kernel.texts import GUESTS, PROT_EXEC, PROT_READ, PROT_WRITE, REPEAT, Outcome
from kernel.trampoline_room import find_room

if TYPE_CHECKING:
    from kernel.task import Task

_PROT_GROWSDOWN = 0x0100_0000
_GROWTH = 8 << 20  # how far below a stack that becomes executable may have grown
_AT_ONCE = 64 << 10  # larger ranges are looked at where they are executed
_READ_WRITE = PROT_READ | PROT_WRITE
_SEGV_ACCERR = 2


class WriteOrExecute:
    """The rule, for all processes of a container."""

    def __init__(self, store: TextStore) -> None:
        self._store = store
        self._page = store.page

    async def protect(self, task: Task, start: int, length: int, prot: int) -> int:
        """mprotect(2) with PROT_EXEC. LinuxError as the host says."""
        end = start + length + -length % self._page
        memory = scanned(task.process)
        async with memory.turn:
            await forget_unmapped(task)
            await call(task, "mprotect", start, length, prot & ~PROT_EXEC | PROT_READ)
            first = max(start - _GROWTH, self._page) if prot & _PROT_GROWSDOWN else start
            memory.asked(first, end, prot, False)
            if not prot & PROT_WRITE and length <= _AT_ONCE:
                try:
                    await self._make_executable(task, memory, start, end)
                except LinuxError:
                    # Not all of it can be read now: the rest is looked at when it is executed.
                    memory.asked(start, end, prot, False)
        return 0

    async def fault(self, task: Task, pc: int, signal: int, code: int, address: int) -> Outcome:
        """A fault: it may be that pages are in the other state than the guest needs."""
        memory = scanned(task.process)
        if signal != SIGSEGV or code != _SEGV_ACCERR or memory.pages.at(address) is None:
            return GUESTS
        async with memory.turn:
            try:
                return await self._switch(task, memory, pc, address)
            except LinuxError:
                return GUESTS

    async def _switch(self, task: Task, memory: Scanned, pc: int, address: int) -> Outcome:
        found = memory.pages.at(address)
        if found is None:
            return GUESTS
        first, last, pages = found
        size = self._page
        page = address & -size
        executing = address == pc
        if executing is pages.executable and (executing or pages.writable):
            # As it should be: another thread was faster, or else the guest has a hand in it.
            if memory.repeated.get(task.tid) == (pc, address):
                return GUESTS
            memory.repeated[task.tid] = pc, address
            return REPEAT
        memory.repeated.pop(task.tid, None)
        if executing:
            start, end = page, page + size
            if pages.writable:
                await call(task, "mprotect", start, size, PROT_READ)
            else:
                start = max(first, address & -_AT_ONCE)
                end = min(last, start + _AT_ONCE)
            await self._make_executable(task, memory, start, end)
            return REPEAT
        if not (pages.writable and pages.executable) or page == pc & -size:
            return GUESTS
        await call(task, "mprotect", page, size, _READ_WRITE)
        memory.pages.set(page, page + size, Pages(pages.prot, False))
        return REPEAT

    async def _make_executable(self, task: Task, memory: Scanned, start: int, end: int) -> None:
        """Look at pages that cannot be written now and let them be executed."""
        size = end - start
        code = await task.copy_in(start, size)
        sites = self._store.find_sites(code, [(0, size)])
        if sites or self._store.strict:
            area = end
            if sites:
                whole = memory.pages.at(start) or (start, end)
                near = (whole[1], whole[0] - svc_patch.area_size(sites, self._page))
                area = await find_room(task, start, sites, (start, end), near, self._page)
            patched = svc_patch.patch(code, sites, area - start, self._store.entries, self._page)
            program = Program()
            copy = sealed_file(patched.text + patched.area)
            map_copy(task, program, copy, start, size, area, sites, self._page)
            await task.run(program)
        else:
            await call(task, "mprotect", start, size, READ_EXEC)
        for first, last, pages in memory.pages.over(start, end):
            memory.pages.set(first, last, pages._replace(executable=True))
