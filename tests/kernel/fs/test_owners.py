"""The ownership journal survives what can happen to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.fs import owners
from kernel.fs.owners import Journal, Record


def journal(path: Path, root: int = 2) -> Journal:
    return Journal(os.fsencode(path / "index.journal"), root)


def content(index: Journal) -> object:
    hidden = {ino: names for ino, names in index.whiteouts.items() if names}
    return dict(index.records), hidden, set(index.opaque)


def filled(path: Path) -> Journal:
    index = journal(path)
    index.set(10, Record(1, 2, 0o104755, 0, {b"user.a": b"\xff"}, 7))
    index.set(11, Record(5, 5))
    index.set(11, Record())
    index.whiteout(20, b"\xfe name")
    index.whiteout(20, b"back")
    index.reveal(20, b"back")
    index.set_opaque(21)
    index.settle(12, Record(9, 9))
    index.forget(12)
    return index


def test_everything_is_there_again(tmp_path: Path) -> None:
    first = filled(tmp_path)
    expected = content(first)
    first.close()
    again = journal(tmp_path)
    assert content(again) == expected
    assert again.records == {10: Record(1, 2, 0o104755, 0, {b"user.a": b"\xff"}, 7)}
    again.close()


def test_a_torn_record_is_dropped_and_writing_goes_on(tmp_path: Path) -> None:
    first = filled(tmp_path)
    expected = content(first)
    first.set(30, Record(3, 3))
    first.close()
    path = tmp_path / "index.journal"
    path.write_bytes(path.read_bytes()[:-2])
    second = journal(tmp_path)
    assert content(second) == expected
    second.set(31, Record(4, 4))
    second.close()
    third = journal(tmp_path)
    assert third.records[31] == Record(4, 4)
    third.close()


def test_a_long_journal_is_folded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "_FOLD_BYTES", 1000)
    first = filled(tmp_path)
    for i in range(500):
        first.set(40, Record(i, i))
    expected = content(first)
    first.close()
    second = journal(tmp_path)
    assert content(second) == expected
    second.set(41, Record(1, 1))
    second.close()
    assert (tmp_path / "index.journal").stat().st_size < 300
    third = journal(tmp_path)
    assert third.records[40] == Record(499, 499)
    assert 41 in third.records
    third.close()


def test_inodes_of_another_tree_mean_nothing(tmp_path: Path) -> None:
    filled(tmp_path).close()
    copied = journal(tmp_path, root=3)
    assert content(copied) == ({}, {}, set())
    copied.close()


def test_a_reused_inode_inherits_nothing(tmp_path: Path) -> None:
    index = filled(tmp_path)
    index.settle(10, Record())
    index.settle(20, Record())
    index.settle(21, Record())
    assert content(index) == ({}, {}, set())
    index.close()
