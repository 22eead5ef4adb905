"""Dead padding: where it is, the proof that it is dead, and who uses it."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from codegen.patch_text import Code

_NOP = (
    rb"(?:\x66{0,12}\x2e?\x0f\x1f(?:\x00|\x40\x00|\x44\x00\x00|\x80\x00{4}|\x84\x00{5})|\x66?\x90)"
)
_RUN = re.compile(rb"\xcc{2,}|" + _NOP + rb"+")
_FIRST_NOP = re.compile(_NOP)
_NOT_FALLING_THROUGH = frozenset({"jmp", "ret", "ud2", "hlt"})
_ALIGNMENT = 8
_JUMP, _NEAR, _SHORT = 7, 5, 2  # FF 24 25 disp32 · E9 rel32 · EB rel8
_MOST_HOPS = 4
_REACH_BACK, _REACH_ON = 128, 127


@dataclass
class Padding:
    """Bytes [free, end) are dead and unused."""

    free: int
    end: int

    @property
    def size(self) -> int:
        """How many bytes are left."""
        return self.end - self.free

    def take(self, count: int) -> int:
        """Use the next `count` bytes; where they are."""
        at = self.free
        self.free += count
        return at


@dataclass(frozen=True)
class Route:
    """From a site to its table jump."""

    tactic: str
    jump: int
    hops: tuple[tuple[int, bytes], ...]


class Paddings:
    """The padding of one image, found around the sites that need it, each byte given out once."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self._known: dict[int, Padding | None] = {}
        self.tail: Final = _tail(code)

    def route(self, site: int) -> Route | None:
        """Take padding for a jump from `site`; None if there is none in reach.

        Breadth first: the fewest short jumps that lead to 7 bytes, or to 5 with room in the tail;
        among equals the smallest padding.
        """
        queue: deque[tuple[Padding | None, tuple[Padding, ...]]] = deque([(None, ())])
        seen: set[int] = set()
        while queue:
            last, path = queue.popleft()
            reachable = self._reachable(site if last is None else last.free)
            for padding in sorted(reachable, key=lambda p: p.size):
                if padding.size >= _JUMP or (padding.size >= _NEAR and self.tail.size >= _JUMP):
                    return self._build(site, (*path, padding))
            if len(path) == _MOST_HOPS - 1:
                continue
            for padding in reachable:
                if padding.end not in seen:
                    seen.add(padding.end)
                    queue.append((padding, (*path, padding)))
        return None

    def _build(self, site: int, path: tuple[Padding, ...]) -> Route:
        last = path[-1]
        far = last.size < _JUMP or (last.size < _JUMP + _SHORT and self.tail.size >= _JUMP * 8)
        places = [site, *(padding.take(_SHORT) for padding in path[:-1])]
        places.append(last.take(_NEAR if far else _JUMP))
        hops = [(at, b"\xeb" + (to - at - 2).to_bytes(1, "little", signed=True))
                for at, to in pairwise(places)]  # fmt: skip
        jump = places[-1]
        if far:
            jump = self.tail.take(_JUMP)
            distance = jump - places[-1] - 5
            hops.append((places[-1], b"\xe9" + distance.to_bytes(4, "little", signed=True)))
        tactic = "B-hop" if len(path) > 1 else "B-far" if far else "B"
        return Route(tactic, jump, tuple(hops))

    def _reachable(self, at: int) -> list[Padding]:
        """Padding with room whose first unused byte a short jump at `at` reaches."""
        low, high = at + 2 - _REACH_BACK, at + 2 + _REACH_ON
        image = self.code.image
        found = []
        for m in _RUN.finditer(image.text, max(image.start, low - 32), min(image.end, high + 32)):
            padding = self._padding(m.start(), m.end())
            if padding and padding.size >= _SHORT and low <= padding.free <= high:
                found.append(padding)
        return found

    def _padding(self, start: int, end: int) -> Padding | None:
        # A window may cut a run short in front: runs are known by their end.
        if end not in self._known:
            self._known[end] = Padding(start, end) if self._is_dead(start, end) else None
        return self._known[end]

    def _is_dead(self, start: int, end: int) -> bool:
        """Nothing runs or reads [start, end).

        Control does not fall into it, and no branch leads there. What would still be possible is
        a run that begins with a NOP somebody put there on purpose (a probe, a patchable entry):
        such a one is a single byte, or skipped by the jump before it, or ends unaligned.
        """
        if end % _ALIGNMENT or end - start < _SHORT:
            return False
        first = _FIRST_NOP.match(self.code.text, start, end)
        if first and first.end() - first.start() == 1:
            return False
        before = self.code.before(start)
        if not before:
            return False
        last = before[-1]
        words = last.mnemonic.split()
        if words[-1] not in _NOT_FALLING_THROUGH or last.operands == hex(end):
            return False
        return self.code.next_function(start) >= end and not self.code.is_target(start, end)


def _tail(code: Code) -> Padding:
    """What follows the segment in its last page; the file's copy of it must be unused."""
    end = len(code.text)
    start = code.image.end
    if any(code.text[start:]):
        start = end
    return Padding(start, end)
