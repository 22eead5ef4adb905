"""A small assembler and interpreter for classic BPF, the machine language of seccomp filters.

The program reads 32-bit words of `struct seccomp_data` and returns an action. Jumps only go
forward and a conditional jump reaches 255 instructions; the assembler inserts unconditional jumps
where a label lies farther. Source: Documentation/networking/filter.rst, linux/filter.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

INSTRUCTION: Final = struct.Struct("<HBBI")  # code, jt, jf, k
PROGRAM_LIMIT: Final = 4096
_REACH: Final = 255

# Instruction codes (linux/bpf_common.h): class | size or operation | mode or source.
LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS: A = data[k]
LOAD_IMMEDIATE: Final = 0x00
LOAD_SCRATCH: Final = 0x60  # A = M[k]
LOAD_X_SCRATCH: Final = 0x61
STORE: Final = 0x02  # M[k] = A
ADD: Final = 0x04
ADD_X: Final = 0x0C
AND: Final = 0x54
JUMP: Final = 0x05
JUMP_EQUAL: Final = 0x15
JUMP_GREATER: Final = 0x25
JUMP_GREATER_EQUAL: Final = 0x35
JUMP_GREATER_EQUAL_X: Final = 0x3D
JUMP_ANY_BIT: Final = 0x45
RETURN: Final = 0x06
A_TO_X: Final = 0x07

_CONDITIONAL: Final = frozenset(
    {JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_EQUAL, JUMP_GREATER_EQUAL_X, JUMP_ANY_BIT}
)


class Label:
    """A place in a program; refers to the instruction that follows where it is bound."""

    __slots__ = ("item",)

    def __init__(self) -> None:
        self.item: int | None = None


@dataclass(slots=True)
class _Item:
    code: int
    k: int = 0
    if_true: Label | None = None  # None: the next instruction
    if_false: Label | None = None
    far_true: bool = False
    far_false: bool = False

    @property
    def size(self) -> int:
        return 1 + self.far_true + self.far_false


class Program:
    """A filter under construction."""

    def __init__(self) -> None:
        self._items: list[_Item] = []

    def bind(self, label: Label) -> None:
        """`label` is here."""
        assert label.item is None, "label bound twice"
        label.item = len(self._items)

    def op(self, code: int, k: int = 0) -> None:
        """An instruction that does not jump."""
        self._items.append(_Item(code, k & 0xFFFF_FFFF))

    def load(self, offset: int) -> None:
        """A = the 32-bit word of seccomp_data at `offset`."""
        self.op(LOAD, offset)

    def jump(
        self, code: int, k: int, if_true: Label | None = None, if_false: Label | None = None
    ) -> None:
        """A conditional jump; a missing label is the next instruction."""
        assert code in _CONDITIONAL
        self._items.append(_Item(code, k & 0xFFFF_FFFF, if_true, if_false))

    def go(self, label: Label) -> None:
        """An unconditional jump."""
        self._items.append(_Item(JUMP, 0, label))

    def ret(self, action: int) -> None:
        """End the filter with `action`."""
        self.op(RETURN, action)

    def assemble(self) -> bytes:
        """The program as an array of struct sock_filter. Raises ValueError if it is too long."""
        while self._stretch(offsets := self._offsets()):
            pass
        code = b"".join(self._encode(i, offsets) for i in range(len(self._items)))
        if len(code) > PROGRAM_LIMIT * INSTRUCTION.size:
            raise ValueError("the filter exceeds BPF_MAXINSNS")
        return code

    def _offsets(self) -> list[int]:
        offsets, at = [], 0
        for item in self._items:
            offsets.append(at)
            at += item.size
        return [*offsets, at]

    def _stretch(self, offsets: list[int]) -> bool:
        """Make jumps far whose target is out of reach; true if any changed."""
        changed = False
        for i, item in enumerate(self._items):
            if item.code not in _CONDITIONAL:
                continue
            after = offsets[i] + 1
            if not item.far_true and self._distance(item.if_true, after, offsets) > _REACH - 2:
                item.far_true = changed = True
            if not item.far_false and self._distance(item.if_false, after, offsets) > _REACH - 2:
                item.far_false = changed = True
        return changed

    @staticmethod
    def _distance(label: Label | None, after: int, offsets: list[int]) -> int:
        if label is None:
            return 0
        assert label.item is not None, "label never bound"
        distance = offsets[label.item] - after
        assert distance >= 0, "classic BPF only jumps forward"
        return distance

    def _encode(self, i: int, offsets: list[int]) -> bytes:
        item, at = self._items[i], offsets[i]
        if item.code == JUMP:
            return INSTRUCTION.pack(JUMP, 0, 0, self._distance(item.if_true, at + 1, offsets))
        if item.code not in _CONDITIONAL:
            return INSTRUCTION.pack(item.code, 0, 0, item.k)
        # Layout of a stretched jump: the test, then `ja` for true, then `ja` for false. A missing
        # label means "after all of these".
        extra = b""
        reach: list[int] = []
        for label, far in ((item.if_true, item.far_true), (item.if_false, item.far_false)):
            if far:
                reach.append(len(extra) // INSTRUCTION.size)
                after = at + 2 + len(extra) // INSTRUCTION.size
                extra += INSTRUCTION.pack(JUMP, 0, 0, self._distance(label, after, offsets))
            elif label is None:
                reach.append(item.size - 1)
            else:
                reach.append(self._distance(label, at + 1, offsets))
        return INSTRUCTION.pack(item.code, reach[0], reach[1], item.k) + extra


def run(program: bytes, data: bytes) -> tuple[int, int]:
    """Interpret `program` over `data`; (action, instructions executed)."""
    code = list(INSTRUCTION.iter_unpack(program))
    a = x = at = steps = 0
    scratch = [0] * 16
    while True:
        op, jump_true, jump_false, k = code[at]
        at += 1
        steps += 1
        if op == RETURN:
            return k, steps
        if op == JUMP:
            at += k
        elif op in _CONDITIONAL:
            at += jump_true if _holds(op, a, x, k) else jump_false
        elif op == STORE:
            scratch[k] = a
        elif op == A_TO_X:
            x = a
        elif op == LOAD_X_SCRATCH:
            x = scratch[k]
        else:
            a = _accumulate(op, a, x, k, data, scratch)


def _holds(op: int, a: int, x: int, k: int) -> bool:
    match op:
        case 0x15:
            return a == k
        case 0x25:
            return a > k
        case 0x35:
            return a >= k
        case 0x3D:
            return a >= x
        case _:
            return bool(a & k)


def _accumulate(op: int, a: int, x: int, k: int, data: bytes, scratch: list[int]) -> int:
    match op:
        case 0x20:
            assert k % 4 == 0, "seccomp loads only aligned words"
            return int.from_bytes(data[k : k + 4], "little")
        case 0x00:
            return k
        case 0x60:
            return scratch[k]
        case 0x04:
            return (a + k) & 0xFFFF_FFFF
        case 0x0C:
            return (a + x) & 0xFFFF_FFFF
        case 0x54:
            return a & k
        case _:
            raise ValueError(f"unknown instruction {op:#x}")
