"""The real stub on Unicorn: one guest thread, its slot, and a host and a kernel played by the test.

`Machine.call` makes a system call as the guest would. A host call of the stub asks `host`; where
the stub spins for its answer `kernel` is called with the machine and writes a reply. Every call
checks what no path may break: the guest's stack, and every register that Linux keeps. What differs
between instruction sets is in the subclasses: x86_64_machine, arm64_machine.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

import unicorn as untyped_unicorn

import tables
from codegen.asm.assembler import Assembler, Label, Memo
from codegen.layout import (
    BELL_FD,
    BELLS_AWAKE,
    BELLS_BASE,
    BELLS_FIRST,
    BELLS_SPIN,
    FD_FLAGS,
    PAGE,
    PAYLOAD,
    SLOT_SIZE,
    SLOTS_BASE,
    STUB_FDS,
    Slot,
    State,
)
from codegen.variant import ORDINARY, Variant
from kernel.marshal import rows
from kernel.reply import Program

unicorn: Any = untyped_unicorn  # it ships no annotations

SLOT = SLOTS_BASE + 3 * SLOT_SIZE
SIBLING = SLOT + SLOT_SIZE
STACK, STACK_SIZE = 0x7E00_0000_0000, 0x4000
MEMORY, MEMORY_SIZE = 0x7D00_0000_0000, 0x20000
UNMAPPED = 0x7C80_0000_0000
SITE = 0x7C00_0000_0000  # the guest's system call instruction
MASK = (1 << 64) - 1
STEPS = 2_000_000
PATTERN = bytes((i * 7 + (i >> 8)) & 0xFF for i in range(STACK_SIZE))
ENOSYS = -38
FAULTS = (unicorn.UC_ERR_READ_UNMAPPED, unicorn.UC_ERR_WRITE_UNMAPPED)

Host = Callable[["Machine", int, list[int]], int]
Kernel = Callable[["Machine"], None]


class Built(NamedTuple):
    """A stub as the zygote builds it, and its bytes."""

    a: Assembler
    names: Mapping[str, Label]
    code: bytes


@cache
def stub(isa: str, variant: Variant = ORDINARY) -> Built:
    """The stub of `isa`."""
    table = tables.load(isa)
    build = import_module(f"codegen.templates.{isa}.stub").build
    made = build(table.numbers, rows(table), Memo(), variant)
    return Built(made.a, made.names, made.a.finish())


def address(isa: str, name: str, variant: Variant = ORDINARY) -> int:
    """Where a label of the stub lies; local ones too, if there is just one."""
    made = stub(isa, variant)
    if name in made.names:
        return made.a.address(made.names[name])
    (label,) = [label for label in made.a.labels if label.name == name]
    return made.a.address(label)


def says(result: int) -> Host:
    """A host that always answers `result`."""

    def host(_machine: Machine, _number: int, _arguments: list[int]) -> int:
        return result

    return host


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


class Trap(Exception):
    """The stub reached a breakpoint; `label` is its name."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.label = label


class Ended(Exception):
    """The thread made a host call from which there is no return."""


