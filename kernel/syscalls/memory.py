"""Memory calls that reach the kernel: brk, and mappings the stub must not make by itself."""

import errno

from codegen.layout import STUB_BASE, STUB_END, STUB_FDS, Op
from kernel.abi import Fd, Flags, Offset, Pointer, Size, ULong
from kernel.reply import Answer, Program, Reply
from kernel.syscalls.declare import syscall
from kernel.task import Task

_PAGE = 4096
_PROT_EXEC = 4
_MAP_FIXED, _MAP_FIXED_NOREPLACE, _MAP_ANONYMOUS = 0x10, 0x10_0000, 0x20
_PRIVATE_FIXED_ANON = 0x32
_MREMAP_FIXED = 2
_NO_FD = (1 << 64) - 1


def touches_stub(address: int, length: int) -> bool:
    """Whether [address, address + length) reaches into the stub's range (or wraps around)."""
    end = address + length
    return end > 1 << 64 or (address < STUB_END and end > STUB_BASE)


@syscall()
def brk(task: Task, brk: Pointer) -> Answer:
    """brk(2): the heap is anonymous memory at an address of our choosing."""
    process = task.process
    if brk < process.brk_start or brk > process.brk_start + (1 << 40):
        return process.brk_end
    old = (process.brk_end + _PAGE - 1) & -_PAGE
    new = (brk + _PAGE - 1) & -_PAGE
    before = process.brk_end
    process.brk_end = brk
    if new == old:
        return brk
    nr = task.abi.numbers
    program = Program()
    if new > old:
        # NOREPLACE: like Linux, the heap never grows into another mapping.
        flags = _PRIVATE_FIXED_ANON | _MAP_FIXED_NOREPLACE
        program.hostcall(nr["mmap"], old, new - old, 3, flags & ~_MAP_FIXED, _NO_FD, 0)
    else:
        program.hostcall(nr["munmap"], new, old - new)
    program.op(Op.END, brk)

    def failed(_index: int, _number: int) -> Answer:
        process.brk_end = before
        return before

    task.recover = failed
    return Reply.program(program)


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
    if flags & (_MAP_FIXED | _MAP_FIXED_NOREPLACE) and touches_stub(addr, len):
        return -errno.ENOMEM
    if not flags & _MAP_ANONYMOUS:
        if fd in STUB_FDS:
            return -errno.EBADF
        if task.process.files.get(fd) is not None:
            return -errno.ENODEV
    if not prot & _PROT_EXEC:
        if flags & _MAP_FIXED_NOREPLACE:
            return await _map_if_free(task, addr, len, prot, flags, fd, off)
        return Reply.hostcall("mmap", addr, len, prot, flags, fd, off)
    texts = task.process.container.translations
    return await texts.mmap(task, addr, len, prot, flags, fd, off)


async def _map_if_free(task: Task, addr: int, length: int, *rest: int) -> Answer:
    """MAP_FIXED_NOREPLACE, which an emulator takes for a hint."""
    got = await task.hostcall("mmap", addr, length, *rest)
    if got == addr:
        return got
    await task.hostcall("munmap", got, length)
    return -errno.EEXIST


@syscall()
def munmap(task: Task, addr: Pointer, len: Size) -> Answer:
    """munmap(2) of a range that reaches into the stub's."""
    if touches_stub(addr, len):
        return -errno.EINVAL
    task.process.container.translations.unmapped(task.process, addr, len)
    return Reply.hostcall("munmap", addr, len)


@syscall()
async def mprotect(task: Task, start: Pointer, len: Size, prot: ULong) -> Answer:
    """mprotect(2) of a range that reaches into the stub's, or is to become executable."""
    if touches_stub(start, len):
        return -errno.ENOMEM
    return await task.process.container.translations.mprotect(task, start, len, prot)


@syscall()
def madvise(task: Task, start: Pointer, len_in: Size, behavior: ULong) -> Answer:
    """madvise(2) of a range that reaches into the stub's."""
    if touches_stub(start, len_in):
        return -errno.ENOMEM
    return Reply.hostcall("madvise", start, len_in, behavior)


@syscall()
def mremap(
    task: Task, addr: Pointer, old_len: Size, new_len: Size, flags: Flags, new_addr: Pointer
) -> Answer:
    """mremap(2) with MREMAP_FIXED, or of a range that reaches into the stub's."""
    if touches_stub(addr, old_len):
        return -errno.EFAULT
    if flags & _MREMAP_FIXED and touches_stub(new_addr, new_len):
        return -errno.EINVAL
    return Reply.hostcall("mremap", addr, old_len, new_len, flags, new_addr)
