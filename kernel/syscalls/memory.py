"""Memory calls that reach the kernel: brk, and mappings the stub must not make by itself.

Where guests see larger pages than the host has, that is all of them: each is checked and rounded as
Linux does it (mm/*.c), then passed on.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from codegen.layout import PAYLOAD, PAYLOAD_SIZE, STUB_BASE, STUB_END, STUB_FDS, Op
from kernel.abi import Fd, Flags, Int, Offset, Pointer, Size, ULong
from kernel.errors import LinuxError
from kernel.host.profiles import HOST_PAGE
from kernel.pages import (
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    NO_FD,
    PRIVATE_ANONYMOUS,
    RESERVED,
    hold,
    map_if_free,
    past_end,
    rounded,
)
from kernel.reply import Program, Reply
from kernel.syscalls.declare import syscall
from kernel.text_mapping import call

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from kernel.reply import Answer
    from kernel.task import Task

_PROT_EXEC = 4
_READ_WRITE = 3
_MAP_PRIVATE, _MAP_ANONYMOUS = 2, 0x20
_MREMAP_MAYMOVE, _MREMAP_FIXED, _MREMAP_DONTUNMAP = 1, 2, 4
_HEAP_LIMIT = 1 << 40
_WRAPPED = 1 << 64


def touches_stub(address: int, length: int) -> bool:
    """Whether [address, address + length) reaches into the stub's range (or wraps around)."""
    end = address + length
    return end > _WRAPPED or (address < STUB_END and end > STUB_BASE)


def _whole_pages(task: Task, start: int, length: int) -> int:
    """`length` in whole pages from `start`. LinuxError: EINVAL, or ENOMEM for the stub's."""
    page = task.process.container.page_size
    if start % page:
        raise LinuxError(errno.EINVAL)
    length = rounded(length, page)
    if touches_stub(start, length):
        raise LinuxError(errno.ENOMEM)
    return length


# -- the heap ------------------------------------------------------------------------------------


@syscall()
def brk(task: Task, brk: Pointer) -> Answer | Coroutine[Any, Any, Answer]:
    """brk(2): the heap is anonymous memory at an address of our choosing."""
    process = task.process
    if brk < process.brk_start or brk > process.brk_start + _HEAP_LIMIT:
        return process.brk_end
    page = process.container.page_size
    old = rounded(process.brk_end, page)
    new = rounded(brk, page)
    before = process.brk_end
    if new > old and process.container.engine.emulator is not None:
        return _grow(task, brk, old, new)
    process.brk_end = brk
    if new == old:
        return brk
    nr = task.abi.numbers
    program = Program()
    if new > old:
        # NOREPLACE: like Linux, the heap never grows into another mapping.
        flags = PRIVATE_ANONYMOUS | MAP_FIXED_NOREPLACE
        program.hostcall(nr["mmap"], old, new - old, _READ_WRITE, flags, NO_FD, 0)
    else:
        program.hostcall(nr["munmap"], new, old - new)
    program.op(Op.END, brk)

    def failed(_index: int, _number: int) -> Answer:
        process.brk_end = before
        return before

    task.recover = failed
    return Reply.program(program)


async def _grow(task: Task, brk: int, old: int, new: int) -> Answer:
    """The heap under an emulator."""
    flags = PRIVATE_ANONYMOUS | MAP_FIXED_NOREPLACE
    try:
        await map_if_free(task, old, new - old, _READ_WRITE, flags, NO_FD, 0)
    except LinuxError:
        return task.process.brk_end
    task.process.brk_end = brk
    return brk


# -- new mappings --------------------------------------------------------------------------------


