"""Trampolines are there as long as something leads to them or returns to them, and no longer."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen.layout import SlotArm64, Trampoline
from kernel import trampoline_room
from kernel.errors import LinuxError
from kernel.text_mapping import reserve
from kernel.trampoline_room import give_back
from tests.kernel.core.scanned_guest import ENTRY, PAGE, Guest, finish, words
from tests.kernel.core.test_scanning import (
    ANONYMOUS,
    NO_FD,
    NOP,
    PRIVATE,
    SVC,
    R,
    W,
    X,
    library,
    mmap,
    mprotect,
)

FIXED = 0x10
PAGES_OF_CODE = words(SVC, NOP).ljust(PAGE, b"\0") + words(SVC, NOP)  # text of two pages


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    made = Guest(tmp_path / "cache")
    yield made
    made.close()


@pytest.fixture
def code(tmp_path: Path) -> Iterator[int]:
    """A file of nothing but code, all of which is mapped as text."""
    path = tmp_path / "code"
    path.write_bytes(PAGES_OF_CODE.ljust(2 * PAGE, b"\0"))
    os.utime(path, (1, 1))
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


def map_code(guest: Guest, fd: int, at: int = 0, pages: int = 2) -> Any:
    return mmap(guest, at, pages * PAGE, R | X, PRIVATE | (FIXED if at else 0), fd, 0)


def sweep(guest: Guest) -> int:
    given: int = finish(give_back(guest.task, PAGE))
    return given


def runs(guest: Guest, start: int) -> bool:
    """Whether the call at `start` reaches the stub and comes back."""
    guest.entered.clear()
    guest.go(start, start + 4)
    return guest.entered == [ENTRY]


def areas(guest: Guest) -> list[tuple[int, int]]:
    return [(start, end) for start, end, _ in guest.process.texts.scanned.areas]


def test_text_that_comes_back_uses_its_trampolines_again(guest: Guest, tmp_path: Path) -> None:
    fd = library(tmp_path / "lib", words(NOP, SVC, NOP))
    start = mmap(guest, 0, 3 * PAGE, R | X, PRIVATE, fd, 0)
    first, pages = areas(guest), len(guest.pages)
    for _ in range(5):
        guest.munmap(start, 3 * PAGE)  # the stub's own: the kernel does not hear of it
        assert mmap(guest, start, 3 * PAGE, R | X, PRIVATE, fd, 0) == start
        assert (areas(guest), len(guest.pages)) == (first, pages)
        guest.go(start + PAGE, start + PAGE + 8)
    assert guest.entered == [ENTRY] * 5
    os.close(fd)


def test_other_text_at_the_same_place_gives_them_back(guest: Guest, tmp_path: Path) -> None:
    small = library(tmp_path / "small", words(NOP, SVC, NOP))
    large = library(tmp_path / "large", words(*[SVC] * 200))
    start = mmap(guest, 0, 3 * PAGE, R | X, PRIVATE, small, 0)
    before = len(guest.pages)
    guest.munmap(start, 3 * PAGE)
    assert mmap(guest, start, 3 * PAGE, R | X, PRIVATE, large, 0) == start
    assert len(areas(guest)) == 1
    assert len(guest.pages) == before + 1
    os.close(small)
    os.close(large)


def test_what_has_taken_the_place_of_trampolines_stays(guest: Guest, tmp_path: Path) -> None:
    fd = library(tmp_path / "lib", words(NOP, SVC, NOP))
    start = mmap(guest, 0, 3 * PAGE, R | X, PRIVATE, fd, 0)
    ((area, end),) = areas(guest)
    guest.munmap(start, 3 * PAGE)
    guest.munmap(area, end - area)
    guest.mmap(area, PAGE, R | W, PRIVATE | ANONYMOUS | 0x10)
    guest.write(area, b"the guest's own")
    assert mmap(guest, start, 3 * PAGE, R | X, PRIVATE, fd, 0) == start
    assert guest.read(area, 15) == b"the guest's own"
    assert area not in dict(areas(guest))
    os.close(fd)


def test_trampolines_without_text_are_found_at_last(guest: Guest, tmp_path: Path) -> None:
    fd = library(tmp_path / "lib", words(NOP, SVC, NOP))
    kept = mmap(guest, 0, 3 * PAGE, R | X, PRIVATE, fd, 0)
    most = 0
    for n in range(300):
        at = 0x5000_0000 + n * 16 * PAGE  # never where it was before
        assert mmap(guest, at, 3 * PAGE, R | X, PRIVATE | 0x10, fd, 0) == at
        guest.munmap(at, 3 * PAGE)
        most = max(most, len(areas(guest)))
    assert most <= 65
    guest.go(kept + PAGE, kept + PAGE + 8)
    assert guest.entered == [ENTRY]
    os.close(fd)


def test_what_is_left_of_a_text_keeps_its_trampolines(guest: Guest, code: int) -> None:
    start = map_code(guest, code)
    guest.munmap(start, PAGE)
    assert sweep(guest) == 0
    assert runs(guest, start + PAGE)
    guest.mmap(start, PAGE, R | W, PRIVATE | ANONYMOUS | FIXED)
    assert sweep(guest) == 0
    assert runs(guest, start + PAGE)
    guest.munmap(start + PAGE, PAGE)
    assert sweep(guest) == 1
    assert areas(guest) == []


def test_text_over_a_part_of_another_has_its_own(guest: Guest, code: int) -> None:
    start = map_code(guest, code)
    assert map_code(guest, code, start, pages=1) == start
    assert len(areas(guest)) == 2
    assert runs(guest, start)
    assert runs(guest, start + PAGE)
    assert map_code(guest, code, start) == start
    assert sweep(guest) == 1
    assert runs(guest, start)
    assert runs(guest, start + PAGE)


def test_text_that_cannot_be_read_now_keeps_them(guest: Guest, code: int) -> None:
    start = map_code(guest, code)
    guest.mprotect(start, 2 * PAGE, 0)
    assert sweep(guest) == 0
    assert mprotect(guest, start, 2 * PAGE, R | X) == 0
    assert runs(guest, start)


def test_an_area_that_a_thread_returns_to_stays(guest: Guest, code: int, tmp_path: Path) -> None:
    start = map_code(guest, code)
    ((area, _),) = areas(guest)
    guest.slot.q[SlotArm64.RETURN // 8] = area + Trampoline.SIZE + Trampoline.BACK
    guest.munmap(start, 2 * PAGE)
    assert sweep(guest) == 0
    # Other text does not get it, the same text does.
    other = tmp_path / "other"
    other.write_bytes(words(NOP, SVC).ljust(2 * PAGE, b"\0"))
    fd = os.open(other, os.O_RDONLY)
    before = guest.read(area, 2 * Trampoline.SIZE)
    assert map_code(guest, fd, start) == start
    assert guest.read(area, 2 * Trampoline.SIZE) == before
    assert runs(guest, start + 4)
    os.close(fd)
    guest.slot.q[SlotArm64.RETURN // 8] = 0
    assert sweep(guest) == 1
    assert area not in dict(areas(guest))


def test_text_that_a_thread_is_in_gets_the_same_again(guest: Guest, code: int) -> None:
    start = map_code(guest, code)
    ((area, end),) = areas(guest)
    guest.slot.q[SlotArm64.RETURN // 8] = area + Trampoline.BACK
    assert map_code(guest, code, start) == start
    assert areas(guest) == [(area, end)]
    assert runs(guest, start)


def test_nothing_is_remembered_of_text_that_is_gone(guest: Guest, code: int) -> None:
    for n in range(20):
        start = map_code(guest, code, 0x5000_0000 + n * 16 * PAGE)
        guest.munmap(start, 2 * PAGE)
    assert sweep(guest) == 20
    memory = guest.process.texts.scanned
    assert (len(memory.areas), len(memory.pages), memory.by_text) == (0, 0, {})


def test_no_room_is_a_reason_to_look(
    guest: Guest, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = map_code(guest, code)
    guest.munmap(start, 2 * PAGE)

    async def only_one(*args: Any) -> int:
        if areas(guest):
            raise LinuxError(errno.ENOMEM)
        return await reserve(*args)

    monkeypatch.setattr(trampoline_room, "reserve", only_one)
    at = 0x5000_0000
    assert map_code(guest, code, at) == at
    with pytest.raises(LinuxError):
        map_code(guest, code, at + 16 * PAGE)
    assert runs(guest, at)


def test_the_limit_goes_down_again(guest: Guest, code: int) -> None:
    starts = [map_code(guest, code, 0x5000_0000 + n * 16 * PAGE) for n in range(200)]
    assert guest.process.texts.scanned.sweep_at > 200
    for start in starts:
        guest.munmap(start, 2 * PAGE)
    assert sweep(guest) == 200
    assert guest.process.texts.scanned.sweep_at == 64


def test_code_made_anew_again_and_again_does_not_pile_up(guest: Guest) -> None:
    start = mmap(guest, 0, PAGE, R | W | X, PRIVATE | ANONYMOUS, NO_FD, 0)
    for _ in range(200):
        guest.mprotect(start, PAGE, R | W)
        guest.write(start, words(NOP, SVC, NOP))
        assert mprotect(guest, start, PAGE, R | X) == 0
        assert runs(guest, start + 4)
    assert len(areas(guest)) <= 65


def test_code_made_in_part_anew_keeps_what_is_old(guest: Guest) -> None:
    start = mmap(guest, 0, PAGE, R | W | X, PRIVATE | ANONYMOUS, NO_FD, 0)
    guest.write(start, words(SVC, NOP, NOP, NOP))
    mprotect(guest, start, PAGE, R | X)
    guest.mprotect(start, PAGE, R | W)
    guest.write(start + 8, words(SVC))
    mprotect(guest, start, PAGE, R | X)
    assert sweep(guest) == 0
    assert runs(guest, start)
    assert runs(guest, start + 8)
