"""Page arithmetic of memory calls, and where mappings go when the host alone does not see to it.

A host checks and rounds by its own pages. Where guests see larger ones (kernel.host.profiles) every
memory call comes to the kernel, which checks and rounds first. Emulators know
MAP_FIXED_NOREPLACE only of late and take it for a hint: `map_if_free` looks at what they did.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from kernel.errors import LinuxError
from kernel.fs.proc import host
from kernel.reply import Program
from kernel.text_mapping import call

if TYPE_CHECKING:
    from kernel.process import Process
    from kernel.task import Task

NO_FD: Final = (1 << 64) - 1
PRIVATE_ANONYMOUS: Final = 0x22
MAP_FIXED: Final = 0x10
MAP_FIXED_NOREPLACE: Final = 0x10_0000
RESERVED: Final = PRIVATE_ANONYMOUS | 0x4000  # MAP_NORESERVE; protection 0


def rounded(length: int, page: int) -> int:
    """`length` in whole pages; 1 << 64 where Linux's PAGE_ALIGN wraps around."""
    return length + -length % page


def past_end(offset: int, length: int, size: int, page: int, host_page: int) -> tuple[int, int]:
    """Bytes [first, last) of a file mapping: zeros to the guest, past the file's end to the host.

    They follow the host's last page of the file up to the guest's. `length` bytes of a file of
    `size` bytes are mapped from `offset` on; the range is counted from the mapping's start.
    """
    held = max(size - offset, 0)
    return rounded(held, host_page), min(rounded(held, page), length)


def stack_of_host(process: Process, address: int) -> tuple[int, int] | None:
    """The host mapping that holds `address`, with its guard: start and end."""
    before = (0, 0, b"")
    for line in host.read_of(process, b"maps").splitlines():
        area, allowed = line.split(None, 2)[:2]
        start, _, end = area.partition(b"-")
        found = int(start, 16), int(end, 16), allowed
        if found[0] <= address <= found[1]:
            guarded = before[1] == found[0] and before[2].startswith(b"---")
            return (before if guarded else found)[0], found[1]
        before = found
    return None


async def map_if_free(
    task: Task, addr: int, length: int, prot: int, flags: int, fd: int, off: int
) -> int:
    """mmap(2) with MAP_FIXED_NOREPLACE, which `flags` must hold. LinuxError(EEXIST)."""
    got = await call(task, "mmap", addr, length, prot, flags, fd, off)
    if got != addr:
        await call(task, "munmap", got, length)
        raise LinuxError(errno.EEXIST)
    return got


async def hold(task: Task, hint: int, length: int, page: int) -> int:
    """Take `length` bytes of address space at a multiple of `page`, at `hint` if that is free.

    The caller maps over them with MAP_FIXED, or unmaps them. LinuxError(ENOMEM).
    """
    got = await call(task, "mmap", hint & -page, length, 0, RESERVED, NO_FD, 0)
    if got % page == 0:
        return got
    await call(task, "munmap", got, length)
    got = await call(task, "mmap", 0, length + page, 0, RESERVED, NO_FD, 0)
    start = rounded(got, page)
    program = Program()
    munmap = task.abi.numbers["munmap"]
    if start > got:
        program.do(munmap, got, start - got)
    if got + page > start:
        program.do(munmap, start + length, got + page - start)
    await task.run(program)
    return start
