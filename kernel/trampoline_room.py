"""Room for trampolines, used again and given back.

munmap(2) is the stub's own, so nobody tells of text that goes away, and its trampolines stay. When
text is mapped where text was, its trampolines take the place of the old ones; now and then those
whose text is gone are looked for. An area is touched only if it still is what it was: the guest may
have unmapped it together with what lay around it, and put something else there.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from kernel.errors import LinuxError
from kernel.text_mapping import call, scanned

if TYPE_CHECKING:
    from kernel.scanned import Area
    from kernel.task import Task

_MS_ASYNC: Final = 1  # msync(2): changes nothing, but says ENOMEM of what is not mapped


async def used_before(task: Task, text: int, size: int, keep_out: tuple[int, int]) -> int | None:
    """The `size` bytes where the trampolines of what was at `text` are; None: there are none.

    `keep_out`: see text_mapping.reserve. Areas of `text` that do not fit are given back.
    """
    memory = scanned(task.process)
    for start, end, area in list(memory.areas):
        if area.text != text or not area.head:
            continue
        if await _is_still(task, start, area):
            if end - start == size and (end <= keep_out[0] or start >= keep_out[1]):
                return start
            await call(task, "munmap", start, end - start)
        memory.areas.clear(start, end)
    return None


async def give_back(task: Task, page: int) -> None:
    """Unmap areas whose text is gone, if there are many more than the last time."""
    memory = scanned(task.process)
    if len(memory.areas) < memory.sweep_at:
        return
    for start, end, area in list(memory.areas):
        if not area.head or await _is_mapped(task, area.text, page):
            continue
        if await _is_still(task, start, area):
            await call(task, "munmap", start, end - start)
        memory.areas.clear(start, end)
    memory.sweep_at = max(memory.sweep_at, 2 * len(memory.areas))


async def _is_mapped(task: Task, address: int, page: int) -> bool:
    try:
        await call(task, "msync", address & -page, page, _MS_ASYNC)
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
