"""x86_64: registers, memory operands and one method call per instruction.

    a.mov(gs(Slot.NR), rax)
    a.jne(slow)

Intel operand order. Memory operands are 8 bytes wide unless said otherwise. Branches to labels are
always the rel32 forms, so that code size does not depend on distances.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from codegen.asm.assembler import Assembler, Label

_SIZES = {1: "byte", 2: "word", 4: "dword", 8: "qword"}
_JCC = {
    "jo": 0x80, "jno": 0x81, "jb": 0x82, "jae": 0x83, "je": 0x84, "jne": 0x85, "jbe": 0x86,
    "ja": 0x87, "js": 0x88, "jns": 0x89, "jl": 0x8C, "jge": 0x8D, "jle": 0x8E, "jg": 0x8F,
}  # fmt: skip
# Intel SDM 2.1.5: with this scaled index Keystone cannot choose RIP-relative or moffs forms;
# replacing the SIB byte 0xDD (index rbx*8, no base) by 0x25 (no index, no base) leaves [disp32].
_SIB_PLACEHOLDER, _SIB_ABSOLUTE = b"\xdd", b"\x25"


class Reg(str):
    """A register by its Intel name; `reg.low32` etc. name its parts."""

    __slots__ = ()

    @property
    def low32(self) -> Reg:
        """The register's lower 32 bits."""
        if self[1:].isdigit() or (self[1:-1].isdigit() and self[-1] == "d"):
            return Reg(f"{self.rstrip('d')}d")
        return Reg("e" + self[1:])

    @property
    def low8(self) -> Reg:
        """The register's lowest byte."""
        if self[1:].isdigit():
            return Reg(f"{self}b")
        short = self[1:]
        return Reg(short[0] + "l" if short in ("ax", "bx", "cx", "dx") else short + "l")


rax, rbx, rcx, rdx, rsi, rdi, rbp, rsp = (
    Reg(n) for n in ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp")
)
r8, r9, r10, r11, r12, r13, r14, r15 = (Reg(f"r{n}") for n in range(8, 16))
eax, ebx, ecx, edx, esi, edi = (r.low32 for r in (rax, rbx, rcx, rdx, rsi, rdi))


@dataclass(frozen=True)
class Mem:
    """[segment: base + index*scale + displacement], `size` bytes."""

    base: Reg | None = None
    displacement: int = 0
    index: Reg | None = None
    scale: int = 1
    size: int = 8
    segment: str = ""

    def sized(self, size: int) -> Mem:
        """The same place with another width."""
        return replace(self, size=size)

    @property
    def absolute(self) -> bool:
        """True for a bare 32-bit displacement."""
        return self.base is None and self.index is None

    def __str__(self) -> str:
        parts = [str(self.base)] if self.base else []
        if self.index:
            parts.append(f"{self.index}*{self.scale}")
        if self.absolute:
            parts.append("rbx*8")
        inner = " + ".join(parts)
        if self.displacement or self.absolute:
            inner += f" + {self.displacement:#x}".replace("+ -", "- ")
        prefix = f"{self.segment}:" if self.segment else ""
        return f"{_SIZES[self.size]} ptr {prefix}[{inner}]"


def gs(offset: int, size: int = 8, index: Reg | None = None, scale: int = 8) -> Mem:
    """A slot field through the GS base."""
    return Mem(None, offset, index, scale if index else 1, size, "gs")


def at(base: Reg, displacement: int = 0, size: int = 8) -> Mem:
    """[base + displacement]."""
    return Mem(base, displacement, None, 1, size)


def absolute(address: int, size: int = 8) -> Mem:
    """[disp32]: an address below 2 GiB."""
    return Mem(None, address, None, 1, size)


class AsmX86(Assembler):
    """The x86_64 assembler; any attribute not defined here is an instruction mnemonic."""

    def __getattr__(self, mnemonic: str) -> Callable[..., None]:
        if mnemonic.startswith("__"):
            raise AttributeError(mnemonic)
        name = mnemonic.rstrip("_").replace("_", " ")

        def instruction(*operands: Reg | Mem | int | Label) -> None:
            if len(operands) == 1 and isinstance(operands[0], Label):
                self._branch(name, operands[0])
            else:
                self._plain(name, operands)

        self.__dict__[mnemonic] = instruction
        return instruction

    def _branch(self, name: str, target: Label) -> None:
        opcode = {"jmp": b"\xe9", "call": b"\xe8"}.get(name)
        self.emit(opcode or bytes((0x0F, _JCC[name])), f"{name} {target.name}")
        self.fixup(target, 4, lambda to, after: to - after)

    def _plain(self, name: str, operands: tuple[Any, ...]) -> None:
        text = name
        if operands:
            text += " " + ", ".join(f"{o:#x}" if isinstance(o, int) else str(o) for o in operands)
        bare = next((o for o in operands if isinstance(o, Mem) and o.absolute), None)
        data = self.memo.encode(text, encode)
        if bare is not None:
            placed = bare.displacement.to_bytes(4, "little", signed=True)
            if data.count(_SIB_PLACEHOLDER + placed) != 1:
                raise ValueError(f"cannot make {text} absolute: {data.hex()}")
            data = data.replace(_SIB_PLACEHOLDER + placed, _SIB_ABSOLUTE + placed)
            text = text.replace("rbx*8 + ", "")
        self.emit(data, text)

    def load_address(self, register: Reg, target: Label) -> None:
        """lea register, [rip + target]."""
        number = _NUMBERS[register]
        rex = 0x48 | (number >> 3) << 2
        self.emit(bytes((rex, 0x8D, 0x05 | (number & 7) << 3)), f"lea {register}, {target.name}")
        self.fixup(target, 4, lambda to, after: to - after)

    def constant(self, register: Reg, value: int) -> None:
        """The shortest move of a non-negative constant."""
        if value == 0:
            self.xor(register.low32, register.low32)
        elif value < 1 << 32:
            self.mov(register.low32, value)
        else:
            self.movabs(register, value)

    def set_bytes(self, value: bytes, text: str) -> None:
        """Data between instructions."""
        self.emit(value, text)


_NUMBERS = {
    r: i
    for i, r in enumerate(
        (rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15)
    )
}


def encode(text: str) -> bytes:
    """One instruction through Keystone; ValueError when it cannot be encoded."""
    global _engine  # noqa: PLW0603 - made on first use: loading Keystone takes 20 ms
    import keystone  # noqa: PLC0415 - not needed when every instruction is in the memo

    if _engine is None:
        _engine = keystone.Ks(keystone.KS_ARCH_X86, keystone.KS_MODE_64)
    try:
        data, _ = _engine.asm(text, as_bytes=True)
    except keystone.KsError as error:
        raise ValueError(f"{text}: {error}") from error
    if not data:
        raise ValueError(f"{text}: nothing encoded")
    return bytes(data)


_engine: Any = None
