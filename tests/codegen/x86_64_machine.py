"""The x86_64 stub on Unicorn: entered as a patched site does, with rcx = return address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from unicorn import x86_const as x86

from codegen.layout import REGISTER_ORDER_X86_64, STACK_TOP, Slot
from tests.codegen.stub_machine import (
    FAULTS,
    MASK,
    PATTERN,
    SITE,
    SLOT,
    STACK,
    STACK_SIZE,
    STEPS,
    Machine,
    unicorn,
)


class MachineX86(Machine):
    """One thread in the x86_64 stub."""

    isa = "x86_64"
    RETURN = SITE + 2
    ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
    NUMBER = RESULT = "rax"
    STACK_POINTER, PC = "rsp", "rip"
    STACK_TOP = STACK_TOP
    STAT_SIZE = 144
    KEPT = ("rbx", "rbp", "rsp", "r12", "r13", "r14", "r15", *ARGUMENTS)
    REGISTERS: ClassVar[Mapping[str, int]] = {
        name: getattr(x86, f"UC_X86_REG_{name.upper()}")
        for name in (*KEPT, "rax", "rcx", "r11", "rip")
    }

    def __init__(self) -> None:
        super().__init__()
        self.slot_is(SLOT)
        self.uc.hook_add(unicorn.UC_HOOK_INSN, self._syscall, None, 1, 0, x86.UC_X86_INS_SYSCALL)
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self._interrupt)

    def engine(self) -> Any:
        return unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)

    def slot_is(self, slot: int) -> None:
        """arch_prctl(ARCH_SET_GS)."""
        self.uc.reg_write(x86.UC_X86_REG_GS_BASE, slot)

    @property
    def saved(self) -> dict[str, int]:
        return {n: self.get(Slot.REGS + 8 * i) for i, n in enumerate(REGISTER_ORDER_X86_64)}

    @property
    def returns_to(self) -> int:
        return self.register("rcx")

    def save_for(self, slot: int, registers: Mapping[str, int]) -> None:
        for i, name in enumerate(REGISTER_ORDER_X86_64):
            self.write(slot + Slot.REGS + 8 * i, registers.get(name, 0).to_bytes(8, "little"))

    def call(self, name: str | int, *arguments: int, **registers: int) -> int:
        before = {r: 0x1111_0000_0000 + i for i, r in enumerate(self.KEPT)}
        before["rsp"] = STACK + STACK_SIZE // 2
        before |= dict(zip(self.ARGUMENTS, (a & MASK for a in arguments), strict=False))
        before |= registers
        self.write(STACK, PATTERN)
        self.start(name, before | {"r11": 0xDEAD_BEEF}, self.RETURN)
        assert self.stack_untouched()
        assert {r: self.register(r) for r in self.KEPT} == before
        return self.result

    def start(self, name: str | int, registers: Mapping[str, int], until: int) -> None:
        self.load({**registers, "rax": self.number(name), "rcx": self.RETURN})
        self.enter(self.address("entry"), until)

    def stack_untouched(self) -> bool:
        """The guest's stack, red zone included, is as it was."""
        return self.read(STACK, STACK_SIZE) == PATTERN

    def enter(self, start: int, until: int) -> None:
        while True:
            failed: Any = None
            try:
                self.uc.emu_start(start, until, count=STEPS)
            except unicorn.UcError as error:
                failed = error
            self.check()
            rip = self.register("rip")
            if failed is None:
                assert rip == until, f"lost at {rip:#x}"
                return
            if failed.errno not in FAULTS:
                raise failed
            start = self.get(Slot.FIXUP)
            assert start, f"fault at {rip:#x}"

    def answer_host(self, result: int) -> None:
        self.load({"rax": result & MASK, "rcx": 0xBAD_0001, "r11": 0xBAD_0002})

    def _syscall(self, uc: Any, _data: object) -> None:
        self.guarded(self.ask_host)

    def _interrupt(self, uc: Any, number: int, _data: object) -> None:
        def work() -> None:
            rip = self.register("rip")
            assert number == 3, f"exception {number} at {rip:#x}"
            raise self.trap_at(rip - 1)

        self.guarded(work)
