"""What the patcher reads from an ELF file: its executable segment and where functions begin.

Guests bring these files: nothing in them is trusted beyond the file itself. Since a patched copy is
kept under a hash of the whole file, a lying header spoils only its own file's copy.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final, NamedTuple

from codegen.layout import JUMP_TABLE, LOW_END, PAGE

_ET_EXEC, _ET_DYN = 2, 3
_EM_X86_64 = 62
_PT_LOAD, _PT_GNU_EH_FRAME = 1, 0x6474_E550
_PF_X = 1
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")  # type flags offset vaddr paddr filesz memsz align
_DATAREL_SDATA4, _PCREL_SDATA4, _UDATA4 = 0x3B, 0x1B, 0x03
_FDE = struct.Struct("<IIiIB")  # length, CIE pointer, begin (pc-relative), range, augmentation size
_SAMPLES = 512


class Function(NamedTuple):
    """What a frame description entry says; offsets into the text."""

    start: int
    end: int
    has_landing_pads: bool


class Segment(NamedTuple):
    """A PT_LOAD."""

    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int


@dataclass(frozen=True)
class Image:
    """One file's code. Offsets into `text` are what the patcher counts in.

    `text` is the executable segment rounded out to pages, as a mapping shows it; the segment's own
    bytes are text[start:end].
    """

    file: bytes
    text: bytes
    file_offset: int  # of text[0]
    address: int  # of text[0], as linked
    start: int
    end: int
    fixed: bool  # not position-independent
    segments: tuple[Segment, ...]
    function_starts: list[int]  # sorted
    _descriptions: list[int]  # file offset of each function's FDE

    def function_at(self, offset: int) -> Function | None:
        """The function whose code covers `offset`."""
        i = bisect_right(self.function_starts, offset) - 1
        if i < 0:
            return None
        function = self._function(i)
        return function if function is not None and offset < function.end else None

    def starts_function(self, offset: int) -> bool:
        """Whether a function begins exactly here."""
        i = bisect_right(self.function_starts, offset) - 1
        return i >= 0 and self.function_starts[i] == offset

    def _function(self, i: int) -> Function | None:
        at, start = self._descriptions[i], self.function_starts[i]
        try:
            length, _, begin, size, augmentation = _FDE.unpack_from(self.file, at)
        except struct.error:
            return None
        if length in (0, 0xFFFF_FFFF) or self.file_address(at + 8) + begin != self.address + start:
            return None
        return Function(start, min(start + size, self.end), augmentation != 0)

    def file_address(self, file_offset: int) -> int:
        """Linked address of a byte of the file; -1 if it is not loaded."""
        for s in self.segments:
            if s.offset <= file_offset < s.offset + s.file_size:
                return s.address + file_offset - s.offset
        return -1

    def address_offset(self, address: int) -> int:
        """File offset of the byte at a linked address; -1 if there is none."""
        for s in self.segments:
            if s.address <= address < s.address + s.file_size:
                return s.offset + address - s.address
        return -1

    def is_described(self) -> bool:
        """Whether functions' descriptions cover most of the code (estimated from a sample)."""
        count = len(self.function_starts)
        step = max(1, count // _SAMPLES)
        sample = [f for i in range(0, count, step) if (f := self._function(i))]
        if not sample:
            return False
        covered = sum(f.end - f.start for f in sample) / len(sample) * count
        return covered > (self.end - self.start) / 2


def read_image(file: bytes) -> Image | None:
    """The code of an x86_64 ELF file; None if there is none that can be patched.

    Not patched: several executable segments, one with more memory than file, and fixed images that
    lie where the jump table does.
    """
    try:
        return _read(file)
    except (struct.error, ValueError):
        return None


def _read(file: bytes) -> Image | None:
    if file[:6] != b"\x7fELF\x02\x01":
        return None
    kind, machine = struct.unpack_from("<HH", file, 16)
    (table,) = struct.unpack_from("<Q", file, 32)
    size, count = struct.unpack_from("<HH", file, 54)
    if machine != _EM_X86_64 or kind not in (_ET_EXEC, _ET_DYN) or size != _PROGRAM_HEADER.size:
        return None
    segments, frame_header = [], None
    for i in range(count):
        header = _PROGRAM_HEADER.unpack_from(file, table + i * size)
        if header[0] == _PT_LOAD:
            segments.append(Segment(header[1], header[2], header[3], header[5], header[6]))
        elif header[0] == _PT_GNU_EH_FRAME:
            frame_header = (header[2], header[3])
    executable = [s for s in segments if s.flags & _PF_X]
    if len(executable) != 1:
        return None
    code = executable[0]
    if code.memory_size != code.file_size or (code.offset - code.address) % PAGE:
        return None
    if kind == _ET_EXEC and any(
        s.address < LOW_END and s.address + s.memory_size > JUMP_TABLE for s in segments
    ):
        return None
    start = code.offset % PAGE
    first, last = code.offset - start, code.offset + code.file_size
    if last > len(file):
        return None
    text = file[first : last + -last % PAGE]
    text += bytes(-len(text) % PAGE)
    address = code.address - start
    starts, descriptions = _functions(file, frame_header, segments, address)
    return Image(
        file=file,
        text=text,
        file_offset=first,
        address=address,
        start=start,
        end=start + code.file_size,
        fixed=kind == _ET_EXEC,
        segments=tuple(segments),
        function_starts=starts,
        _descriptions=descriptions,
    )


_NONE: Final[tuple[list[int], list[int]]] = ([], [])


def _functions(
    file: bytes, header: tuple[int, int] | None, segments: list[Segment], base: int
) -> tuple[list[int], list[int]]:
    """The search table of .eh_frame_hdr: function starts as text offsets, FDEs as file offsets.

    Source: Linux Standard Base, "DWARF Extensions".
    """
    if header is None:
        return _NONE
    at, address = header
    version, pointer, count_format, table_format = file[at : at + 4]
    if (version, pointer, count_format, table_format) != (
        1, _PCREL_SDATA4, _UDATA4, _DATAREL_SDATA4,
    ):  # fmt: skip
        return _NONE
    (count,) = struct.unpack_from("<I", file, at + 8)
    if not count or at + 12 + 8 * count > len(file):
        return _NONE
    values = struct.unpack_from(f"<{2 * count}i", file, at + 12)
    frames = next((s for s in segments if s.address <= address < s.address + s.file_size), None)
    if frames is None:
        return _NONE
    to_file = address + frames.offset - frames.address
    starts = [address - base + v for v in values[::2]]
    if starts != sorted(starts):
        return _NONE
    return starts, [to_file + v for v in values[1::2]]
