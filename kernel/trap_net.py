"""System calls that the filter caught although all text was looked at.

Sites that nobody looked for, `svc` with another immediate (codegen.svc_patch), or could see: text
that the host maps (vDSO), pages that changed behind our back. The text stays as it is; the thread
is sent through a trampoline that is made for its site, as if the site were patched.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from codegen import svc_patch
from codegen.layout import Slot
from codegen.svc_patch import WORD, Entries, Site
from codegen.svc_texts import sealed_file
from kernel.reply import Program
from kernel.scanned import Area, Scanned
from kernel.text_mapping import READ_EXEC, reserve, scanned
from kernel.texts import MAP_PRIVATE_FIXED

if TYPE_CHECKING:
    from kernel.task import Task

SYS_SECCOMP: Final = 1  # si_code of a SIGSYS that the filter raised (asm-generic/siginfo.h)
_SITES: Final = (Site(0, None),)
_NO_TEXT: Final = struct.pack("<I", 0)  # what is "patched": nobody maps it


class TrapNet:
    """Trampolines of sites that trapped, for all processes of a container."""

    def __init__(self, entries: Entries, page: int) -> None:
        self._entries = entries
        self._page = page

    async def way(self, task: Task, behind: int) -> int:
        """The trampoline for a thread that stands behind its `svc`. LinuxError: no room for one."""
        site = behind - WORD
        task.slot.q[Slot.TRAPS // 8] += 1
        memory = scanned(task.process)
        async with memory.turn:
            trampoline = self._known(memory, site)
            if trampoline is None:
                trampoline = memory.trapped[site] = await self._make(task, memory, site)
        return trampoline

    @staticmethod
    def _known(memory: Scanned, site: int) -> int | None:
        trampoline = memory.trapped.get(site)
        if trampoline is not None:
            found = memory.areas.at(trampoline)
            if found is not None and found[2].text == site and found[2].sites == _SITES:
                return trampoline
        return None

    async def _make(self, task: Task, memory: Scanned, site: int) -> int:
        own = site & -self._page
        keep_out = own, own + self._page
        area = await reserve(task, site, _SITES, keep_out, (), self._page)
        patched = svc_patch.patch(_NO_TEXT, _SITES, area - site, self._entries, self._page)
        program = Program()
        got = task.process.channel.give(task, program, sealed_file(patched.area), True)
        nr, size = task.abi.numbers, len(patched.area)
        program.do(nr["mmap"], area, size, READ_EXEC, MAP_PRIVATE_FIXED, got, 0)
        program.do(nr["close"], got)
        memory.areas.set(area, area + size, Area(area, site, _SITES))
        await task.run(program)
        return area
