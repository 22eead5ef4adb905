"""Runs patched and unpatched text on Unicorn and records what the program can see of it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import unicorn as untyped_unicorn
from unicorn import x86_const as x86

from codegen.layout import (
    ENTRY_POINTER,
    JUMP_TABLE,
    LOW_END,
    RETURN_TABLE,
    TRAMPOLINE_SIZE,
    TRAMPOLINES,
)
from codegen.patch import Patch

unicorn: Any = untyped_unicorn  # it ships no annotations

LOAD = 0x7F00_0000_0000  # address of text[0]
STACK = 0x7E00_0000_0000
MEMORY = 0x7D00_0000_0000
STUB = 0x6800_0000_0100
DONE = 0x7C00_0000_0000
_STACK_SIZE = 0x4000
NAMES = (
    "rax",
    "rbx",
    "rdx",
    "rsi",
    "rdi",
    "rbp",
    "rsp",
    "r8",
    "r9",
    "r10",
    "r12",
    "r13",
    "r14",
    "r15",
)
_REGISTERS = {name: getattr(x86, f"UC_X86_REG_{name.upper()}") for name in (*NAMES, "rcx", "r11")}


@dataclass
class Trace:
    """What a run looked like from the kernel's side."""

    calls: list[tuple[int, ...]] = field(default_factory=list)  # return offset, registers, flags
    traps: int = 0
    end: tuple[int, ...] = ()  # registers when it returned
    memory: bytes = b""
    fault: bool = False


class Machine:
    """One address space with text, low tables, a stack and some memory."""

    def __init__(self, text: bytes, patches: Mapping[int, Patch] | None = None) -> None:
        self.uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        self.trace = Trace()
        for address, size in (
            (LOAD, len(text)),
            (STACK, _STACK_SIZE),
            (MEMORY, 0x2000),
            (STUB & ~0xFFF, 0x1000),
            (DONE, 0x1000),
            (JUMP_TABLE, RETURN_TABLE - JUMP_TABLE),
            (RETURN_TABLE, LOW_END - RETURN_TABLE),
        ):
            self.uc.mem_map(address, size)
        self.uc.mem_write(LOAD, text)
        for slot, patch in (patches or {}).items():
            trampoline = TRAMPOLINES + slot * TRAMPOLINE_SIZE
            self._pointer(JUMP_TABLE + 8 * slot, trampoline)
            self._pointer(RETURN_TABLE + 8 * slot, LOAD + patch.returns_to)
            self.uc.mem_write(trampoline, patch.trampoline(slot))
        self._pointer(ENTRY_POINTER, STUB)
        # Not UC_HOOK_INSN: there the flags are not up to date.
        self.uc.hook_add(unicorn.UC_HOOK_CODE, self._step, None, LOAD, LOAD + len(text) - 1)
        self.uc.hook_add(unicorn.UC_HOOK_CODE, self._stub, None, STUB, STUB)

    def _pointer(self, address: int, value: int) -> None:
        self.uc.mem_write(address, struct.pack("<Q", value))

    def registers(self) -> tuple[int, ...]:
        """Everything a system call keeps, in the order of NAMES, then the flags."""
        values = [self.uc.reg_read(_REGISTERS[name]) for name in NAMES]
        return (*values, self.uc.reg_read(x86.UC_X86_REG_RFLAGS) & 0xCD5)

    def _call(self, returns_to: int) -> None:
        """The kernel: note the call, answer with something that depends on it."""
        uc = self.uc
        self.trace.calls.append((returns_to - LOAD, *self.registers()))
        answer = (uc.reg_read(x86.UC_X86_REG_RAX) * 3 + uc.reg_read(x86.UC_X86_REG_RDI)) & 0xFFFF
        uc.reg_write(x86.UC_X86_REG_RAX, answer)
        uc.reg_write(x86.UC_X86_REG_RCX, returns_to)
        uc.reg_write(x86.UC_X86_REG_R11, uc.reg_read(x86.UC_X86_REG_RFLAGS))

    def _step(self, uc: Any, address: int, size: int, _data: object) -> None:
        if size == 2 and uc.mem_read(address, 2) == b"\x0f\x05":
            self.trace.traps += 1
            self._call(address + 2)
            uc.reg_write(x86.UC_X86_REG_RIP, address + 2)

    def _stub(self, uc: Any, _address: int, _size: int, _data: object) -> None:
        returns_to = uc.reg_read(x86.UC_X86_REG_RCX)
        self._call(returns_to)
        uc.reg_write(x86.UC_X86_REG_RIP, returns_to)

    def run(self, start: int, registers: Mapping[str, int], limit: int = 5000) -> Trace:
        """From text offset `start` until it returns to the caller."""
        for name, value in registers.items():
            self.uc.reg_write(_REGISTERS[name], value)
        top = STACK + _STACK_SIZE - 0x800
        self.uc.mem_write(STACK, bytes(range(256)) * (_STACK_SIZE // 256))
        self.uc.mem_write(MEMORY, bytes(range(255, -1, -1)) * 32)
        self._pointer(top, DONE)
        self.uc.reg_write(x86.UC_X86_REG_RSP, top)
        try:
            self.uc.emu_start(LOAD + start, DONE, count=limit)
        except unicorn.UcError:
            self.trace.fault = True
        self.trace.end = self.registers()
        self.trace.memory = bytes(
            self.uc.mem_read(STACK, _STACK_SIZE) + self.uc.mem_read(MEMORY, 0x2000)
        )
        return self.trace
