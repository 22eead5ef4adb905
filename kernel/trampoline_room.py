"""Room for trampolines: found, used again, given back.

munmap(2) is the stub's own, so nobody tells of text that goes away, and its trampolines stay. When
text is mapped over all of an older one, its trampolines take the place of the old ones; when there
are many areas, or no room, those that nothing leads to are looked for and unmapped.

An area is in use while a word of its text still is the branch to one of its trampolines, wherever
the rest of that text has gone, and while a thread will return into it. Areas are touched only if
they still are what they were: the guest may have unmapped one together with what lay around it, and
put something else there. Callers hold the process's turn.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

from codegen import svc_patch
from codegen.layout import Trampoline
from codegen.svc_patch import WORD, Site
from kernel.errors import LinuxError
from kernel.scanned import FEW_AREAS, Area
from kernel.stale_ranges import is_free
from kernel.text_mapping import call, reserve, scanned

if TYPE_CHECKING:
    from kernel.task import Task

_MS_ASYNC: Final = 1  # msync(2): changes nothing, but says ENOMEM of what is not mapped

Group = list[tuple[int, Site]]  # sites with their trampolines


async def find_room(
    task: Task,
    text: int,
    sites: Sequence[Site],
    keep_out: tuple[int, int],
    hints: Iterable[int],
    page: int,
) -> int:
    """As `text_mapping.reserve`, after what can be given back. LinuxError(ENOMEM)."""
    memory = scanned(task.process)
    if len(memory.areas) >= memory.sweep_at:
        await give_back(task, page)
    hints = list(hints)
    try:
        return await reserve(task, text, sites, keep_out, hints, page)
    except LinuxError:
        if not await give_back(task, page):
            raise
    return await reserve(task, text, sites, keep_out, hints, page)


async def used_before(
    task: Task,
    text: int,
    covered: int,
    sites: Sequence[Site],
    keep_out: tuple[int, int],
    page: int,
) -> int | None:
    """Where the trampolines of what was at `text` are, if those of `sites` fit; else None.

    `covered`: bytes from `text` on that have just been mapped anew. What was longer is still there
    in part and keeps its trampolines. `keep_out`: see text_mapping.reserve.
    """
    memory = scanned(task.process)
    found = memory.areas.at(memory.by_text.get(text, 0))
    if found is None or found[2].text != text or not 0 < found[2].size <= covered:
        return None
    start, end, area = found
    fits = (
        end - start == svc_patch.area_size(sites, page)
        and (end <= keep_out[0] or start >= keep_out[1])
        and svc_patch.reaches(sites, start - text)
    )
    if _will_return(task, start, end) and not (fits and area.sites == sites):
        return None
    if fits and await _is_still(task, start, area):
        return start
    await _drop(task, start, end, area)
    return None


async def give_back(task: Task, page: int) -> int:
    """Unmap the areas that are not in use; how many."""
    memory = scanned(task.process)
    before = len(memory.areas)
    for start, end, area in list(memory.areas):
        if not area.size or _will_return(task, start, end) or await _is_led_to(task, area, page):
            continue
        await _drop(task, start, end, area)
    memory.sweep_at = max(FEW_AREAS, 2 * len(memory.areas))
    memory.by_text = {area.text: start for start, _, area in memory.areas}
    return before - len(memory.areas)


async def _drop(task: Task, start: int, end: int, area: Area) -> None:
    """Unmap an area, unless something else is there by now; forget it."""
    if await _is_still(task, start, area):
        await call(task, "munmap", start, end - start)
    scanned(task.process).areas.clear(start, end)


def _will_return(task: Task, start: int, end: int) -> bool:
    """Whether a thread's call, or its last one, came from [start, end)."""
    at = task.isa.way_back
    threads = task.process.tasks.values()
    return at is not None and any(start <= thread.slot.q[at // 8] < end for thread in threads)


async def _is_led_to(task: Task, area: Area, page: int) -> bool:
    """Whether a word of the area's text is still the branch to its trampoline."""
    groups = _by_page(area, page)
    # Its first page says it of nearly all text that is there.
    if await _has_branch(task, area, next(groups), page):
        return True
    if await is_free(task, area.text, area.size):
        scanned(task.process).pages.clear(area.text, area.text + area.size)
        return False
    for group in groups:
        if await _has_branch(task, area, group, page):
            return True
    return False


def _by_page(area: Area, page: int) -> Iterator[Group]:
    trampolines = range(area.start, area.start + len(area.sites) * Trampoline.SIZE, Trampoline.SIZE)
    with_sites = zip(trampolines, area.sites, strict=True)
    for _, group in groupby(with_sites, key=lambda pair: (area.text + pair[1].offset) // page):
        yield list(group)


async def _has_branch(task: Task, area: Area, group: Group, page: int) -> bool:
    """The same for the sites of one page. What is there but cannot be read may have it."""
    first, last = group[0][1].offset, group[-1][1].offset
    try:
        code = await task.copy_in(area.text + first, last + WORD - first)
    except LinuxError:
        return await _is_mapped(task, (area.text + first) & -page, page)
    return any(
        struct.unpack_from("<I", code, site.offset - first)[0]
        == svc_patch.branch(trampoline - area.text - site.offset)
        for trampoline, site in group
    )


async def _is_mapped(task: Task, start: int, size: int) -> bool:
    try:
        await call(task, "msync", start, size, _MS_ASYNC)
    except LinuxError as error:
        return error.errno != errno.ENOMEM
    return True


async def _is_still(task: Task, start: int, area: Area) -> bool:
    if start != area.start:
        return False
    try:
        return await task.copy_in(start, len(area.head)) == area.head
    except LinuxError:
        return False
