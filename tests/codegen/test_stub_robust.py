"""The stub and futexes whose words hold thread ids: compare-and-exchange, the last will."""

from __future__ import annotations

import errno
import struct

import pytest

from codegen.layout import Op, Request, Slot
from kernel.reply import Program
from tests.codegen.stub_machine import MEMORY, UNMAPPED, Ended, Machine, says


@pytest.mark.parametrize(
    ("before", "expected", "after"),
    [(0, 0, 7), (0xFFFF_FFFF, 0xFFFF_FFFF, 7), (1, 0, 1), (0x8000_0001, 1, 0x8000_0001)],
)
def test_compare_and_exchange(machine: Machine, before: int, expected: int, after: int) -> None:
    machine.write(MEMORY, struct.pack("<III", 1, before, 3))
    program = Program()
    found = program.op(Op.CMPXCHG32, MEMORY + 4, expected, 7, flags=Op.CHECKED)
    program.op(Op.END, found)
    machine.kernel = lambda m: m.run_program(program)
    assert machine.call("getpgid", 0) == before
    assert struct.unpack("<III", machine.read(MEMORY, 12)) == (1, after, 3)
    assert machine.get(Slot.FIXUP) == 0


def test_compare_and_exchange_at_a_bad_address(machine: Machine) -> None:
    program = Program()
    program.op(Op.END, program.op(Op.CMPXCHG32, UNMAPPED, 0, 1))
    machine.kernel = lambda m: m.run_program(program)
    assert machine.call("getpgid", 0) == -errno.EFAULT
    assert machine.get(Slot.FIXUP) == 0


@pytest.mark.parametrize(("size", "kept"), [(24, MEMORY), (23, 0)])
def test_set_robust_list_is_noted(machine: Machine, size: int, kept: int) -> None:
    machine.host = says(0 if kept else -errno.EINVAL)
    assert machine.call("set_robust_list", MEMORY, size) == (0 if kept else -errno.EINVAL)
    assert machine.get(Slot.ROBUST_LIST) == kept


def _leave(machine: Machine, name: str) -> list[tuple[int, list[int]]]:
    """Make an exit call; the requests the kernel saw before the host was asked to end."""
    heard: list[tuple[int, list[int]]] = []
    number = machine.numbers[name]

    def host(m: Machine, called: int, arguments: list[int]) -> int:
        assert (called, arguments[0]) == (number, 3)
        if m.posted[0] == number:
            heard.append(m.posted)
        raise Ended

    def kernel(m: Machine) -> None:
        heard.append(m.posted)
        program = Program()
        program.hostcall(number, 3)
        m.run_program(program)

    machine.host, machine.kernel = host, kernel
    with pytest.raises(Ended):
        machine.call(number, 3)
    return heard


def _head(machine: Machine, first: int, pending: int) -> None:
    machine.set(Slot.ROBUST_LIST, machine.write(MEMORY, struct.pack("<QqQ", first, -32, pending)))


@pytest.mark.parametrize("name", ["exit", "exit_group"])
def test_who_holds_nothing_just_goes(machine: Machine, name: str) -> None:
    _head(machine, MEMORY, 0)
    ((request, _),) = _leave(machine, name)
    assert request == machine.numbers[name]


def test_an_unreadable_list_is_none(machine: Machine) -> None:
    machine.set(Slot.ROBUST_LIST, UNMAPPED)
    ((request, _),) = _leave(machine, "exit")
    assert request == machine.numbers["exit"]


@pytest.mark.parametrize(("first", "pending"), [(MEMORY + 64, 0), (MEMORY, MEMORY + 64)])
@pytest.mark.parametrize("name", ["exit", "exit_group"])
def test_who_may_hold_a_mutex_asks_first(
    machine: Machine, name: str, first: int, pending: int
) -> None:
    _head(machine, first, pending)
    ((request, arguments),) = _leave(machine, name)
    assert (request, arguments[:2]) == (Request.LAST_WILL, [3, machine.numbers[name]])


@pytest.mark.parametrize("name", ["exit", "exit_group"])
def test_who_ends_other_threads_asks_first(machine: Machine, name: str) -> None:
    machine.set(Slot.ASK_BEFORE_EXIT, 1, 4)
    ((request, _),) = _leave(machine, name)
    assert request == (Request.LAST_WILL if name == "exit_group" else machine.numbers[name])
