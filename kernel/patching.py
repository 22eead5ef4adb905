"""The translation cache's use at run time: patched text mapped in place of a file's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel.reply import Reply

if TYPE_CHECKING:
    from kernel.reply import Answer, Program
    from kernel.task import Task


def map_low_tables(task: Task, program: Program) -> None:
    """Map what patched sites jump through."""


def map_segment(
    task: Task, program: Program, fd: int, start: int, length: int, offset: int, prot: int
) -> bool:
    """While loading: map patched text instead of the file's; False if there is none."""
    return False


async def map_text(
    task: Task, addr: int, length: int, prot: int, flags: int, fd: int, off: int
) -> Answer:
    """mmap(2) of executable file pages."""
    return Reply.hostcall("mmap", addr, length, prot, flags, fd, off)
