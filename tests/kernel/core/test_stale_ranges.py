"""What the guest has unmapped without a word is forgotten when there is much of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.scanned import Scanned
from tests.kernel.core.scanned_guest import PAGE, Guest
from tests.kernel.core.test_scanning import ANONYMOUS, NO_FD, PRIVATE, R, W, X, mmap, mprotect

FIXED = 0x10


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    made = Guest(tmp_path / "cache")
    yield made
    made.close()


def test_ranges_without_trampolines_are_forgotten_too(guest: Guest) -> None:
    memory = guest.process.texts.scanned = Scanned()
    kept = mmap(guest, 0, PAGE, R | W | X, PRIVATE | ANONYMOUS, NO_FD, 0)
    for n in range(600):
        at = 0x5000_0000 + n * 2 * PAGE
        if n % 2:
            mmap(guest, at, PAGE, R | W | X, PRIVATE | ANONYMOUS | FIXED, NO_FD, 0)
        else:
            guest.mmap(at, PAGE, R | W, PRIVATE | ANONYMOUS | FIXED)
            mprotect(guest, at, PAGE, R | X)
        guest.munmap(at, PAGE)
    assert len(memory.pages) <= 257
    assert memory.pages.at(kept) is not None
