"""Executable memory under an engine without a filter: nothing runs that was not looked at."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import unicorn as untyped_unicorn
from unicorn import arm64_const as arm

from codegen.svc_patch import find_sites
from kernel.errors import LinuxError
from kernel.reply import Program
from tests.kernel.core.scanned_guest import ENTRY, PAGE, SET_TLS, Guest, finish, words

unicorn: Any = untyped_unicorn  # it ships no annotations

SVC, MSR_X3, NOP = 0xD400_0001, 0xD51B_D043, 0xD503_201F
STORE = 0xB900_0041  # str w1, [x2]
LIBC = Path("/usr/aarch64-linux-gnu/lib/libc.so.6")
PRIVATE, SHARED, ANONYMOUS = 2, 1, 0x20
R, W, X = 1, 2, 4
NO_FD = (1 << 64) - 1


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    made = Guest(tmp_path / "cache")
    yield made
    made.close()


def library(path: Path, code: bytes, data: bytes = b"") -> int:
    """An ELF file: page 0 headers, page 1 code (a section), page 2 data in the same segment."""
    section = struct.Struct("<IIQQQQIIQQ")
    size = 2 * PAGE + max(len(data), 1)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 183, 1, 0, 64, 256, 0, 64, 56, 1, 64, 2, 0
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, size, 5 * PAGE, PAGE)
    sections = section.pack(0, 1, 4 | 2, PAGE, PAGE, len(code), 0, 0, 4, 0)
    sections += section.pack(0, 1, 2, 2 * PAGE, 2 * PAGE, len(data), 0, 0, 4, 0)
    content = (header + load).ljust(256, b"\0") + sections
    content = content.ljust(PAGE, b"\0") + code.ljust(PAGE, b"\0") + (data or b"\0")
    path.write_bytes(content)
    os.utime(path, (1, 1))
    return os.open(path, os.O_RDONLY)


def mmap(guest: Guest, addr: int, length: int, prot: int, flags: int, fd: int, off: int) -> Any:
    return finish(guest.scanner.mmap(guest.task, addr, length, prot, flags, fd, off))


def mprotect(guest: Guest, start: int, length: int, prot: int) -> Any:
    return finish(guest.scanner.mprotect(guest.task, start, length, prot))


# -- files -----------------------------------------------------------------------------------------


def test_a_library_runs_through_the_stub(guest: Guest, tmp_path: Path) -> None:
    fd = library(tmp_path / "lib", words(NOP, SVC, MSR_X3, NOP), words(SVC))
    start = mmap(guest, 0, 2 * PAGE + 4, R | X, PRIVATE, fd, 0)
    assert guest.protections(start, 3 * PAGE) == "rXr"
    assert guest.read(start + 2 * PAGE, 4) == words(SVC)  # data, which cannot run
    assert find_sites(guest.read(start + PAGE, PAGE)) == []
    guest.go(start + PAGE, start + PAGE + 12)
    assert guest.entered == [ENTRY, SET_TLS]
    assert guest.uc.reg_read(arm.UC_ARM64_REG_X0) == 77
    os.close(fd)


def test_trampolines_lie_where_no_later_segment_comes(guest: Guest, tmp_path: Path) -> None:
    """Only the text of an image of five pages is mapped: the rest comes with MAP_FIXED."""
    fd = library(tmp_path / "lib", words(SVC))
    start = mmap(guest, 0x5000_1000, PAGE, R | X, PRIVATE, fd, PAGE)
    ((area, _, _),) = guest.process.texts.scanned.areas
    assert start == 0x5000_1000
    assert area >= start + 4 * PAGE or area + PAGE <= start - PAGE
    os.close(fd)


def test_trampolines_go_elsewhere_when_their_place_is_taken(guest: Guest, tmp_path: Path) -> None:
    fd = library(tmp_path / "lib", words(SVC, NOP))
    guest.mmap(0x5000_0000 + 5 * PAGE, PAGE, R, PRIVATE | ANONYMOUS)
    start = mmap(guest, 0x5000_0000, 3 * PAGE, R | X, PRIVATE, fd, 0)
    ((area, _, _),) = guest.process.texts.scanned.areas
    assert area == start - PAGE
    guest.go(start + PAGE, start + PAGE + 4)
    assert guest.entered == [ENTRY]
    os.close(fd)


def test_out_of_reach_is_enomem_and_leaves_nothing(
    guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = library(tmp_path / "lib", words(SVC))
    guest.scanner.store.look(fd, 0, 3 * PAGE)
    monkeypatch.setattr("codegen.svc_patch.reaches", lambda _sites, _distance: False)
    before = dict(guest.pages)
    with pytest.raises(LinuxError) as caught:
        mmap(guest, 0, 3 * PAGE, R | X, PRIVATE, fd, 0)
    assert caught.value.errno == errno.ENOMEM
    assert guest.pages == before
    os.close(fd)


@pytest.mark.skipif(not LIBC.exists(), reason="no arm64 C library here")
def test_a_real_library_has_no_sites_left_and_two_copies_have_two_areas(guest: Guest) -> None:
    fd = os.open(LIBC, os.O_RDONLY)
    size = os.fstat(fd).st_size
    text = guest.scanner.store.look(fd, 0, size)
    assert text is not None
    assert len(text.sites) > 300
    for count in (1, 2):
        start = mmap(guest, 0, size, R | X, PRIVATE, fd, 0)
        assert find_sites(guest.read(start + text.first, text.size)) == []
        assert len(list(guest.process.texts.scanned.areas)) == count
    os.close(fd)


def test_text_is_kept_by_content_and_shared_by_containers(tmp_path: Path) -> None:
    first, second = Guest(tmp_path / "cache"), Guest(tmp_path / "cache")
    fd = library(tmp_path / "lib", words(SVC))
    other = library(tmp_path / "copy", words(SVC))
    for guest, file in ((first, fd), (first, other), (second, other)):
        mmap(guest, 0, 3 * PAGE, R | X, PRIVATE, file, 0)
    kept = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert len(kept) == 1
    assert find_sites(kept[0].read_bytes()) == []
    for number in (fd, other):
        os.close(number)
    first.close()
    second.close()


def test_a_file_that_changes_is_looked_at_again(guest: Guest, tmp_path: Path) -> None:
    fd = library(tmp_path / "lib", words(NOP))
    assert mmap(guest, 0, 2 * PAGE, R | X, PRIVATE, fd, 0)
    os.close(fd)
    fd = library(tmp_path / "lib", words(SVC, NOP))
    start = mmap(guest, 0, 2 * PAGE, R | X, PRIVATE, fd, 0)
    guest.go(start + PAGE, start + PAGE + 4)
    assert guest.entered == [ENTRY]
    os.close(fd)


@pytest.mark.parametrize("strict", [False, True])
def test_text_without_sites_needs_no_trampolines(tmp_path: Path, strict: bool) -> None:
    guest = Guest(tmp_path / "cache", strict=strict)
    fd = library(tmp_path / "lib", words(NOP, NOP))
    start = mmap(guest, 0, 3 * PAGE, R | X, PRIVATE, fd, 0)
    assert guest.go(start + PAGE, start + PAGE + 4) == 0
    assert not list(guest.process.texts.scanned.areas)
    os.close(fd)
    guest.close()


def test_a_program_gets_its_trampolines_behind_its_image(guest: Guest, tmp_path: Path) -> None:
    fd = library(tmp_path / "program", words(NOP, SVC, NOP))
    program = Program()
    given = guest.task.process.channel.give(guest.task, program, os.dup(fd), True)
    base, room = 0x5555_0000, 0x5555_0000 + 5 * PAGE
    after = guest.scanner.map_segment(
        guest.task, program, (given, fd), (base, 2 * PAGE + 4, 0), R | X, room
    )
    guest.run(program)
    assert after == room + PAGE
    assert guest.protections(base, 3 * PAGE) == "rXr"
    guest.go(base + PAGE, base + PAGE + 8)
    assert guest.entered == [ENTRY]
    os.close(fd)


def test_a_program_with_vast_data_has_them_before_its_image(guest: Guest, tmp_path: Path) -> None:
    fd = library(tmp_path / "program", words(SVC, NOP))
    program = Program()
    given = guest.task.process.channel.give(guest.task, program, os.dup(fd), True)
    base, room = 0x5555_0000, 0x7555_0000
    after = guest.scanner.map_segment(
        guest.task, program, (given, fd), (base, 2 * PAGE, 0), R | X, room
    )
    guest.run(program)
    assert after == room
    assert [area for area, _, _ in guest.process.texts.scanned.areas] == [base - PAGE]
    guest.go(base + PAGE, base + PAGE + 4)
    assert guest.entered == [ENTRY]
    os.close(fd)


def test_shared_memory_that_others_write_is_never_executable(guest: Guest) -> None:
    fd = os.memfd_create("jit")
    os.ftruncate(fd, PAGE)
    assert mmap(guest, 0, PAGE, R | X, SHARED, fd, 0) == -errno.EACCES
    assert mmap(guest, 0, PAGE, R | W | X, SHARED | ANONYMOUS, NO_FD, 0) == -errno.EACCES
    os.close(fd)


# -- memory that is written and executed -----------------------------------------------------------


def test_code_made_at_run_time_runs_through_the_stub(guest: Guest) -> None:
    start = guest.mmap(0, PAGE, R | W, PRIVATE | ANONYMOUS)
    guest.write(start, words(NOP, SVC, NOP))
    assert mprotect(guest, start, PAGE, R | X) == 0
    assert guest.protections(start, PAGE) == "X"
    assert guest.go(start, start + 8) == 0
    assert guest.entered == [ENTRY]


def test_memory_of_both_kinds_is_never_both(guest: Guest) -> None:
    """It is written, executed, written again, and executed again."""
    start = mmap(guest, 0, 4 * PAGE, R | W | X, PRIVATE | ANONYMOUS, NO_FD, 0)
    assert guest.protections(start, 4 * PAGE) == "RRRR"
    guest.write(start, words(NOP, NOP, SVC, NOP))
    writer = guest.mmap(0, PAGE, R | X, PRIVATE | ANONYMOUS)
    guest.write(writer, words(STORE, NOP))
    assert guest.go(start, start + 12) == 1
    assert guest.protections(start, 4 * PAGE) == "XRRR"
    assert guest.entered == [ENTRY]
    guest.uc.reg_write(arm.UC_ARM64_REG_X1, SVC)
    guest.uc.reg_write(arm.UC_ARM64_REG_X2, start + 4)
    assert guest.go(writer, writer + 4) == 1
    assert guest.protections(start, 4 * PAGE) == "RRRR"
    assert guest.go(start, start + 12) == 1
    assert guest.entered == [ENTRY] * 3


def test_code_that_writes_its_own_page_faults_and_does_not_loop(guest: Guest) -> None:
    start = mmap(guest, 0, PAGE, R | W | X, PRIVATE | ANONYMOUS, NO_FD, 0)
    guest.write(start, words(STORE, NOP))
    guest.uc.reg_write(arm.UC_ARM64_REG_X2, start + 64)
    with pytest.raises(unicorn.UcError):
        guest.go(start, start + 4)


def test_large_ranges_are_looked_at_where_they_run(guest: Guest) -> None:
    size = 64 * PAGE
    start = guest.mmap(0x6000_0000, size, R | W, PRIVATE | ANONYMOUS)
    guest.write(start + 40 * PAGE, words(SVC, NOP))
    mprotect(guest, start, size, R | X)
    assert guest.protections(start, size) == "r" * 64
    assert guest.go(start + 40 * PAGE, start + 40 * PAGE + 4) == 1
    assert guest.protections(start, size) == "r" * 32 + "X" * 16 + "r" * 16
    assert guest.entered == [ENTRY]


def test_a_guest_that_may_not_execute_gets_its_signal(guest: Guest) -> None:
    start = guest.mmap(0, PAGE, R | W, PRIVATE | ANONYMOUS)
    mprotect(guest, start, PAGE, R | X)
    mprotect(guest, start, PAGE, R | W)
    fault = guest.scanner.interruptions.fault
    assert finish(fault(guest.task, guest.host_frame(start), 11, 2, start)).theirs


def test_a_write_to_pages_that_are_not_writable_is_a_fault(guest: Guest) -> None:
    start = guest.mmap(0, PAGE, R | W, PRIVATE | ANONYMOUS)
    mprotect(guest, start, PAGE, R | X)
    fault = guest.scanner.interruptions.fault
    assert finish(fault(guest.task, guest.host_frame(0x1000), 11, 2, start)).theirs


def test_a_fault_that_another_thread_has_settled_is_tried_once_more(guest: Guest) -> None:
    start = mmap(guest, 0, PAGE, R | W | X, PRIVATE | ANONYMOUS, NO_FD, 0)
    fault = guest.scanner.interruptions.fault
    outcomes = [
        finish(fault(guest.task, guest.host_frame(0x1000), 11, 2, start)).theirs for _ in range(2)
    ]
    assert outcomes == [False, True]


def test_a_child_has_its_own_record(guest: Guest) -> None:
    start = mmap(guest, 0, PAGE, R | W | X, PRIVATE | ANONYMOUS, NO_FD, 0)
    child = guest.process.texts.copy()
    guest.scanner.unmapped(guest.process, start, PAGE)
    assert guest.process.texts.scanned.pages.at(start) is None
    assert child.scanned.pages.at(start) is not None
