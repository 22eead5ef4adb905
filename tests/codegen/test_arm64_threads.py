"""The arm64 stub finds its slot: the thread table, the host's answer, stacks that are not there."""

from __future__ import annotations

import pytest

from codegen.layout import Slot, SlotArm64
from tests.codegen.arm64_machine import KEY, SIGSEGV, MachineArm64
from tests.codegen.stub_machine import (
    MEMORY,
    PATTERN,
    SIBLING,
    SITE,
    SLOT,
    STACK,
    STACK_SIZE,
    Ended,
    Machine,
    says,
)

OTHER = KEY + 0x1_2340  # another entry of the table
COLLIDING = KEY ^ 1  # the same entry, another key


@pytest.fixture
def machine() -> MachineArm64:
    machine = MachineArm64()
    machine.set(Slot.PID, 4)
    return machine


def asked(machine: MachineArm64) -> int:
    """Calls that asked the host whose slot it is, since the last time."""
    names = [name for name, _ in machine.calls]
    machine.calls.clear()
    return names.count("sigaltstack")


def set_tls(machine: MachineArm64, value: int, register: int = 3) -> None:
    """Set the thread pointer; every other register stays."""
    before = machine.guest()
    if register < 31:
        before[f"x{register}"] = value
    machine.write(STACK, PATTERN)
    machine.set_tls(register, before)
    machine.check_kept(before | {"tpidr_el0": value})
    assert machine.register("x0") == before["x0"]


def test_the_keys_of_these_tests() -> None:
    assert MachineArm64.entry_of(KEY) == MachineArm64.entry_of(COLLIDING)
    assert MachineArm64.entry_of(KEY) != MachineArm64.entry_of(OTHER)


# ------------------------------------------------------------------------------------ whose slot
def test_a_known_thread_does_not_ask(machine: MachineArm64) -> None:
    assert machine.call("getpid") == 4
    assert not asked(machine)


@pytest.mark.parametrize("entry", [(0, 0), (KEY, 0), (COLLIDING, SIBLING)])
def test_who_is_not_in_the_table_asks_the_host(
    machine: MachineArm64, entry: tuple[int, int]
) -> None:
    """An empty entry, one of two threads, one of another key."""
    machine.write(machine.entry_of(KEY), b"".join(n.to_bytes(8, "little") for n in entry))
    assert machine.call("getpid") == 4
    assert machine.get(Slot.ENTRIES) == 1
    assert asked(machine) == 1


@pytest.mark.parametrize("name", ["read", "getpgid"])
def test_a_miss_changes_no_register(machine: MachineArm64, name: str) -> None:
    machine.enter_key(KEY, 0)
    machine.host = says(11)
    machine.kernel = lambda m: m.answer(11)
    assert machine.call(name, 5, MEMORY, 1) == 11
    assert asked(machine) == 1


# ------------------------------------------------------------------------------ msr tpidr_el0, Xt
@pytest.mark.parametrize("register", range(31))
def test_a_new_thread_pointer_is_learned_from_any_register(
    machine: MachineArm64, register: int
) -> None:
    set_tls(machine, OTHER, register)
    assert machine.known(OTHER) == (OTHER, SLOT)
    assert machine.known(KEY) == (0, 0)
    assert machine.get(SlotArm64.KEY) == OTHER
    assert machine.call("getpid") == 4
    assert not asked(machine)


@pytest.mark.parametrize("register", [3, 31])
def test_a_thread_pointer_of_zero_is_no_key(machine: MachineArm64, register: int) -> None:
    set_tls(machine, 0, register)
    assert machine.known(0) == (0, 0)
    assert machine.get(SlotArm64.KEY) == 0
    assert machine.call("getpid") == 4
    assert asked(machine) == 1
    set_tls(machine, OTHER)
    assert asked(machine) == 1
    assert machine.known(OTHER) == (OTHER, SLOT)


def test_a_pending_signal_is_taken_behind_the_instruction(machine: MachineArm64) -> None:
    machine.set(Slot.PENDING, 1, 4)
    seen = []

    def kernel(m: Machine) -> None:
        seen.append(machine.frame("pc"))
        raise Ended

    machine.kernel, machine.trapping = kernel, True
    with pytest.raises(Ended):
        set_tls(machine, OTHER)
    assert seen == [SITE + 0x104]
    assert machine.frame("x0") == machine.guest()["x0"]


def test_a_taken_entry_stays_its_owners(machine: MachineArm64) -> None:
    machine.enter_key(OTHER, SIBLING)
    set_tls(machine, OTHER ^ 1)
    assert machine.known(OTHER) == (OTHER, SIBLING)
    assert machine.get(SlotArm64.KEY) == 0
    assert machine.call("getpid") == 4
    assert asked(machine) == 1
    set_tls(machine, KEY)
    assert machine.known(OTHER) == (OTHER, SIBLING)


