"""The functions of the arm64 stub that the kernel itself runs on such a host."""

from __future__ import annotations

import pytest

from codegen.layout import Slot, State
from tests.codegen.arm64_machine import MachineArm64
from tests.codegen.stub_machine import SITE, SLOT


@pytest.fixture
def machine() -> MachineArm64:
    return MachineArm64()


def call(machine: MachineArm64, name: str, *arguments: int) -> int:
    """As C calls it."""
    machine.load({f"x{n}": value for n, value in enumerate(arguments)} | {"x30": SITE})
    machine.enter(machine.address(name), SITE)
    return machine.register("x0")


@pytest.mark.parametrize("sleeping", [0, 1, 0xFFFF_FFFF])
def test_publish_stores_and_tells_who_sleeps(machine: MachineArm64, sleeping: int) -> None:
    machine.set(Slot.SLEEPING, sleeping, 4)
    machine.set(Slot.STATE, 0xAAAA_AAAA_0000_0001)
    answer = call(machine, "publish", SLOT + Slot.STATE, State.DONE, SLOT + Slot.SLEEPING)
    assert answer == sleeping
    assert machine.get(Slot.STATE) == 0xAAAA_AAAA_0000_0000 | State.DONE


def test_fence_changes_nothing(machine: MachineArm64) -> None:
    registers = {f"x{n}": n * 3 for n in range(19)}
    machine.load(registers)
    call(machine, "fence")
    assert {name: machine.register(name) for name in registers} == registers
