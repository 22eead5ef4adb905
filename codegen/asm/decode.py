"""The disassembler, as little of it as the patcher needs: a linear sweep over code."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple


class Instruction(NamedTuple):
    """One decoded instruction; `offset` counts as the caller's offsets do."""

    offset: int
    size: int
    mnemonic: str  # lower case, prefixes included ("notrack jmp")
    operands: str  # Intel syntax; arm64: the architecture's

    @property
    def end(self) -> int:
        """Offset of the next instruction."""
        return self.offset + self.size


_Decoder = Callable[[bytes, int], Iterable[tuple[Any, ...]]]


@functools.cache
def _decoder(isa: str, skip: bool) -> _Decoder:
    # Imported when first needed: it takes 5 MB, and with a warm cache nothing is ever patched.
    import capstone  # noqa: PLC0415

    if isa == "arm64":
        engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_LITTLE_ENDIAN)
    else:
        engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    engine.skipdata = skip
    decode: _Decoder = engine.disasm_lite
    return decode


def sweep(code: bytes, start: int, stop: int, isa: str = "x86_64") -> list[Instruction]:
    """The instructions that lie wholly in code[start:stop], one after the other from `start` on.

    Ends early at bytes that are no instruction. A branch's operand is its target, as an offset.
    """
    return [Instruction(*row) for row in _decoder(isa, False)(code[start:stop], start)]


def words(code: bytes) -> list[tuple[str, str]]:
    """(mnemonic, operands) of each arm64 word as at address 0; ".byte" for what is none."""
    return [(name, operands) for _, _, name, operands in _decoder("arm64", True)(code, 0)]
