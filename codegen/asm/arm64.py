"""arm64: registers, memory operands and one method call per instruction.

    a.str_(x0, at(x28, Slot.NR))
    a.cbnz(w16, slow)

The operand order is the architecture's. A label is always a branch's last operand; every branch
form has one size, so code size does not depend on distances.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from codegen.asm.assembler import Assembler, Label

_CONDITION_CODES = {"hi": 8, "ls": 9, "ge": 10, "lt": 11, "gt": 12, "le": 13} | {
    name: number for number, name in enumerate(("eq", "ne", "hs", "lo", "mi", "pl"))
}


class Reg(str):
    """A register by its name; `.w` is its lower half."""

    __slots__ = ()

    @property
    def w(self) -> Reg:
        """The register's lower 32 bits."""
        return Reg("w" + self[1:])

    @property
    def number(self) -> int:
        """0..31; the zero register and sp are 31."""
        return 31 if self in ("xzr", "wzr", "sp") else int(self[1:])


(
    x0, x1, x2, x3, x4, x5, x6, x7, x8, x9, x10, x11, x12, x13, x14, x15, x16, x17, x18, x19, x20,
    x21, x22, x23, x24, x25, x26, x27, x28, x29, x30,
) = X = tuple(Reg(f"x{n}") for n in range(31))  # fmt: skip
xzr, wzr, sp = Reg("xzr"), Reg("wzr"), Reg("sp")


@dataclass(frozen=True)
class Mem:
    """[base, #offset], [base, offset]! (pre), [base], #offset (post) or [base, index, extend]."""

    base: Reg
    offset: int = 0
    index: str = ""  # "x1, lsl #3"
    mode: str = ""  # "pre", "post"

    def __str__(self) -> str:
        if self.index:
            return f"[{self.base}, {self.index}]"
        if self.mode == "post":
            return f"[{self.base}], #{self.offset}"
        inner = f"[{self.base}, #{self.offset}]" if self.offset else f"[{self.base}]"
        return inner + ("!" if self.mode == "pre" else "")


def at(base: Reg, offset: int = 0) -> Mem:
    """[base, #offset]."""
    return Mem(base, offset)


def post(base: Reg, step: int) -> Mem:
    """[base], #step: the base moves on afterwards."""
    return Mem(base, step, mode="post")


def pre(base: Reg, step: int) -> Mem:
    """[base, #step]!: the base moves first."""
    return Mem(base, step, mode="pre")


def indexed(base: Reg, index: Reg, shift: int = 0) -> Mem:
    """[base, index << shift]; a 32-bit index is zero-extended."""
    extend = "uxtw" if index[0] == "w" else "lsl"
    if extend == "lsl" and not shift:
        return Mem(base, index=str(index))
    return Mem(base, index=f"{index}, {extend} #{shift}" if shift else f"{index}, {extend}")


class AsmArm64(Assembler):
    """The arm64 assembler; any attribute not defined here is an instruction mnemonic.

    Conditional branches are `b_eq(label)`, `b_lo(label)`, ...
    """

    def __getattr__(self, mnemonic: str) -> Callable[..., None]:
        if mnemonic.startswith("__"):
            raise AttributeError(mnemonic)
        name = mnemonic.rstrip("_").replace("_", ".")

        def instruction(*operands: Reg | Mem | int | str | Label) -> None:
            if operands and isinstance(operands[-1], Label):
                self._branch(name, operands[:-1], operands[-1])
            else:
                self._plain(name, operands)

        self.__dict__[mnemonic] = instruction
        return instruction

    def _plain(self, name: str, operands: tuple[Any, ...]) -> None:
        text = name
        if operands:
            text += " " + ", ".join(f"#{o:#x}" if isinstance(o, int) else str(o) for o in operands)
        self.emit(self.memo.encode(text, encode), text)

    def _branch(self, name: str, operands: tuple[Any, ...], target: Label) -> None:
        word, bits, shift = _branch_word(name, operands)

        def fill(to: int, after: int) -> int:
            distance = (to - (after - 4)) >> 2
            if not -(1 << (bits - 1)) <= distance < 1 << (bits - 1):
                raise ValueError(f"{name} {target.name}: out of reach")
            return word | (distance & ((1 << bits) - 1)) << shift

        text = ", ".join(str(o) for o in (*operands, target.name))
        self.listing.append((len(self.code), f"{name} {text}"))
        self.fixup(target, 4, fill)

    def load_address(self, register: Reg, target: Label) -> None:
        """adr register, target: within 1 MiB."""

        def fill(to: int, after: int) -> int:
            distance = to - (after - 4)
            if not -(1 << 20) <= distance < 1 << 20:
                raise ValueError(f"adr {target.name}: out of reach")
            word = 0x1000_0000 | register.number
            return word | (distance & 3) << 29 | (distance >> 2 & 0x7_FFFF) << 5

        self.listing.append((len(self.code), f"adr {register}, {target.name}"))
        self.fixup(target, 4, fill)

    def constant(self, register: Reg, value: int) -> None:
        """movz, movn and movk as needed; negative values too."""
        if value < 0:
            if value >= -(1 << 16):
                self.movn(register, ~value)
                return
            value &= (1 << 64) - 1
        parts = [(value >> s & 0xFFFF, s) for s in (0, 16, 32, 48) if value >> s & 0xFFFF]
        for i, (part, s) in enumerate(parts or [(0, 0)]):
            operation = self.movk if i else self.movz
            operation(register, part, *([f"lsl #{s}"] if s else []))

    def set_bytes(self, value: bytes, text: str) -> None:
        """Data between instructions."""
        self.emit(value, text)


def _branch_word(name: str, operands: tuple[Any, ...]) -> tuple[int, int, int]:
    """(instruction word without distance, bits of the distance, their place)."""
    if name == "b":
        return 0x1400_0000, 26, 0
    if name == "bl":
        return 0x9400_0000, 26, 0
    if name.startswith("b."):
        return 0x5400_0000 | _CONDITION_CODES[name[2:]], 19, 5
    register: Reg = operands[0]
    wide = 0 if register[0] == "w" else 1 << 31
    if name in ("cbz", "cbnz"):
        return (0x3400_0000 | (name == "cbnz") << 24) | wide | register.number, 19, 5
    if name in ("tbz", "tbnz"):
        bit = operands[1]
        word = 0x3600_0000 | (name == "tbnz") << 24 | register.number
        return word | (bit >> 5) << 31 | (bit & 31) << 19, 14, 5
    raise ValueError(f"{name} takes no label")


def encode(text: str) -> bytes:
    """One instruction through Keystone; ValueError when it cannot be encoded."""
    global _engine  # noqa: PLW0603 - made on first use: loading Keystone takes 20 ms
    import keystone  # noqa: PLC0415 - not needed when every instruction is in the memo

    if _engine is None:
        _engine = keystone.Ks(keystone.KS_ARCH_ARM64, keystone.KS_MODE_LITTLE_ENDIAN)
    try:
        data, _ = _engine.asm(text, as_bytes=True)
    except keystone.KsError as error:
        raise ValueError(f"{text}: {error}") from error
    if not data or len(data) != 4:
        raise ValueError(f"{text}: not one instruction")
    return bytes(data)


_engine: Any = None
