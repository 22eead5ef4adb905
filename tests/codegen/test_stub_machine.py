"""The real stub on Unicorn: one guest thread, its slot, and a host and a kernel played by the test.

`Machine.call` enters the stub as a patched site would. A `syscall` of the stub asks `host`; where
the stub spins for its answer `kernel` is called with the machine and writes a reply. Every call
checks what no path may break: the guest's stack, and every register but rax, rcx, r11 and flags.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import unicorn as untyped_unicorn
from unicorn import x86_const as x86

import tables
from codegen.asm.assembler import Memo
from codegen.layout import (
    BELL_FD,
    BELLS_AWAKE,
    BELLS_BASE,
    BELLS_FIRST,
    BELLS_SPIN,
    FD_FLAGS,
    PAGE,
    PAYLOAD,
    REGISTER_ORDER_X86_64,
    SLOT_SIZE,
    SLOTS_BASE,
    STUB_FDS,
    Slot,
    State,
)
from codegen.templates.x86_64.common import Stub
from codegen.templates.x86_64.stub import build
from kernel.marshal import rows
from kernel.reply import Program

unicorn: Any = untyped_unicorn  # it ships no annotations

TABLE = tables.load("x86_64")
SLOT = SLOTS_BASE + 3 * SLOT_SIZE
SIBLING = SLOT + SLOT_SIZE
STACK, STACK_SIZE = 0x7E00_0000_0000, 0x4000
MEMORY, MEMORY_SIZE = 0x7D00_0000_0000, 0x20000
UNMAPPED = 0x7C80_0000_0000
SITE = 0x7C00_0000_0000  # the guest's `syscall`
RETURN = SITE + 2
MASK = (1 << 64) - 1
ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
KEPT = ("rbx", "rbp", "rsp", "r12", "r13", "r14", "r15", *ARGUMENTS)
ALL = (*KEPT, "rax", "rcx", "r11", "rip")
_REGISTERS = {name: getattr(x86, f"UC_X86_REG_{name.upper()}") for name in ALL}
_STEPS = 2_000_000
_PATTERN = bytes((i * 7 + (i >> 8)) & 0xFF for i in range(STACK_SIZE))
ENOSYS = -38

Host = Callable[["Machine", int, list[int]], int]
Kernel = Callable[["Machine"], None]
_FAULTS = (unicorn.UC_ERR_READ_UNMAPPED, unicorn.UC_ERR_WRITE_UNMAPPED)


def says(result: int) -> Host:
    """A host that always answers `result`."""

    def host(_machine: Machine, _number: int, _arguments: list[int]) -> int:
        return result

    return host


@cache
def stub() -> tuple[Stub, bytes]:
    """The stub as the zygote builds it, and its bytes."""
    made = build(TABLE.numbers, rows(TABLE), Memo())
    return made, made.a.finish()


def address(name: str) -> int:
    """Where a label of the stub lies; local ones too, if there is just one."""
    made, _ = stub()
    if name in made.names:
        return made.a.address(made.names[name])
    (label,) = [label for label in made.a.labels if label.name == name]
    return made.a.address(label)


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


class Trap(Exception):
    """The stub reached a breakpoint; `label` is its name."""

    def __init__(self, label: str) -> None:
        super().__init__(label)
        self.label = label


class Ended(Exception):
    """The thread made a host call from which there is no return."""


class Machine:
    """One thread in the stub. `calls` are the host calls it made, as (name, arguments)."""

    def __init__(self) -> None:
        self.uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        made, code = stub()
        for start, size in (
            (made.a.base, -(-len(code) // PAGE) * PAGE),
            (BELLS_BASE, PAGE),
            (SLOT, 2 * SLOT_SIZE),
            (STACK, STACK_SIZE),
            (MEMORY, MEMORY_SIZE),
            (SITE, PAGE),
        ):
            self.uc.mem_map(start, size)
        self.uc.mem_write(made.a.base, code)
        self.uc.reg_write(x86.UC_X86_REG_GS_BASE, SLOT)
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
        self.uc.hook_add(unicorn.UC_HOOK_INSN, self._syscall, None, 1, 0, x86.UC_X86_INS_SYSCALL)
        self.uc.hook_add(unicorn.UC_HOOK_CODE, self._spin, None, address("spin"), address("spin"))
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self._interrupt)

    # -- memory ------------------------------------------------------------------------------------

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
        return int(self.uc.reg_read(_REGISTERS[name]))

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

    @property
    def saved(self) -> dict[str, int]:
        """The guest's registers in the slot."""
        return {n: self.get(Slot.REGS + 8 * i) for i, n in enumerate(REGISTER_ORDER_X86_64)}

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

    def call(self, name: str | int, *arguments: int, **registers: int) -> int:
        """Make a guest system call; the signed result."""
        number = TABLE.numbers[name] if isinstance(name, str) else name
        before = {r: 0x1111_0000_0000 + i for i, r in enumerate(KEPT)}
        before["rsp"] = STACK + STACK_SIZE // 2
        before |= dict(zip(ARGUMENTS, (a & MASK for a in arguments), strict=False)) | registers
        self.write(STACK, _PATTERN)
        self.load(before | {"rax": number & MASK, "rcx": RETURN, "r11": 0xDEAD_BEEF})
        self.enter(address("entry"), RETURN)
        assert self.stack_untouched()
        assert {r: self.register(r) for r in KEPT} == before
        return signed(self.register("rax"))

    def stack_untouched(self) -> bool:
        """The guest's stack, red zone included, is as it was."""
        return self.read(STACK, STACK_SIZE) == _PATTERN

    def load(self, registers: Mapping[str, int]) -> None:
        for name, value in registers.items():
            self.uc.reg_write(_REGISTERS[name], value)

    def enter(self, start: int, until: int) -> None:
        """Run; a fault continues at FIXUP, as the stub's signal handler makes it."""
        while True:
            failed: Any = None
            try:
                self.uc.emu_start(start, until, count=_STEPS)
            except unicorn.UcError as error:
                failed = error
            if self._error is not None:
                problem, self._error = self._error, None
                raise problem
            rip = self.register("rip")
            if failed is None:
                assert rip == until, f"lost at {rip:#x}"
                return
            if failed.errno not in _FAULTS:
                raise failed
            start = self.get(Slot.FIXUP)
            assert start, f"fault at {rip:#x}"

    def _guarded(self, work: Callable[[], None]) -> None:
        """Exceptions must not cross Unicorn."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - raised again by `enter`
            self._error = self._error or error
            self.uc.emu_stop()

    def _syscall(self, uc: Any, _data: object) -> None:
        def work() -> None:
            number = self.register("rax")
            arguments = [self.register(r) for r in ARGUMENTS]
            name = TABLE.names[number]
            self.calls.append((name, arguments))
            result = self.host(self, number, arguments)
            if name == "write" and arguments[0] == BELL_FD and result == ENOSYS:
                result = 8
            self.load({"rax": result & MASK, "rcx": 0xBAD_0001, "r11": 0xBAD_0002})

        self._guarded(work)

    def _spin(self, uc: Any, _address: int, _size: int, _data: object) -> None:
        if self.get(Slot.STATE, 4) == State.REQUESTED and self.kernel is not None:
            self.requests += 1
            kernel = self.kernel
            self._guarded(lambda: kernel(self))

    def _interrupt(self, uc: Any, number: int, _data: object) -> None:
        def work() -> None:
            assert number == 3, f"exception {number} at {self.register('rip'):#x}"
            where = self.register("rip") - 1
            made, _ = stub()
            names = [n for n, label in made.names.items() if made.a.address(label) == where]
            raise Trap(names[0] if names else hex(where))

        self._guarded(work)


def test_the_machine_notices_a_touched_stack() -> None:
    machine = Machine()
    machine.write(STACK, _PATTERN)
    assert machine.stack_untouched()
    machine.write(STACK + STACK_SIZE // 2 - 8, b"x")
    assert not machine.stack_untouched()
