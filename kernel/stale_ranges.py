"""Ranges of executable memory that the guest has unmapped without a word.

munmap(2) is the stub's own. What is remembered of a range does no harm when nothing is there any
more, but a program that maps code at ever new addresses must not fill the kernel with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kernel.pages import NO_FD, RESERVED
from kernel.reply import Program
from kernel.scanned import FEW_RANGES
from kernel.text_mapping import scanned

if TYPE_CHECKING:
    from kernel.task import Task

_PROT_NONE: Final = 0
_LARGEST: Final = 64 << 20  # emulators take their time for larger ones, of which there are few


async def forget_unmapped(task: Task) -> None:
    """Look for such ranges, if there are many more than the last time. Callers hold the turn."""
    memory = scanned(task.process)
    if len(memory.pages) < memory.look_at:
        return
    for start, end, _ in list(memory.pages):
        if end - start <= _LARGEST and await is_free(task, start, end - start):
            memory.pages.clear(start, end)
    memory.look_at = max(FEW_RANGES, 2 * len(memory.pages))


async def is_free(task: Task, start: int, size: int) -> bool:
    """Whether nothing at all is mapped in [start, start + size): then a hint is followed."""
    nr = task.abi.numbers
    program = Program()
    what = _PROT_NONE, RESERVED, NO_FD, 0
    got = program.hostcall(nr["mmap"], start, size, *what, checked=False)
    program.hostcall(nr["munmap"], got, size, checked=False)
    await task.run(program)
    return task.result(int(got)) == start
