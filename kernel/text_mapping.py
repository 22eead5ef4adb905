"""Mapping patched text and its trampolines into a process."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from codegen import svc_patch
from codegen.layout import Trampoline
from kernel.errors import LinuxError
from kernel.reply import Program
from kernel.scanned import Area, Scanned
from kernel.texts import MAP_PRIVATE_FIXED, PROT_EXEC, PROT_READ

if TYPE_CHECKING:
    from codegen.svc_patch import Site
    from kernel.process import Process
    from kernel.task import Task

READ_EXEC = PROT_READ | PROT_EXEC
_RESERVED = 0x4022  # MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
_STEP = svc_patch.REACH // 8
_NO_FD = (1 << 64) - 1


def scanned(process: Process) -> Scanned:
    """The process's bookkeeping."""
    texts = process.texts
    if texts.scanned is None:
        texts.scanned = Scanned()
    return texts.scanned


async def call(task: Task, name: str, *args: int) -> int:
    """A host call by the guest's thread that no signal keeps from beginning. LinuxError."""
    program = Program()
    register = program.hostcall(task.abi.numbers[name], *args, checked=False)
    await task.run(program)
    result = task.result(int(register))
    if -4096 < result < 0:
        raise LinuxError(-result)
    return result


async def reserve(
    task: Task,
    text: int,
    sites: Sequence[Site],
    keep_out: tuple[int, int],
    hints: Iterable[int],
    page: int,
) -> int:
    """Find room for the trampolines of `text` and hold it; its address. LinuxError(ENOMEM).

    At one of `hints`, else where the host puts new mappings, which is near to what was mapped last,
    else anywhere within reach. Hints and not MAP_FIXED_NOREPLACE: emulators know that flag only of
    late. `keep_out`: addresses that the file's other segments will replace.
    """
    size = svc_patch.area_size(sites, page)
    around = (text + step for n in range(1, 8) for step in (n * _STEP, -n * _STEP))
    for hint in (*hints, 0, *around):
        if hint < 0:
            continue
        got = await call(task, "mmap", hint, size, 0, _RESERVED, _NO_FD, 0)
        apart = got + size <= keep_out[0] or got >= keep_out[1]
        if apart and got % page == 0 and svc_patch.reaches(sites, got - text):
            return got
        await call(task, "munmap", got, size)
    raise LinuxError(errno.ENOMEM)


def map_copy(
    task: Task,
    program: Program,
    fd: int,
    text: int,
    size: int,
    area: int,
    sites: Sequence[Site],
    page: int,
) -> None:
    """Append: map `fd` (closed here), which holds text and trampolines, and remember these."""
    nr = task.abi.numbers
    head = os.pread(fd, Trampoline.SIZE, size) if sites else b""
    got = task.process.channel.give(task, program, fd, True)
    if sites:
        area_size = svc_patch.area_size(sites, page)
        program.do(nr["mmap"], area, area_size, READ_EXEC, MAP_PRIVATE_FIXED, got, size)
        known = Area(area, text, sites, size, head)
        scanned(task.process).mapped(known, area + area_size)
    program.do(nr["mmap"], text, size, READ_EXEC, MAP_PRIVATE_FIXED, got, 0)
    program.do(nr["close"], got)
