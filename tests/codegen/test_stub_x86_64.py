"""What only the x86_64 stub does: ENTER and CLONE's registers, its segment base, its flags."""

from __future__ import annotations

import struct

import pytest
from unicorn import x86_const as x86

from codegen.layout import Op, Slot, State
from kernel.reply import Program
from tests.codegen.stub_machine import MASK, MEMORY, SIBLING, SLOT, UNMAPPED, Machine, says
from tests.codegen.test_stub import copies
from tests.codegen.x86_64_machine import MachineX86

RETURN = MachineX86.RETURN
ALL = tuple(MachineX86.REGISTERS)


@pytest.fixture
def machine() -> MachineX86:
    return MachineX86()


def test_a_set_direction_flag_does_not_turn_copies_round(machine: MachineX86) -> None:
    machine.uc.reg_write(x86.UC_X86_REG_RFLAGS, 0x402)
    machine.write(MEMORY, bytes(range(200)))
    assert copies(machine, "bind", 5, MEMORY + 100, 16)[1] == (16, bytes(range(100, 116)))


def test_a_native_call_returns_to_rcx(machine: MachineX86) -> None:
    machine.host = says(0)
    machine.call("read", 5, MEMORY, 1)
    assert machine.register("rcx") == RETURN


def test_a_request_holds_the_registers(machine: MachineX86) -> None:
    values = {r: 0x4444_0000_0000 + i for i, r in enumerate(MachineX86.KEPT)} | {"rsp": MEMORY}
    seen: list[dict[str, int]] = []

    def kernel(m: Machine) -> None:
        seen.append(m.saved)
        m.answer(0)

    machine.kernel = kernel
    machine.start("getpgid", values, RETURN)
    assert seen == [values | {"rip": RETURN}]


def test_enter_starts_a_program_with_clear_registers(machine: MachineX86) -> None:
    program = Program()
    program.op(Op.ENTER, RETURN, MEMORY + 0x800)
    left = iter([program])
    machine.kernel = lambda m: m.run_program(next(left))
    machine.host = says(0)
    machine.load(dict.fromkeys(ALL, 0x55))
    machine.start("getpgid", {}, RETURN)
    values = {name: machine.register(name) for name in ALL}
    assert values.pop("rsp") == MEMORY + 0x800
    assert values.pop("rip") == values.pop("rcx") == RETURN
    assert set(values.values()) == {0}
    ((name, arguments),) = machine.calls
    assert (name, arguments[0], arguments[2:4]) == ("rt_sigprocmask", 2, [0, 8])


def child_slot(machine: MachineX86, **fields: int) -> None:
    """A sibling slot as clone(2)'s handler prepares it."""
    names = {name.upper(): value for name, value in fields.items()}
    for name, value in ({"SELF": SIBLING, "TID": 8} | names).items():
        machine.write(SIBLING + getattr(Slot, name), struct.pack("<Q", value & MASK))


def clone_program() -> Program:
    program = Program()
    result = program.op(Op.CLONE, 0x11, 0, SIBLING + Slot.HOST_TID, 0, 0, SIBLING)
    program.op(Op.END, result)
    return program


def test_the_parent_of_a_clone_goes_on(machine: MachineX86) -> None:
    machine.host = says(4711)
    machine.kernel = lambda m: m.run_program(clone_program())
    assert machine.call("getpgid", 0) == 4711
    assert machine.calls == [("clone", [0x11, 0, SIBLING + Slot.HOST_TID, 0, 0, SIBLING])]


@pytest.mark.parametrize("tid_address", [0, MEMORY, UNMAPPED])
def test_a_cloned_child_starts_from_its_own_slot(machine: MachineX86, tid_address: int) -> None:
    def host(m: Machine, number: int, arguments: list[int]) -> int:
        if number == m.numbers["arch_prctl"]:
            assert arguments[:2] == [0x1001, SIBLING]
            machine.slot_is(SIBLING)
        return 5000 if number == m.numbers["gettid"] else 0

    machine.host = host
    child_slot(machine, child_tid=tid_address)
    registers = {"rsp": MEMORY + 0x1000, "rip": RETURN, "rbx": 3, "r15": 4}
    machine.save_for(SIBLING, registers)
    machine.kernel = lambda m: m.run_program(clone_program())
    if tid_address == UNMAPPED:  # the sibling's FIXUP counts, which `enter` does not look at
        machine.write(SLOT + Slot.FIXUP, struct.pack("<Q", machine.address("no_tid")))
    machine.start("getpgid", {"rsp": MEMORY + 0x2000}, RETURN)
    assert machine.register("rax") == 0
    assert {n: machine.register(n) for n in registers if n != "rip"} == {
        n: v for n, v in registers.items() if n != "rip"
    }
    assert struct.unpack("<I", machine.read(SIBLING + Slot.HOST_TID, 4)) == (5000,)
    assert machine.read(SIBLING + Slot.FIXUP, 8) == bytes(8)
    assert machine.read(SIBLING + Slot.STATE, 4) == struct.pack("<I", State.IDLE)
    if tid_address == MEMORY:
        assert machine.read(MEMORY, 8) == struct.pack("<II", 8, 0)
    made = [name for name, _ in machine.calls]
    assert made == [
        "clone", "arch_prctl", "madvise", "sigaltstack", "prctl", "gettid", "rt_sigprocmask",
    ]  # fmt: skip
