"""ELF headers: what is accepted, and that nothing a file holds is more than an error number."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernel import elf
from kernel.errors import LinuxError

LOAD, INTERP, PHDR, NOTE = 1, 3, 6, 4
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
ENTRY = struct.Struct("<IIQQQQQQ")
IDENT = b"\x7fELF\x02\x01\x01" + bytes(9)
U16, U32, U64 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF), st.integers(0, (1 << 64) - 1)
LIKELY = st.sampled_from(
    [0, 1, 64, 56, 120, 0x1000, 1 << 47, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
)


def header(kind: int = 2, machine: int = 62, phoff: int = 64, phentsize: int = 56,
           phnum: int = 1, ident: bytes = IDENT) -> bytes:  # fmt: skip
    return HEADER.pack(
        ident, kind, machine, 1, 0x40_1000, phoff, 0, 0, 64, phentsize, phnum, 0, 0, 0
    )


def entry(kind: int = LOAD, offset: int = 0, address: int = 0x40_0000, file_size: int = 0x100,
          memory_size: int = 0x200, flags: int = 5) -> bytes:  # fmt: skip
    return ENTRY.pack(kind, flags, offset, address, address, file_size, memory_size, 0x1000)


GOOD = header() + entry() + bytes(0x1000)


def parse(directory: Path, data: bytes, machine: int = 62) -> elf.Elf:
    file = directory / "program"
    file.write_bytes(data)
    fd = os.open(file, os.O_RDONLY)
    try:
        return elf.parse(fd, machine)
    finally:
        os.close(fd)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return tmp_path_factory.mktemp("elf")  # type: ignore[return-value]


def refused(directory: Path, data: bytes) -> int:
    with pytest.raises(LinuxError) as caught:
        parse(directory, data)
    return caught.value.errno


def test_a_static_executable(directory: Path) -> None:
    image = parse(directory, GOOD)
    assert (image.kind, image.entry, image.header_count) == (elf.ET_EXEC, 0x40_1000, 1)
    assert image.program_headers == 0x40_0040
    assert image.segments == (elf.Segment(5, 0, 0x40_0000, 0x100, 0x200),)
    assert (image.low, image.high) == (0x40_0000, 0x40_0200)
    assert image.interpreter is None


def test_an_interpreter_and_several_segments(directory: Path) -> None:
    path = b"/lib64/ld-linux-x86-64.so.2\0"
    data = header(kind=3, phnum=4)
    data += entry(NOTE) + entry(INTERP, 64 + 4 * 56, 0, len(path), len(path))
    data += entry(address=0x1234, memory_size=0x100)
    data += entry(address=0x9000, offset=0x80, file_size=0, memory_size=0x5001)
    image = parse(directory, data + path + bytes(0x1000))
    assert image.interpreter == path[:-1]
    assert (image.kind, image.low, image.high) == (elf.ET_DYN, 0x1234, 0xE001)


@pytest.mark.parametrize(
    ("data", "number"),
    [
        (b"", errno.ENOEXEC),
        (b"#!/bin/sh\n", errno.ENOEXEC),
        (b"\x7fELF", errno.ENOEXEC),
        (GOOD[:63], errno.ENOEXEC),
        (GOOD[:64], errno.ENOEXEC),
        (GOOD[:119], errno.ENOEXEC),
        (header(machine=183) + GOOD[64:], errno.ENOEXEC),
        (header(kind=1) + GOOD[64:], errno.ENOEXEC),
        (header(ident=b"\x7fELF\x01\x01" + bytes(10)) + GOOD[64:], errno.ENOEXEC),
        (header(ident=b"\x7fELF\x02\x02" + bytes(10)) + GOOD[64:], errno.ENOEXEC),
        (header(phnum=0) + GOOD[64:], errno.ENOEXEC),
        (header(phnum=0xFFFF) + GOOD[64:], errno.ENOEXEC),
        (header(phentsize=32) + GOOD[64:], errno.ENOEXEC),
        (header() + entry(NOTE) + bytes(0x1000), errno.ENOEXEC),
        (header() + entry(file_size=0x201) + bytes(0x1000), errno.ENOEXEC),
        (header() + entry(address=1 << 47) + bytes(0x1000), errno.ENOEXEC),
        (header() + entry(file_size=1 << 20, memory_size=1 << 20), errno.ENOEXEC),
        (header() + entry(INTERP, 0, 0, 1, 1) + bytes(64), errno.ENOEXEC),
        (header() + entry(INTERP, 0, 0, 4097, 4097) + bytes(64), errno.ENOEXEC),
        (header() + entry(INTERP, 0x10_0000, 0, 8, 8) + bytes(64), errno.EIO),
    ],
)
def test_what_is_refused(directory: Path, data: bytes, number: int) -> None:
    assert refused(directory, data) == number


def test_the_other_machine(directory: Path) -> None:
    assert parse(directory, header(machine=183) + GOOD[64:], 183).kind == elf.ET_EXEC


def survives(directory: Path, data: bytes) -> None:
    """Whatever it is, it is parsed or refused with an error number."""
    number = 0
    try:
        image = parse(directory, data)
    except LinuxError as error:
        number = error.errno
    assert number in {0, errno.ENOEXEC, errno.EIO, errno.ELIBBAD, errno.EINVAL}
    if not number:
        assert image.segments
        assert image.low <= image.high <= 1 << 47


@given(cut=st.integers(0, 200), flips=st.lists(st.tuples(st.integers(0, 119), st.integers(0, 255))))
@settings(max_examples=150, deadline=None)
def test_damaged_headers(directory: Path, cut: int, flips: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for at, value in flips:
        if not 32 <= at < 40 and not 72 <= at < 80:  # the offsets: see the next test
            data[at] = value
    survives(directory, bytes(data[:cut] if cut < 120 else data))


@given(
    kind=st.sampled_from([LOAD, INTERP, PHDR, NOTE]), offset=st.one_of(LIKELY, U32),
    address=st.one_of(LIKELY, U64), sizes=st.tuples(st.one_of(LIKELY, U64), st.one_of(LIKELY, U64)),
    flags=U32, phnum=st.integers(1, 3),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_any_program_header(
    directory: Path, kind: int, offset: int, address: int, sizes: tuple[int, int], flags: int,
    phnum: int,
) -> None:  # fmt: skip
    if kind == INTERP:
        offset &= 0x7FFF_FFFF  # see the next test
    data = header(phnum=phnum) + entry(kind, offset, address, *sizes, flags)
    survives(directory, data + entry() * 2 + bytes(0x800))


@given(phoff=st.one_of(LIKELY, U64), interpreter=st.one_of(LIKELY, U64))
@example(phoff=1 << 63, interpreter=0)
@settings(max_examples=20, deadline=None)
def test_any_offset(directory: Path, phoff: int, interpreter: int) -> None:
    survives(directory, header(phoff=phoff) + GOOD[64:])
    survives(directory, header(phnum=2) + entry() + entry(INTERP, interpreter, 0, 8, 8) + GOOD)