class Machine(ABC):
    """One thread in the stub. `calls` are the host calls it made, as (name, arguments)."""

    isa: ClassVar[str]
    variant: ClassVar[Variant] = ORDINARY
    RETURN: ClassVar[int]  # the guest's instruction behind its system call
    ARGUMENTS: ClassVar[tuple[str, ...]]
    NUMBER: ClassVar[str]  # the register of the system call's number
    RESULT: ClassVar[str]
    STACK_POINTER: ClassVar[str]
    PC: ClassVar[str]
    STACK_TOP: ClassVar[int]  # offset in the slot: the stub's own stack grows down from there
    STAT_SIZE: ClassVar[int]  # sizeof(struct stat)
    REGISTERS: ClassVar[Mapping[str, int]]  # Unicorn's numbers

    def __init__(self) -> None:
        self.table = tables.load(self.isa)
        self.numbers = self.table.numbers
        self.uc = self.engine()
        made = stub(self.isa, self.variant)
        for start, size in (
            (made.a.base, -(-len(made.code) // PAGE) * PAGE),
            (BELLS_BASE, PAGE),
            (SLOT, 2 * SLOT_SIZE),
            (STACK, STACK_SIZE),
            (MEMORY, MEMORY_SIZE),
            (SITE, PAGE),
        ):
            self.uc.mem_map(start, size)
        self.uc.mem_write(made.a.base, made.code)
        for field, value in (
            (Slot.SELF, SLOT),
            (Slot.BELL, BELLS_BASE + BELLS_FIRST + 3),
            (Slot.FLAGS_POINTER, SLOT + FD_FLAGS),
        ):
            self.set(field, value)
        for fd in STUB_FDS:
            self.flag(fd)
        self.awake(spin=100)
        self.host: Host = says(ENOSYS)
        self.kernel: Kernel | None = None
        self.calls: list[tuple[str, list[int]]] = []
        self.requests = 0
        self._error: Exception | None = None
        spin = self.address("spin")
        self.uc.hook_add(unicorn.UC_HOOK_CODE, self._spin, None, spin, spin)

    # -- what an instruction set's machine defines -------------------------------------------------

    @abstractmethod
    def engine(self) -> Any:
        """A new Unicorn."""

    @abstractmethod
    def call(self, name: str | int, *arguments: int, **registers: int) -> int:
        """Make a guest system call; the signed result."""

    @abstractmethod
    def start(self, name: str | int, registers: Mapping[str, int], until: int) -> None:
        """Make a guest system call with these registers and check nothing."""

    @abstractmethod
    def enter(self, start: int, until: int) -> None:
        """Run from `start` until pc = `until`; faults are handled as the stub's handler does."""

    @property
    @abstractmethod
    def saved(self) -> dict[str, int]:
        """The guest's registers in the slot."""

    @property
    @abstractmethod
    def returns_to(self) -> int:
        """Where the guest goes on after this call."""

    @abstractmethod
    def save_for(self, slot: int, registers: Mapping[str, int]) -> None:
        """Put the registers a cloned child starts with into its slot; the others are zero."""

    @abstractmethod
    def stack_untouched(self) -> bool:
        """The guest's stack is as it was (a call may write a little below sp on arm64)."""

    @abstractmethod
    def answer_host(self, result: int) -> None:
        """The registers after a host call."""

    # -- memory ------------------------------------------------------------------------------------

    def address(self, name: str) -> int:
        return address(self.isa, name, self.variant)

    def read(self, where: int, size: int) -> bytes:
        return bytes(self.uc.mem_read(where, size))

    def write(self, where: int, data: bytes) -> int:
        """Put data into guest memory; its address."""
        self.uc.mem_write(where, data)
        return where

    def get(self, field: int, size: int = 8) -> int:
        return int.from_bytes(self.read(SLOT + field, size), "little")

    def set(self, field: int, value: int, size: int = 8) -> None:
        self.write(SLOT + field, (value & MASK).to_bytes(8, "little")[:size])

    def register(self, name: str) -> int:
        return int(self.uc.reg_read(self.REGISTERS[name]))

    @property
    def result(self) -> int:
        return signed(self.register(self.RESULT))

    def load(self, registers: Mapping[str, int]) -> None:
        for name, value in registers.items():
            self.uc.reg_write(self.REGISTERS[name], value)

    def flag(self, fd: int) -> None:
        """The kernel wants to see this descriptor's calls."""
        self.write(SLOT + FD_FLAGS + fd, b"\1")

    def awake(self, spin: int) -> None:
        """The kernel polls; guests spin so long."""
        self.write(BELLS_BASE + BELLS_AWAKE, struct.pack("<I", 1))
        self.write(BELLS_BASE + BELLS_SPIN, struct.pack("<I", spin))

    def asleep(self) -> None:
        """The kernel sleeps on its doorbell; guests do not spin."""
        self.write(BELLS_BASE + BELLS_AWAKE, bytes(4))
        self.write(BELLS_BASE + BELLS_SPIN, bytes(4))

    # -- what the kernel sees and says -------------------------------------------------------------

    @property
    def posted(self) -> tuple[int, list[int]]:
        """Number and arguments of the posted request."""
        return self.get(Slot.NR), [self.get(Slot.ARGS + 8 * i) for i in range(6)]

    def copied(self, argument: int) -> tuple[int, bytes]:
        """(length field, bytes) of a copied-in argument."""
        offset, length = struct.unpack("<II", self.read(SLOT + Slot.IN + 8 * argument, 8))
        return length, self.read(SLOT + PAYLOAD + offset, length) if length < 1 << 17 else b""

    def answer(self, result: int, out: tuple[int, bytes] | None = None) -> None:
        """A plain answer, with one block for the guest's memory."""
        self.set(Slot.RESULT, result)
        self.set(Slot.OPS, 0)
        self.set(Slot.OUT_LENGTH, len(out[1]) if out else 0)
        if out:
            self.set(Slot.OUT_ADDRESS, out[0])
            self.write(SLOT + PAYLOAD, out[1])
        self.set(Slot.STATE, State.DONE, 4)

    def run_program(self, program: Program) -> None:
        """Answer with a program."""
        self.write(SLOT + PAYLOAD, bytes(program.payload))
        self.write(SLOT + Slot.PROGRAM, b"".join(program.ops))
        self.set(Slot.OPS, len(program.ops))
        self.set(Slot.STATE, State.DONE, 4)

    # -- running -----------------------------------------------------------------------------------

    def number(self, name: str | int) -> int:
        return (self.numbers[name] if isinstance(name, str) else name) & MASK

    def guarded(self, work: Callable[[], None]) -> None:
        """Exceptions must not cross Unicorn."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised again by `check`
            self._error = self._error or error
            self.uc.emu_stop()

    def check(self) -> None:
        """Raise what happened in a hook."""
        if self._error is not None:
            problem, self._error = self._error, None
            raise problem

    def ask_host(self) -> None:
        """The stub makes a host call."""
        number = self.register(self.NUMBER)
        arguments = [self.register(r) for r in self.ARGUMENTS]
        name = self.table.names[number]
        self.calls.append((name, arguments))
        result = self.host(self, number, arguments)
        if name == "write" and arguments[0] == BELL_FD and result == ENOSYS:
            result = 8
        self.answer_host(result)

    def trap_at(self, where: int) -> Trap:
        """The breakpoint at `where`."""
        made = stub(self.isa, self.variant)
        names = [n for n, label in made.names.items() if made.a.address(label) == where]
        return Trap(names[0] if names else hex(where))

    def _spin(self, uc: Any, _address: int, _size: int, _data: object) -> None:
        if self.get(Slot.STATE, 4) == State.REQUESTED and self.kernel is not None:
            self.requests += 1
            kernel = self.kernel
            self.guarded(lambda: kernel(self))