@syscall()
async def mmap(
    task: Task,
    addr: Pointer,
    len: Size,
    prot: ULong,
    flags: ULong,
    fd: Fd,
    off: Offset,
) -> Answer:
    """mmap(2) of file text, of a flagged descriptor, or over a checked range."""
    container = task.process.container
    page = container.page_size
    if off % page:
        return -errno.EINVAL
    fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)
    if fixed and touches_stub(addr, rounded(len, page)):
        return -errno.ENOMEM
    if not flags & _MAP_ANONYMOUS:
        if fd in STUB_FDS:
            return -errno.EBADF
        if task.process.files.get(fd) is not None:
            return -errno.ENODEV
    if container.larger_pages:
        return await _map_larger(task, addr, len, prot, flags, fd, off)
    if fixed and addr % page:
        return -errno.EINVAL
    if flags & MAP_FIXED_NOREPLACE and container.engine.emulator is not None:
        await map_if_free(task, addr, len, 0, RESERVED | MAP_FIXED_NOREPLACE, NO_FD, 0)
        return await _map_over(task, addr, len, prot, flags, fd, off)
    if not prot & _PROT_EXEC:
        return Reply.hostcall("mmap", addr, len, prot, flags, fd, off)
    return await container.translations.mmap(task, addr, len, prot, flags, fd, off)


async def _map_larger(
    task: Task, addr: int, length: int, prot: int, flags: int, fd: int, off: int
) -> Answer:
    """mmap(2) where the host's pages are smaller: whole pages, at a whole page."""
    page = task.process.container.page_size
    zeros = (0, 0)
    if not flags & _MAP_ANONYMOUS:
        taken = await task.take_fd(fd)  # EBADF comes first
        size = os.fstat(taken).st_size
        os.close(taken)
        if flags & _MAP_PRIVATE:
            zeros = past_end(off, rounded(length, page), size, page, HOST_PAGE)
    length = rounded(length, page)
    if not length:
        return -errno.EINVAL
    if length >= _WRAPPED:
        return -errno.ENOMEM
    fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)
    if fixed and addr % page:
        return -errno.EINVAL
    if flags & MAP_FIXED_NOREPLACE:
        await map_if_free(task, addr, length, 0, RESERVED | MAP_FIXED_NOREPLACE, NO_FD, 0)
    elif not fixed:
        addr = await hold(task, addr, length, page)
    answer = await _map_over(task, addr, length, prot, flags, fd, off)
    if answer == addr and zeros[0] < zeros[1]:
        await _map_zeros(task, addr + zeros[0], zeros[1] - zeros[0], prot)
    return answer


async def _map_over(
    task: Task, addr: int, length: int, prot: int, flags: int, fd: int, off: int
) -> Answer:
    """Map over a range; if that fails, what was only held there is given back."""
    held = not flags & MAP_FIXED or flags & MAP_FIXED_NOREPLACE
    flags = flags & ~MAP_FIXED_NOREPLACE | MAP_FIXED
    texts = task.process.container.translations
    answer: Answer = -errno.ENOMEM
    try:
        if prot & _PROT_EXEC:
            answer = await texts.mmap(task, addr, length, prot, flags, fd, off)
        else:
            answer = await call(task, "mmap", addr, length, prot, flags, fd, off)
            texts.unmapped(task.process, addr, length)
    except LinuxError as error:
        answer = -error.errno
    if held and isinstance(answer, int) and answer < 0:
        await call(task, "munmap", addr, length)
    return answer


async def _map_zeros(task: Task, start: int, length: int, prot: int) -> None:
    """The end of a file's last page: the host's own pages end earlier."""
    granted = task.process.container.translations.granted(task.process, start, length, prot)
    await call(task, "mmap", start, length, granted, PRIVATE_ANONYMOUS | MAP_FIXED, NO_FD, 0)


# -- what is mapped ------------------------------------------------------------------------------


@syscall()
def munmap(task: Task, addr: Pointer, len: Size) -> Answer:
    """munmap(2) of a range that reaches into the stub's."""
    container = task.process.container
    length = rounded(len, container.page_size)
    if addr % container.page_size or touches_stub(addr, length):
        return -errno.EINVAL
    container.translations.unmapped(task.process, addr, length)
    return Reply.hostcall("munmap", addr, length)


@syscall()
async def mprotect(task: Task, start: Pointer, len: Size, prot: ULong) -> Answer:
    """mprotect(2) of a range that reaches into the stub's, or is to become executable."""
    container = task.process.container
    if start % container.page_size:
        return -errno.EINVAL
    if not len:
        return 0
    length = rounded(len, container.page_size)
    if touches_stub(start, length):
        return -errno.ENOMEM
    return await container.translations.mprotect(task, start, length, prot)


