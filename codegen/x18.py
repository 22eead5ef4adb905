"""arm64 instructions that use x18, where the host keeps that register for itself.

Such a host (macOS) may change x18 whenever a thread enters it, so the guest's x18 lives in its slot
and each instruction that names it is a site (codegen.svc_patch) whose trampoline has a *body*:

    at entry  x30 = slot, x17 = anything, all else the guest's; x15, x16, x17, x30 are in the slot
    restore   those of x17, x30 that are not needed
    load      scratch = the guest's x18
    run       the instruction, with the scratch register for x18
    store     x18 of the slot = scratch; scratch and base come back; branch behind the site

No table of encodings says where an instruction names a register: a rewriting is accepted if the
disassembler (Capstone) reads it as the same instruction with the other register's name. What it
cannot read is no instruction to us.

Limits. Data between instructions looks like code where every word around it happens to be an
instruction (`_Section.is_code`). `br`, `blr` and `ret` through x18 change x17, as a linker's veneer
may; their signed forms are left alone if they name x17 or x30 too. An instruction with x18 and all
but one of x15, x16, x17 and x30 is left alone, as are the pairs of `casp` and the eight registers
of `ld64b` and `st64b`. `adrp` reaches 4 GiB from its body, not from its site. Exclusive loads and
stores of x18 have ordinary ones between them.
"""

from __future__ import annotations

import array
import functools
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from itertools import combinations
from typing import Final, Literal

from codegen.asm.decode import words
from codegen.layout import PAGE, SlotArm64

WORD: Final = 4
BODY_SIZE: Final = 64
REACH: Final = 2 << 20  # further than these instructions branch, conditionally
X18: Final = 18

_FIELDS: Final = (0, 5, 10, 16)  # bits where registers stand
SAVED: Final = {
    17: SlotArm64.SAVED_X17, 16: SlotArm64.SAVED_X16, 15: SlotArm64.SAVED_X15,
    30: SlotArm64.SAVED_X30,
}  # fmt: skip
_NAME: Final = re.compile(r"\b([wx])18\b")
_REGISTER: Final = re.compile(r"\b[wx](\d+)\b")
_ENDS: Final = frozenset(
    ("b", "br", "braa", "brab", "braaz", "brabz", "ret", "retaa", "retab", "brk", "udf")
)  # nothing falls through
_LOOK: Final = 256  # words to each side in which data would show
_TESTS: Final = frozenset((0x36, 0x37, 0xB6, 0xB7))  # top bytes of tbz, tbnz;
_CONDITIONALS: Final = frozenset((0x34, 0x35, 0xB4, 0xB5, 0x54))  # cbz, cbnz, b.cond
_MASK26, _MASK21 = (1 << 26) - 1, (1 << 21) - 1


class Stage(Enum):
    """How far a thread in a body is."""

    BEFORE = auto()  # the instruction has changed nothing
    STORE = auto()  # its result is in the scratch register only
    DONE = auto()
    TAKEN = auto()  # a branch that was taken


Kind = Literal["plain", "compare", "jump", "call", "address", "literal"]
_KINDS: Final[dict[str, Kind]] = {
    "cbz": "compare", "cbnz": "compare", "tbz": "compare", "tbnz": "compare",
    "br": "jump", "braa": "jump", "brab": "jump", "braaz": "jump", "brabz": "jump", "ret": "jump",
    "blr": "call", "blraa": "call", "blrab": "call", "blraaz": "call", "blrabz": "call",
    "adr": "address", "adrp": "address",
}  # fmt: skip


def _read(word: int) -> tuple[str, str]:
    return words(struct.pack("<I", word))[0]


@dataclass(frozen=True)
class Rewriting:
    """How to run one instruction without x18."""

    word: int  # the instruction with `scratch` in place of x18
    kind: Kind
    scratch: int
    base: int  # holds the slot meanwhile


