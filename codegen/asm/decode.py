"""The disassembler, as little of it as the patcher needs: a linear sweep over x86_64 code."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple


class Instruction(NamedTuple):
    """One decoded instruction; `offset` counts as the caller's offsets do."""

    offset: int
    size: int
    mnemonic: str  # lower case, prefixes included ("notrack jmp")
    operands: str  # Intel syntax

    @property
    def end(self) -> int:
        """Offset of the next instruction."""
        return self.offset + self.size


@functools.cache
def _decoder() -> Callable[[bytes, int], Iterable[tuple[Any, ...]]]:
    # Imported when first needed: it takes 5 MB, and with a warm cache nothing is ever patched.
    import capstone  # noqa: PLC0415

    decode: Callable[[bytes, int], Iterable[tuple[Any, ...]]]
    decode = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64).disasm_lite
    return decode


def sweep(code: bytes, start: int, stop: int) -> list[Instruction]:
    """The instructions that lie wholly in code[start:stop], one after the other from `start` on.

    Ends early at bytes that are no instruction. A branch's operand is its target, as an offset.
    """
    return [Instruction(*row) for row in _decoder()(code[start:stop], start)]
