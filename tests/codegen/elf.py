"""Small ELF files around given code, for the patcher and the cache."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache

import keystone

TEXT_OFFSET = 0x1000
TEXT_ADDRESS = 0x3000
FIXED_ADDRESS = 0x40_3000
_DATA_OFFSET_GAP = 0x1000


@cache
def assemble(text: str, address: int = 0) -> bytes:
    """Intel syntax, instructions separated by `;` or newlines."""
    assembler = keystone.Ks(keystone.KS_ARCH_X86, keystone.KS_MODE_64)
    code, _ = assembler.asm(text, address)
    return bytes(code)


def elf(
    code: bytes,
    functions: Sequence[tuple[int, int]] = (),
    *,
    data: bytes = b"",
    fixed: bool = False,
    landing_pads: bool = False,
) -> bytes:
    """An x86_64 ELF whose executable segment is `code` at text offset 0.

    `functions` are (start, end) pairs described by an .eh_frame_hdr; `data` begins the segment that
    follows the code.
    """
    text_address = FIXED_ADDRESS if fixed else TEXT_ADDRESS
    pages = len(code) + -len(code) % 0x1000
    data_offset = TEXT_OFFSET + pages
    data_address = text_address + pages
    body = bytearray(data)
    body += bytes(-len(body) % 8)
    frames = []
    for start, end in functions:
        at = data_address + len(body)
        frames.append((start, at))
        begin = text_address + start - (at + 8)
        body += struct.pack("<IIiIB3x", 16, 4, begin, end - start, 4 if landing_pads else 0)
    header_address = data_address + len(body)
    header = struct.pack("<4BiI", 1, 0x1B, 3, 0x3B, 0, len(frames))
    for start, at in frames:
        header += struct.pack("<ii", text_address + start - header_address, at - header_address)
    body += header
    program_headers = [
        (1, 5, TEXT_OFFSET, text_address, len(code)),
        (1, 4, data_offset, data_address, len(body)),
    ]
    if functions:
        offset = data_offset + header_address - data_address
        program_headers.append((0x6474_E550, 4, offset, header_address, len(header)))
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2 if fixed else 3, 62, 1, text_address, 64, 0, 0, 64, 56,
                        len(program_headers), 0, 0, 0)  # fmt: skip
    for kind, flags, offset, address, size in program_headers:
        head += struct.pack("<IIQQQQQQ", kind, flags, offset, address, address, size, size, 0x1000)
    return head.ljust(TEXT_OFFSET, b"\0") + code + bytes(pages - len(code)) + bytes(body)
