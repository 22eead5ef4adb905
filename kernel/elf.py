"""ELF executables: what execve needs to know of a file (elf(5)). Pure parsing, no mapping."""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass

from kernel.errors import LinuxError

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
ET_EXEC, ET_DYN = 2, 3
_PT_LOAD, _PT_INTERP, _PT_PHDR = 1, 3, 6
PF_X, PF_W, PF_R = 1, 2, 4
_MAX_HEADERS = 65536 // _PROGRAM.size
_MAX_OFFSET = 1 << 62  # of a file


@dataclass(frozen=True)
class Segment:
    """One PT_LOAD. All values in bytes."""

    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int


@dataclass(frozen=True)
class Elf:
    """An executable or interpreter."""

    kind: int  # ET_EXEC or ET_DYN
    entry: int
    program_headers: int  # virtual address of the program header table
    header_count: int
    segments: tuple[Segment, ...]
    interpreter: bytes | None

    @property
    def low(self) -> int:
        """First byte of the image."""
        return min(s.address for s in self.segments)

    @property
    def high(self) -> int:
        """First byte above the image."""
        return max(s.address + s.memory_size for s in self.segments)


def parse(fd: int, machine: int) -> Elf:  # noqa: C901 - one field after the other, each checked
    """Read the headers of `fd`. ENOEXEC: not an executable for `machine`; ELIBBAD: damaged."""
    raw = os.pread(fd, _HEADER.size, 0)
    if len(raw) < _HEADER.size or raw[:4] != b"\x7fELF":
        raise LinuxError(errno.ENOEXEC)
    ident, kind, own_machine, _, entry, phoff, _, _, _, phentsize, phnum, *_ = _HEADER.unpack(raw)
    if ident[4] != 2 or ident[5] != 1 or own_machine != machine or kind not in (ET_EXEC, ET_DYN):
        raise LinuxError(errno.ENOEXEC)
    if phentsize != _PROGRAM.size or not 0 < phnum <= _MAX_HEADERS or phoff > _MAX_OFFSET:
        raise LinuxError(errno.ENOEXEC)
    table = os.pread(fd, phnum * _PROGRAM.size, phoff)
    if len(table) < phnum * _PROGRAM.size:
        raise LinuxError(errno.ENOEXEC)
    segments: list[Segment] = []
    interpreter: bytes | None = None
    headers_at = 0
    for kind_, flags, offset, address, _, file_size, memory_size, _ in _PROGRAM.iter_unpack(table):
        if offset + file_size > _MAX_OFFSET:
            raise LinuxError(errno.ENOEXEC)
        if kind_ == _PT_LOAD and memory_size:
            if file_size > memory_size or address + memory_size > 1 << 47:
                raise LinuxError(errno.ENOEXEC)
            segments.append(Segment(flags, offset, address, file_size, memory_size))
            if offset <= phoff < offset + file_size:
                headers_at = phoff - offset + address
        elif kind_ == _PT_INTERP:
            if not 2 <= file_size <= 4096:
                raise LinuxError(errno.ENOEXEC)
            interpreter = os.pread(fd, file_size, offset).rstrip(b"\0")
            if not interpreter:
                raise LinuxError(errno.EIO)
    if not segments:
        raise LinuxError(errno.ENOEXEC)
    if any(s.file_size for s in segments) and _truncated(fd, segments):
        raise LinuxError(errno.ENOEXEC)
    return Elf(kind, entry, headers_at, phnum, tuple(segments), interpreter)


def _truncated(fd: int, segments: list[Segment]) -> bool:
    """The file ends before what it says it holds: it would die of SIGBUS; refuse it instead."""
    return max(s.offset + s.file_size for s in segments) > os.fstat(fd).st_size
