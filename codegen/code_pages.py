"""Which pages of a file hold code, as the file itself says.

Linkers put read-only data into the executable segment (binutils for arm64 does by default). Only
pages with sections that are code need be executable: data elsewhere is then neither patched nor
executable, whatever it looks like. A file that lies about its sections gets less memory that is
executable, never more that nobody has looked at.
"""

from __future__ import annotations

import os
import struct
from typing import Final, NamedTuple

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_PROGRAM: Final = struct.Struct("<IIQQQQQQ")
_ELF64_LITTLE: Final = b"\x7fELF\x02\x01"
_PT_LOAD: Final = 1
_SHT_NOBITS: Final = 8
_SHF_EXECINSTR: Final = 4
_HEADERS_LIMIT: Final = 4096


class FileLayout(NamedTuple):
    """What an ELF file says of itself. All in bytes."""

    code: tuple[tuple[int, int], ...]  # page ranges [first, last) of the file that hold code
    segments: tuple[tuple[int, int, int], ...]  # PT_LOADs: file offset, file size, address
    low: int  # pages that its image takes in memory: the first,
    high: int  # and the first behind it
    sections: tuple[tuple[int, int], ...]  # byte ranges [first, last) of the file that hold code
    page: int

    def image_of(self, offset: int) -> tuple[int, int] | None:
        """Where the image begins and ends, seen from where file byte `offset` lies in memory."""
        for at, size, address in self.segments:
            first = at & -self.page
            if first <= offset < at + max(size, 1):
                here = (address & -self.page) + offset - first
                return self.low - here, self.high - here
        return None


def read(fd: int, page: int) -> FileLayout | None:
    """The layout of an ELF file; None for other files. One without sections has no `code`."""
    raw = os.pread(fd, _HEADER.size, 0)
    if len(raw) < _HEADER.size or not raw.startswith(_ELF64_LITTLE):
        return None
    fields = _HEADER.unpack(raw)
    phoff, shoff = fields[5], fields[6]
    phentsize, phnum, shentsize, shnum = fields[9:13]
    if phentsize != _PROGRAM.size or phnum > _HEADERS_LIMIT or phoff >= 1 << 62:
        return None
    table = os.pread(fd, phnum * _PROGRAM.size, phoff)
    segments = [
        (offset, file_size, address, memory_size)
        for kind, _, offset, address, _, file_size, memory_size, _ in _PROGRAM.iter_unpack(
            table[: len(table) - len(table) % _PROGRAM.size]
        )
        if kind == _PT_LOAD and memory_size
    ]
    if not segments:
        return None
    sections: tuple[tuple[int, int], ...] = ()
    if shentsize == _SECTION.size and 0 < shnum <= _HEADERS_LIMIT and shoff < 1 << 62:
        sections = _sections(os.pread(fd, shnum * _SECTION.size, shoff))
    return FileLayout(
        _pages(sections, page),
        tuple(segment[:3] for segment in segments),
        min(address for _, _, address, _ in segments) & -page,
        max(address + size + page - 1 for _, _, address, size in segments) & -page,
        sections,
        page,
    )


def _sections(table: bytes) -> tuple[tuple[int, int], ...]:
    """Byte ranges of the sections that hold instructions."""
    rows = _SECTION.iter_unpack(table[: len(table) - len(table) % _SECTION.size])
    return tuple(
        sorted(
            (offset, offset + size)
            for _, kind, flags, _, offset, size, *_ in rows
            if flags & _SHF_EXECINSTR and kind != _SHT_NOBITS and size
        )
    )


def _pages(sections: tuple[tuple[int, int], ...], page: int) -> tuple[tuple[int, int], ...]:
    """Their pages, joined where they touch."""
    ranges: list[tuple[int, int]] = []
    for begin, end in sections:
        first, last = begin & -page, (end + page - 1) & -page
        if ranges and first <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(last, ranges[-1][1]))
        else:
            ranges.append((first, last))
    return tuple(ranges)


def sections_within(layout: FileLayout | None, first: int, size: int) -> list[tuple[int, int]]:
    """Byte ranges with instructions in `size` bytes from file offset `first`, counted from there.

    All of it if nobody knows.
    """
    if layout is None or not layout.sections:
        return [(0, size)]
    clipped = [(max(b - first, 0), min(e - first, size)) for b, e in layout.sections]
    return [(begin, end) for begin, end in clipped if begin < end]


def within(layout: FileLayout | None, offset: int, length: int, page: int) -> list[tuple[int, int]]:
    """The page ranges with code of a mapping of the file at `offset`; all of it if nobody knows."""
    end = (offset + length + page - 1) & -page
    if layout is None or not layout.code:
        return [(offset, end)]
    clipped = [(max(first, offset), min(last, end)) for first, last in layout.code]
    return [(first, last) for first, last in clipped if first < last]
