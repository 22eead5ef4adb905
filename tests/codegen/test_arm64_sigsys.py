"""Calls that the filter traps, in the arm64 stub's signal handler."""

from __future__ import annotations

import pytest

from codegen.layout import Op, Reason, Request, Slot
from kernel.reply import Program
from tests.codegen.arm64_machine import INFO, UCONTEXT, MachineArm64
from tests.codegen.stub_machine import SITE, Machine

SIGSYS = 31
SYS_SECCOMP, SI_USER = 1, 0


@pytest.fixture
def machine() -> MachineArm64:
    return MachineArm64()


def signal(machine: MachineArm64, pc: int, code: int, until: int) -> list[tuple[int, int]]:
    """The host delivers SIGSYS at `pc`; (request, reason) of what the kernel is asked."""
    seen: list[tuple[int, int]] = []

    def kernel(m: Machine) -> None:
        number, arguments = m.posted
        assert arguments[:3] == [SIGSYS, INFO, UCONTEXT]
        seen.append((number, m.get(Slot.REASON)))
        machine.frame_set("pc", until)
        program = Program()
        program.op(Op.RETURN)
        m.run_program(program)

    machine.kernel = kernel
    machine.load({"pc": pc})
    machine.signal(SIGSYS, code)
    machine.enter(machine.address("handler"), until)
    return seen


def test_the_kernel_finds_a_way_for_a_call_that_trapped(machine: MachineArm64) -> None:
    kept = {f"x{n}": 0x1000 + n for n in range(31)}
    machine.load(kept)
    assert signal(machine, SITE + 4, SYS_SECCOMP, SITE + 64) == [(Request.DELIVER, Reason.FAULT)]
    assert {name: machine.register(name) for name in kept} == kept
    assert machine.get(Slot.HOST_SIGNALS) == 0


def test_sigsys_from_a_process_is_a_signal(machine: MachineArm64) -> None:
    assert signal(machine, SITE, SI_USER, SITE + 64) == [(Request.DELIVER, Reason.ASYNC)]
    assert machine.get(Slot.HOST_SIGNALS) == 1 << (SIGSYS - 1)


def test_a_call_of_the_stub_that_the_filter_denies_is_fatal(machine: MachineArm64) -> None:
    at = machine.address("native_call") + 4
    assert signal(machine, at, SYS_SECCOMP, SITE) == [(Request.DELIVER, Reason.FATAL)]