@syscall()
def madvise(task: Task, start: Pointer, len_in: Size, behavior: Int) -> Answer:
    """madvise(2) of a range that reaches into the stub's."""
    page = task.process.container.page_size
    length = rounded(len_in, page)
    if start % page or start + length > _WRAPPED:
        return -errno.EINVAL
    if touches_stub(start, length):
        return -errno.ENOMEM
    return Reply.hostcall("madvise", start, length, behavior)


@syscall()
def msync(task: Task, start: Pointer, len: Size, flags: Int) -> Answer:
    """msync(2) of a range that reaches into the stub's."""
    return Reply.hostcall("msync", start, _whole_pages(task, start, len), flags)


@syscall()
async def mincore(task: Task, start: Pointer, len: Size, vec: Pointer) -> Answer:
    """mincore(2) of a range that reaches into the stub's: a byte for each page."""
    length = _whole_pages(task, start, len)
    if not task.process.container.larger_pages:
        return Reply.hostcall("mincore", start, length, vec)
    page = task.process.container.page_size
    ratio = page // HOST_PAGE
    most = PAYLOAD_SIZE // ratio * page
    for done in range(0, length, most):
        part = min(most, length - done)
        count = part // HOST_PAGE
        await call(task, "mincore", start + done, part, task.slot.address + PAYLOAD)
        states = task.slot.read_payload(0, count)
        # In core, if any of it is: a page is brought in as a whole.
        answer = bytes(max(states[i : i + ratio]) & 1 for i in range(0, count, ratio))
        await task.copy_out(vec + done // page, answer)
    return 0


@syscall()
def mlock(task: Task, start: Pointer, len: Size) -> Answer:
    """mlock(2) of a range that reaches into the stub's."""
    return _lock(task, "mlock", start, len)


@syscall()
def mlock2(task: Task, start: Pointer, len: Size, flags: Int) -> Answer:
    """mlock2(2)."""
    return _lock(task, "mlock2", start, len, flags)


@syscall()
def munlock(task: Task, start: Pointer, len: Size) -> Answer:
    """munlock(2) of a range that reaches into the stub's."""
    return _lock(task, "munlock", start, len)


def _lock(task: Task, name: str, start: int, length: int, *flags: int) -> Answer:
    """These take any address: Linux rounds both ends (mm/mlock.c)."""
    page = task.process.container.page_size
    first = start & -page
    length = rounded(length + start - first, page)
    if first + length > _WRAPPED:
        return -errno.EINVAL
    if touches_stub(first, length):
        return -errno.ENOMEM
    return Reply.hostcall(name, first, length, *flags)


@syscall()
async def mremap(
    task: Task, addr: Pointer, old_len: Size, new_len: Size, flags: Flags, new_addr: Pointer
) -> Answer:
    """mremap(2) with MREMAP_FIXED, or of a range that reaches into the stub's."""
    container = task.process.container
    page = container.page_size
    old, new = rounded(old_len, page), rounded(new_len, page)
    if addr % page or not new or (flags & _MREMAP_FIXED and new_addr % page):
        return -errno.EINVAL
    if touches_stub(addr, old):
        return -errno.EFAULT
    if flags & _MREMAP_FIXED and touches_stub(new_addr, new):
        return -errno.EINVAL
    if not container.larger_pages or flags & _MREMAP_FIXED or not flags & _MREMAP_MAYMOVE:
        return Reply.hostcall("mremap", addr, old, new, flags, new_addr)
    if old and not flags & _MREMAP_DONTUNMAP:
        try:
            return await call(task, "mremap", addr, old, new, flags & ~_MREMAP_MAYMOVE, 0)
        except LinuxError as error:
            if error.errno != errno.ENOMEM:
                raise
    to = await hold(task, 0, new, page)
    try:
        return await call(task, "mremap", addr, old, new, flags | _MREMAP_FIXED, to)
    except LinuxError:
        await call(task, "munmap", to, new)
        raise
