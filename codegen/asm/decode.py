"""The disassembler, as little of it as the patcher needs: a linear sweep over x86_64 code."""

from __future__ import annotations

from typing import NamedTuple

import capstone

_DECODER = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)


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


def sweep(code: bytes, start: int, stop: int) -> list[Instruction]:
    """The instructions that lie wholly in code[start:stop], one after the other from `start` on.

    Ends early at bytes that are no instruction. A branch's operand is its target, as an offset.
    """
    return [Instruction(*row) for row in _DECODER.disasm_lite(code[start:stop], start)]