def test_two_threads_with_one_key_both_ask_for_good(machine: MachineArm64) -> None:
    machine.enter_key(OTHER, SIBLING)
    set_tls(machine, OTHER)
    assert machine.known(OTHER) == (OTHER, 0)
    assert machine.call("getpid") == 4
    assert asked(machine) == 1
    set_tls(machine, KEY)
    assert machine.known(OTHER) == (OTHER, 0)
    assert machine.call("getpid") == 4


def test_an_owner_of_an_ambiguous_key_leaves_it(machine: MachineArm64) -> None:
    machine.enter_key(KEY, 0)  # another thread came with our key
    set_tls(machine, OTHER)
    assert machine.known(KEY) == (KEY, 0)
    assert machine.known(OTHER) == (OTHER, SLOT)


@pytest.mark.parametrize("key", [OTHER, OTHER ^ 1])
def test_two_threads_learn_at_the_same_time(key: int) -> None:
    """Whatever instruction the one stands at when the other comes: nobody gets another's slot."""
    machine = MachineArm64()
    done = SITE + 0x800
    met = 0

    def learn(slot: int, value: int, until: int) -> None:
        machine.load({"x28": slot, "x10": value, "x30": done})
        machine.enter(machine.address("learn_key"), until)

    for place in range(machine.address("learn_key"), machine.address("forget_key"), 4):
        machine.write(machine.entry_of(OTHER), bytes(16))
        try:
            learn(SLOT, OTHER, place)
        except AssertionError:  # it was not on the way
            continue
        context = machine.uc.context_save()
        learn(SIBLING, key, done)
        met += 1
        machine.uc.context_restore(context)
        machine.enter(place, done)
        known = machine.known(OTHER)
        if key == OTHER:
            assert known == (OTHER, 0), hex(place)
        else:
            assert known in {(OTHER, SLOT), (key, SIBLING)}, hex(place)
    assert met > 8


@pytest.mark.parametrize("asking", [False, True])
def test_who_ends_is_forgotten(machine: MachineArm64, asking: bool) -> None:
    machine.set(Slot.ASK_BEFORE_EXIT, asking, 4)

    def host(m: Machine, number: int, arguments: list[int]) -> int:
        raise Ended

    def kernel(m: Machine) -> None:
        raise Ended

    machine.host, machine.kernel = host, kernel
    with pytest.raises(Ended):
        machine.call("exit_group", 0)
    assert machine.known(KEY) == (0, 0)
    assert machine.get(SlotArm64.KEY) == 0


# ---------------------------------------------------------------------- stacks that are not there
def test_the_call_may_unmap_the_stack_it_was_made_on(machine: MachineArm64) -> None:
    def host(m: Machine, number: int, arguments: list[int]) -> int:
        m.uc.mem_unmap(*arguments[:2])
        return 0

    machine.host = host
    before = machine.guest((STACK, STACK_SIZE))
    machine.start("munmap", before, machine.RETURN)
    assert machine.result == 0
    assert not machine.signals
    after = {r: machine.register(r) for r in machine.KEPT}
    assert after == {r: before[r] for r in machine.KEPT} | {"x8": machine.numbers["munmap"]}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("room", [*range(32, 112, 16), STACK_SIZE + 16])
@pytest.mark.parametrize("name", ["read", "getpgid", "set_tls"])
def test_a_stack_that_ends_near_sp(
    machine: MachineArm64, name: str, room: int, known: bool
) -> None:
    """`room` bytes below sp are there, of which the trampoline needs 32.

    The last one: what the trampoline wrote lies at the end of a mapping, and sp - 16 behind it.
    """
    if not known:
        machine.enter_key(KEY, 0)
    machine.host = says(11)
    machine.kernel = lambda m: m.answer(11)
    before = machine.guest((5, MEMORY, 1), sp=STACK + room)
    machine.write(STACK, PATTERN)
    if name == "set_tls":
        before["x30"] = OTHER
        machine.set_tls(30, before)
        machine.check_kept(before | {"tpidr_el0": OTHER})
        assert machine.known(OTHER) == (OTHER, SLOT)
    else:
        before["x8"] = machine.numbers[name]
        machine.start(name, before, machine.RETURN)
        machine.check_kept(before)
        assert machine.result == 11
        assert machine.get(Slot.ENTRIES) == 1
    needs = 32 if known else 96
    assert machine.signals == ([SIGSEGV] if room < needs or room > STACK_SIZE else [])
