"""The stub and wait4(2): sleeping on the only child's pidfd before the kernel is asked."""

from __future__ import annotations

import errno

import pytest

from codegen.layout import Slot
from tests.codegen.stub_machine import MASK, MEMORY, SLOT, Machine

CHILD = 5
WNOHANG, WUNTRACED, WCONTINUED, WCLONE = 1, 2, 8, 0x8000_0000


def waits(machine: Machine, pid: int, options: int, polls: int = 1) -> list[tuple[str, list[int]]]:
    """The host calls that wait4 makes before it is posted; the kernel must see its arguments."""
    asked: list[tuple[int, list[int]]] = []

    def kernel(m: Machine) -> None:
        asked.append(m.posted)
        m.answer(CHILD)

    machine.kernel = kernel
    machine.host = lambda _m, _number, _arguments: polls
    arguments = [pid & MASK, MEMORY, options, MEMORY + 8]
    assert machine.call("wait4", *arguments) == CHILD
    ((number, seen),) = asked
    assert (number, seen[:4]) == (machine.numbers["wait4"], arguments)
    assert machine.returns_to == machine.RETURN
    return machine.calls


@pytest.mark.parametrize("pid", [CHILD, -1])
@pytest.mark.parametrize("options", [0, WUNTRACED, WUNTRACED | WCONTINUED])
@pytest.mark.parametrize("polls", [1, -errno.EINTR, -errno.EBADF])
def test_it_sleeps_until_the_only_child_has_ended(
    machine: Machine, pid: int, options: int, polls: int
) -> None:
    machine.set(Slot.WATCH, CHILD)
    ((name, arguments),) = waits(machine, pid, options, polls)
    assert (name, arguments[:5]) == ("ppoll", [SLOT + Slot.WATCH_POLL, 1, 0, 0, 0])


@pytest.mark.parametrize(
    ("pid", "options"),
    [(CHILD, WNOHANG), (CHILD, WCLONE), (CHILD + 1, 0), (0, 0), (-CHILD, 0), (-2, 0)],
)
def test_other_waits_ask_at_once(machine: Machine, pid: int, options: int) -> None:
    machine.set(Slot.WATCH, CHILD)
    assert waits(machine, pid, options) == []


def test_without_a_watch_it_asks_at_once(machine: Machine) -> None:
    assert waits(machine, -1, 0) == []


def test_pending_work_ends_the_sleep_before_it_begins(machine: Machine) -> None:
    machine.set(Slot.WATCH, CHILD)
    machine.set(Slot.PENDING, 1, 4)

    def kernel(m: Machine) -> None:
        m.set(Slot.PENDING, 0, 4)
        m.answer(CHILD)

    machine.kernel = kernel
    assert machine.call("wait4", CHILD, 0, 0, 0) == CHILD
    assert machine.calls == []
