"""The machine of the stub's tests notices what a call must not do."""

from __future__ import annotations

from tests.codegen.stub_machine import PATTERN, STACK, STACK_SIZE, Machine


def test_the_machine_notices_a_touched_stack(machine: Machine) -> None:
    middle = STACK + STACK_SIZE // 2
    machine.write(STACK, PATTERN)
    assert machine.stack_untouched()
    machine.write(middle, b"x")
    assert not machine.stack_untouched()
    machine.write(STACK, PATTERN)
    machine.write(middle - 104, b"x")
    assert not machine.stack_untouched()
