"""A map from address ranges to values."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

V = TypeVar("V")


class RangeMap(Generic[V]):
    """Ranges [start, end) that do not overlap, each with a value; equal neighbours join."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._items: list[tuple[int, int, V]] = []

    def copy(self) -> RangeMap[V]:
        """Another map with the same ranges."""
        made: RangeMap[V] = RangeMap()
        made._starts, made._items = list(self._starts), list(self._items)
        return made

    def __iter__(self) -> Iterator[tuple[int, int, V]]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def at(self, address: int) -> tuple[int, int, V] | None:
        """The range that holds `address`."""
        i = bisect_right(self._starts, address) - 1
        if i >= 0 and address < self._items[i][1]:
            return self._items[i]
        return None

    def over(self, start: int, end: int) -> list[tuple[int, int, V]]:
        """The parts of ranges that lie in [start, end)."""
        first, last = self._touched(start, end)
        return [(max(s, start), min(e, end), value) for s, e, value in self._items[first:last]]

    def _touched(self, start: int, end: int) -> tuple[int, int]:
        first = bisect_right(self._starts, start) - 1
        if first < 0 or self._items[first][1] <= start:
            first += 1
        return first, max(first, bisect_left(self._starts, end))

    def clear(self, start: int, end: int) -> None:
        """Nothing is known about [start, end)."""
        if start >= end:
            return
        first, last = self._touched(start, end)
        kept = []
        for s, e, value in self._items[first:last]:
            if s < start:
                kept.append((s, start, value))
            if e > end:
                kept.append((end, e, value))
        self._replace(first, last, kept)

    def set(self, start: int, end: int, value: V) -> None:
        """[start, end) has `value`, whatever it had."""
        if start >= end:
            return
        self.clear(start, end)
        first = last = bisect_left(self._starts, start)
        if first and self._items[first - 1][1] == start and self._items[first - 1][2] == value:
            first -= 1
            start = self._items[first][0]
        if self._items[last : last + 1] == [(end, self._end(last), value)]:
            end = self._end(last)
            last += 1
        self._replace(first, last, [(start, end, value)])

    def _end(self, index: int) -> int:
        return self._items[index][1] if index < len(self._items) else 0

    def _replace(self, first: int, last: int, items: list[tuple[int, int, V]]) -> None:
        self._items[first:last] = items
        self._starts[first:last] = [item[0] for item in items]
