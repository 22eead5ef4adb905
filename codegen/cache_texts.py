"""What the translation cache knows about files: patched texts, their slots, journal records."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from codegen.layout import PAGE, RETURN_TABLE

_RESERVE: Final = 16  # slots a file gets at least, so that later sites of it lie close

Identity = tuple[int, ...]  # device, inode, size, mtime ns, ctime ns


class Site(NamedTuple):
    """A patched site: its slot and the file offset of its return address."""

    slot: int
    return_offset: int


class TextRecord(NamedTuple):
    """A journal record: one version of a file's patched text."""

    digest: bytes
    version: int
    segment_offset: int
    length: int  # 0: there is nothing to patch
    runs: list[tuple[int, bytes]]  # first slot, return file offsets as array("Q"), 0 = free
    refused: list[int]  # file offsets of sites that stay on the trap
    complete: bool  # there is nothing more to patch


class _Run:
    """Consecutive slots and the return offsets that stand in them."""

    __slots__ = ("address", "ones", "size", "value")

    def __init__(self, first: int, offsets: bytes) -> None:
        self.address = RETURN_TABLE + 8 * first
        self.size = len(offsets)
        # All offsets as one number: adding a base to each is one addition, 5 us for 500 sites.
        self.value = int.from_bytes(offsets, "little")
        self.ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * (self.size // 8), "little")


class PatchedText:
    """One version of a file's patched executable segment."""

    def __init__(self, path: str, record: TextRecord) -> None:
        self.version = record.version
        self.segment_offset = record.segment_offset  # in the original file; a multiple of PAGE
        self.length = record.length
        self.path = path
        self._record = record
        self._runs = [_Run(first, offsets) for first, offsets in record.runs]
        self._fd = -1

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    @property
    def fd(self) -> int:
        """The text, opened read-only; closed with this object. Raises OSError if it is gone."""
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return self._fd

    @property
    def sites(self) -> list[Site]:
        """Every patched site."""
        return [Site(*item) for item in slots_of(self._record.runs).items()]

    def part_of(self, offset: int, length: int) -> tuple[int, int, int] | None:
        """Which part of a mapping of the file at `offset` (a multiple of PAGE) is patched text.

        (distance from the mapping's start, offset in the text, length in whole pages); None if
        nothing is. A loader may first map a whole library with its text's protection: then the part
        is mapped over the file's own pages.
        """
        first = max(offset, self.segment_offset)
        last = min(offset + length + -length % PAGE, self.segment_offset + self.length)
        if first >= last:
            return None
        return first - offset, first - self.segment_offset, last - first

    def return_addresses(self, base: int) -> list[tuple[int, bytes]]:
        """What to copy into the process's return table: (address, bytes) blocks.

        `base` is the address at which the file's byte 0 would be mapped: a mapping's address minus
        its file offset. A process holds one base a file: map a second copy of the file unpatched.
        """
        return [
            (run.address, (run.value + run.ones * base).to_bytes(run.size, "little"))
            for run in self._runs
        ]


@dataclass(eq=False)
class FileText:
    """What is known about one executable file's content. Shared by all files with that content."""

    digest: bytes | None  # None: not hashed yet
    patched: PatchedText | None = None
    complete: bool = False  # every site that can be patched is
    decided: set[int] = field(default_factory=set)  # file offsets of sites, patched or refused
    pending: set[int] = field(default_factory=set)

    def wants(self, site: int) -> bool:
        """Whether a trap at this file offset (of the `syscall`) is news worth recording."""
        return not (self.complete or site in self.decided or site in self.pending)

    def update(self, record: TextRecord, path: str) -> None:
        """Take over what the journal says now."""
        if record.length:
            self.patched = PatchedText(path, record)
        self.complete = record.complete
        self.decided.update(record.refused)
        self.decided.update(r - 2 for r in slots_of(record.runs).values())
        self.pending.clear()


class State:
    """What the journal says so far."""

    def __init__(self) -> None:
        self.memo: dict[Identity, bytes] = {}
        self.records: dict[bytes, TextRecord] = {}
        self.next_slot = 0

    def take(self, records: Iterable[Any]) -> list[bytes]:
        """Learn records; the digests whose text changed."""
        changed = []
        for kind, *row in records:
            if kind == "file":
                *identity, digest = row
                self.memo[tuple(identity)] = digest
            elif kind == "text":
                record = TextRecord(*row)
                record = record._replace(runs=[(first, data) for first, data in record.runs])
                self.records[record.digest] = record
                for first, offsets in record.runs:
                    self.next_slot = max(self.next_slot, first + len(offsets) // 8)
                changed.append(record.digest)
        return changed


def slots_of(runs: Iterable[tuple[int, bytes]]) -> dict[int, int]:
    """Return offsets by slot."""
    return {
        first + i: offset
        for first, packed in runs
        for i, offset in enumerate(array("Q", packed))
        if offset
    }


def place(
    runs: list[tuple[int, bytes]], returns: list[int], next_slot: int, free: int
) -> dict[int, int]:
    """Give slots to return offsets: reserved ones first, then a new run. Extends `runs`."""
    placed: dict[int, int] = {}
    left = list(returns)
    for n, (first, packed) in enumerate(runs):
        offsets = array("Q", packed)
        for i, offset in enumerate(offsets):
            if left and not offset:
                offsets[i] = placed[first + i] = left.pop(0)
        runs[n] = (first, offsets.tobytes())
    count = min(free, max(len(left), _RESERVE)) if left else 0
    if count:
        fits = left[:count]
        runs.append((next_slot, array("Q", fits + [0] * (count - len(fits))).tobytes()))
        placed.update(enumerate(fits, next_slot))
    return placed