@functools.lru_cache(1 << 14)
def rewrite(word: int) -> Rewriting | None:
    """The rewriting of an instruction; None if it does not name x18, or cannot be rewritten."""
    fields = [at for at in _FIELDS if word >> at & 31 == X18]
    if not fields:
        return None
    name, operands = _read(word)
    if not _NAME.search(operands):
        return None
    kind = _KINDS.get(name, "plain")
    if kind == "plain" and word & 0x3F00_0000 == 0x1800_0000:
        kind = "literal"
    used = {int(n) for n in _REGISTER.findall(operands)}
    free = [n for n in SAVED if n not in used]
    if kind in ("jump", "call"):
        free = [n for n in free if n in (17, 30)]
    if len(free) < 2:
        return None
    scratch, base = free[0], 30 if 30 in free[1:] else free[1]
    wanted = name, _NAME.sub(rf"\g<1>{scratch}", operands)
    for count in range(1, len(fields) + 1):
        for chosen in combinations(fields, count):
            other = word
            for at in chosen:
                other = other & ~(31 << at) | scratch << at
            if _read(other) == wanted:
                return Rewriting(other, kind, scratch, base)
    return None


def find(code: bytes, sections: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """(offset, word) of the instructions to rewrite in these byte ranges of `code`, in order."""
    text = array.array("I")
    text.frombytes(code[: len(code) & -WORD])
    found = []
    for first, last in sections:
        begin, end = (first + WORD - 1) // WORD, min(last // WORD, len(text))
        section = _Section(text, begin, end)
        for at in range(begin, end):
            w = text[at]
            if (
                w & 0x1F == 0x12 or w & 0x3E0 == 0x240 or w & 0x7C00 == 0x4800
                or w & 0x1F_0000 == 0x12_0000
            ) and rewrite(w) is not None and section.is_code(at):  # fmt: skip
                found.append((at * WORD, w))
    return found


class _Section:
    """Words [begin, end) that are instructions, as far as they are not data."""

    def __init__(self, words: array.array[int], begin: int, end: int) -> None:
        self._words, self._begin, self._end = words, begin, end

    def is_code(self, at: int) -> bool:
        """Whether the words around this one are instructions.

        Behind it up to where control flow ends; before it back to there, or to where some branch
        leads: data may lie right before that.
        """
        behind = self._words[at : min(self._end, at + _LOOK)]
        for name, operands in words(behind.tobytes()):
            if _is_data(name, operands):
                return False
            if name in _ENDS:
                break
        first = max(self._begin, at - _LOOK)
        before = words(self._words[first:at].tobytes())
        for back, (name, operands) in enumerate(reversed(before), 1):
            if _is_data(name, operands):
                return any(n in self._targets for n in range(at - back + 1, at + 1))
            if name in _ENDS:
                break
        return True

    @functools.cached_property
    def _targets(self) -> set[int]:
        """The words to which branches of this section lead."""
        words = self._words
        found = set()
        for at in range(self._begin, self._end):
            w = words[at]
            top = w >> 24
            if top in _TESTS:
                found.add(at + _signed(w >> 5 & 0x3FFF, 14))
            elif top in _CONDITIONALS:
                found.add(at + _signed(w >> 5 & 0x7_FFFF, 19))
            elif top & 0x7C == 0x14:
                found.add(at + _signed(w & _MASK26, 26))
        return found


def _is_data(name: str, operands: str) -> bool:
    """Zeros fill up code; other `udf` are upper halves of pointers and of small numbers."""
    return name == ".byte" or (name == "udf" and operands != "#0")


# -- bodies ----------------------------------------------------------------------------------------


def _load(register: int, base: int, offset: int) -> int:
    return 0xF940_0000 | offset // 8 << 10 | base << 5 | register


def _store(register: int, base: int, offset: int) -> int:
    return 0xF900_0000 | offset // 8 << 10 | base << 5 | register


def _branch(distance: int) -> int:
    return 0x1400_0000 | distance >> 2 & _MASK26


def _page_of(register: int, here: int, target: int) -> int:
    """`adrp` at `here`; both count from the beginning of one page."""
    pages = (target // PAGE - here // PAGE) & _MASK21
    return 0x9000_0000 | (pages & 3) << 29 | pages >> 2 << 5 | register


def _address(register: int, here: int, target: int) -> list[int]:
    low = target % PAGE
    add = 0x9100_0000 | low << 10 | register << 5 | register
    return [_page_of(register, here, target), add]


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 else value


def target(word: int, site: int) -> int:
    """Where a PC-relative instruction at `site` points to."""
    name, _ = _read(word)
    if name in ("adr", "adrp"):
        value = _signed(word >> 5 & 0x7_FFFF, 19) << 2 | word >> 29 & 3
        return site + value if name == "adr" else (site & -PAGE) + value * PAGE
    bits = 14 if name in ("tbz", "tbnz") else 19
    return site + _signed(word >> 5 & (1 << bits) - 1, bits) * WORD


def _head(plan: Rewriting) -> list[int]:
    """Up to the instruction itself."""
    out = []
    if plan.base != 30:
        out.append(0xAA1E_03E0 | plan.base)  # mov base, x30
    out += [
        _load(register, plan.base, SAVED[register])
        for register in (17, 30)
        if register not in (plan.scratch, plan.base)
    ]
    out.append(_load(plan.scratch, plan.base, SlotArm64.X18))
    return out


def _tail(plan: Rewriting) -> list[int]:
    """Scratch and base are the guest's again."""
    return [
        _load(plan.scratch, plan.base, SAVED[plan.scratch]),
        _load(plan.base, plan.base, SAVED[plan.base]),
    ]


def stage(plan: Rewriting, offset: int) -> Stage:
    """How far a thread at this byte of a body is."""
    behind = offset // WORD - len(_head(plan))  # words of the instruction that are through
    if plan.kind in ("jump", "call"):
        return Stage.BEFORE
    if plan.kind == "compare":
        tail = len(_tail(plan)) + 1
        return Stage.BEFORE if behind < 1 else Stage.DONE if behind <= tail else Stage.TAKEN
    length = {"plain": 1, "address": 2, "literal": 3}[plan.kind]
    if behind < length:
        return Stage.BEFORE
    return Stage.STORE if behind == length else Stage.DONE


def body(word: int, site: int, here: int) -> bytes:
    """The body at `here` for the instruction `word` at `site`: BODY_SIZE bytes.

    Both addresses count from the beginning of one page.
    """
    plan = rewrite(word)
    if plan is None:
        raise ValueError(f"{word:#x} is no instruction to rewrite")
    out = _head(plan)
    at = here + WORD * len(out)
    scratch = plan.scratch
    if plan.kind in ("jump", "call"):
        if plan.kind == "jump":
            out.append(_load(30, 30, SlotArm64.SAVED_X30))
        else:
            out += _address(30, at, site + WORD)
        out.append(plan.word & ~(1 << 21) if plan.kind == "call" else plan.word)
    elif plan.kind == "compare":
        tail = _tail(plan)
        out.append(_skip(plan.word, len(tail) + 2))
        for goal in (site + WORD, target(word, site)):
            out += tail
            out.append(_branch(goal - (here + WORD * len(out))))
    else:
        if plan.kind == "address":
            out += _address(scratch, at, target(word, site))
        elif plan.kind == "literal":
            out += _address(scratch, at, target(word, site))
            out.append(_literal_load(plan.word, scratch))
        else:
            out.append(plan.word)
        out.append(_store(scratch, plan.base, SlotArm64.X18))
        out += _tail(plan)
        out.append(_branch(site + WORD - (here + WORD * len(out))))
    return struct.pack(f"<{len(out)}I", *out).ljust(BODY_SIZE, b"\0")


def _skip(word: int, count: int) -> int:
    """A compare-and-branch with another target: `count` words from itself."""
    bits = 14 if word & 0x7E00_0000 == 0x3600_0000 else 19
    return word & ~((1 << bits) - 1 << 5) | count << 5


def _literal_load(word: int, register: int) -> int:
    """`ldr` or `ldrsw` from [register] in place of the literal's."""
    load = (0xB940_0000, 0xF940_0000, 0xB980_0000)[word >> 30]
    return load | register << 5 | register
