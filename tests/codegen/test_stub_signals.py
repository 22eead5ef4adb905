"""The host signal handler of the x86_64 stub: traps, windows, faults, deliveries, breakpoints."""

from __future__ import annotations

import struct

import pytest

from codegen.layout import (
    ALT_STACK,
    ALT_STACK_SIZE,
    BELLS_BASE,
    BELLS_FIRST,
    KICK_SIGNAL,
    Op,
    Reason,
    Request,
    Slot,
    State,
)
from codegen.templates.x86_64.signals import RAX, RCX, RIP
from kernel.isa import x86_64_frames as frames
from kernel.reply import Program
from tests.codegen.stub_machine import MASK, SITE, SLOT, Ended, Machine
from tests.codegen.x86_64_machine import MachineX86

SIGINT, SIGTRAP, SIGBUS, SIGSEGV, SIGPIPE, SIGSYS = 2, 5, 7, 11, 13, 31
UCONTEXT = SLOT + ALT_STACK + ALT_STACK_SIZE - 0x1000
INFO = UCONTEXT + 304
_AT = {"rax": RAX, "rcx": RCX, "rip": RIP}
WINDOWS = [
    ("native_check", "native_call"),
    ("exit_check", "exit_jump"),
    ("hostcall_check", "hostcall_call"),
    ("watch_check", "watch_call"),
]


@pytest.fixture
def machine() -> MachineX86:
    return MachineX86()


def frame(machine: MachineX86, offset: int) -> int:
    """A register of the frame."""
    return int.from_bytes(machine.read(UCONTEXT + offset, 8), "little")


def signal(machine: MachineX86, number: int, rip: int, code: int = 1, **registers: int) -> None:
    """The host delivers a signal to a thread that stands at `rip`; until it returns."""
    machine.write(UCONTEXT - 8, bytes(0x200 + 8))
    for name, value in ({"rip": rip} | registers).items():
        machine.write(UCONTEXT + _AT[name], struct.pack("<Q", value & MASK))
    machine.write(INFO, struct.pack("<iii", number, 0, code))
    returned: list[int] = []

    def host(m: Machine, call: int, arguments: list[int]) -> int:
        assert call == m.numbers["rt_sigreturn"], m.table.names[call]
        returned.append(m.register("rsp"))
        raise Ended

    machine.host = host
    machine.load({"rdi": number, "rsi": INFO, "rdx": UCONTEXT, "rsp": UCONTEXT - 8})
    with pytest.raises(Ended):
        machine.enter(machine.address("handler"), SITE)
    assert returned == [UCONTEXT]  # rt_sigreturn(2) finds its frame at the stack pointer


def delivered(machine: MachineX86) -> list[tuple[int, int, list[int]]]:
    """Let the kernel answer DELIVER with RETURN; (number, reason, arguments) of its requests."""
    seen: list[tuple[int, int, list[int]]] = []

    def kernel(m: Machine) -> None:
        number, arguments = m.posted
        seen.append((number, m.get(Slot.REASON), arguments[:3]))
        program = Program()
        program.op(Op.RETURN)
        m.run_program(program)

    machine.kernel = kernel
    return seen


def test_the_offsets_are_those_the_kernel_uses() -> None:
    greg = 40
    assert tuple(greg + 8 * n for n in (frames.RAX, frames.RCX, frames.RIP)) == (RAX, RCX, RIP)


def test_a_trapped_call_continues_at_the_entry(machine: MachineX86) -> None:
    for i in range(Slot.TRAP_LOG_SIZE + 3):
        signal(machine, SIGSYS, SITE + i, rax=39, rcx=1)
        assert (frame(machine, RIP), frame(machine, RCX)) == (machine.address("entry"), SITE + i)
        assert frame(machine, RAX) == 39
        assert machine.get(Slot.TRAPS) == i + 1
        assert machine.get(Slot.TRAP_LOG + 8 * (i % Slot.TRAP_LOG_SIZE)) == SITE + i


def test_the_filter_refused_the_stub_itself(machine: MachineX86) -> None:
    seen = delivered(machine)
    signal(machine, SIGSYS, machine.address("native_call") + 2)
    assert seen == [(Request.DELIVER, Reason.FATAL, [SIGSYS, INFO, UCONTEXT])]
    assert machine.get(Slot.TRAPS) == 0


def test_a_kick_in_guest_code(machine: MachineX86) -> None:
    seen = delivered(machine)
    signal(machine, KICK_SIGNAL, SITE)
    assert seen == [(Request.DELIVER, Reason.ASYNC, [KICK_SIGNAL, INFO, UCONTEXT])]
    assert machine.get(Slot.HOST_SIGNALS) == 0
    assert frame(machine, RIP) == SITE


@pytest.mark.parametrize("number", [1, SIGINT, SIGPIPE, 33, 61, 63, 64])
def test_a_host_signal_in_guest_code_is_noted(machine: MachineX86, number: int) -> None:
    seen = delivered(machine)
    machine.set(Slot.HOST_SIGNALS, 0x100)
    signal(machine, number, SITE)
    assert [(n, r) for n, r, _ in seen] == [(Request.DELIVER, Reason.ASYNC)]
    assert machine.get(Slot.HOST_SIGNALS) == 0x100 | 1 << (number - 1)


@pytest.mark.parametrize("number", [4, SIGTRAP, SIGBUS, 8, SIGSEGV])
def test_a_fault_in_guest_code(machine: MachineX86, number: int) -> None:
    seen = delivered(machine)
    signal(machine, number, SITE, code=1)
    assert seen == [(Request.DELIVER, Reason.FAULT, [number, INFO, UCONTEXT])]
    assert machine.get(Slot.HOST_SIGNALS) == 0


def test_a_sent_sigsegv_is_no_fault(machine: MachineX86) -> None:
    seen = delivered(machine)
    signal(machine, SIGSEGV, SITE, code=0)
    assert seen[0][1] == Reason.ASYNC
    assert machine.get(Slot.HOST_SIGNALS) == 1 << (SIGSEGV - 1)


@pytest.mark.parametrize(("first", "last"), WINDOWS)
@pytest.mark.parametrize("number", [KICK_SIGNAL, SIGINT])
def test_a_window_is_begun_again(machine: MachineX86, first: str, last: str, number: int) -> None:
    """Up to the instruction that leaves, but not once it has left."""
    start, end = machine.address(first), machine.address(last)
    for rip in range(start, end + 1):
        signal(machine, number, rip)
        assert frame(machine, RIP) == start
    for rip in (start - 1, end + 1, end + 2):
        signal(machine, number, rip)
        assert frame(machine, RIP) == rip
    assert machine.get(Slot.PENDING, 4) == (number == SIGINT)


def test_a_host_signal_while_the_kernel_works_asks_for_attention(machine: MachineX86) -> None:
    machine.set(Slot.STATE, State.PARKED, 4)
    signal(machine, SIGINT, machine.address("sleep"))
    assert machine.get(Slot.HOST_SIGNALS) == 1 << (SIGINT - 1)
    assert machine.get(Slot.ATTENTION, 4) == machine.get(Slot.PENDING, 4) == 1
    assert machine.read(BELLS_BASE + BELLS_FIRST + 3, 1) == b"\1"
    assert frame(machine, RIP) == machine.address("sleep")
    assert machine.get(Slot.STATE, 4) == State.PARKED


def test_no_attention_once_the_answer_is_there(machine: MachineX86) -> None:
    machine.set(Slot.STATE, State.DONE, 4)
    signal(machine, SIGINT, machine.address("reply"))
    assert machine.get(Slot.ATTENTION, 4) == 0
    assert machine.get(Slot.PENDING, 4) == 1
    assert machine.read(BELLS_BASE + BELLS_FIRST + 3, 1) == b"\0"


@pytest.mark.parametrize("number", [SIGSEGV, SIGBUS])
def test_a_fault_in_a_copy_continues_at_its_fixup(machine: MachineX86, number: int) -> None:
    seen = delivered(machine)
    machine.set(Slot.FIXUP, machine.address("bad_address"))
    signal(machine, number, machine.address("copy_bytes"))
    assert frame(machine, RIP) == machine.address("bad_address")
    machine.set(Slot.FIXUP, 0)
    signal(machine, number, machine.address("copy_bytes"))
    assert [reason for _, reason, _ in seen] == [Reason.FATAL]


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("trap_before", Reason.BEFORE),
        ("trap_interrupted", Reason.INTERRUPTED),
        ("trap_after", Reason.AFTER),
        ("sigreturn", Reason.SIGRETURN),
        ("stub_broken", Reason.FATAL),
    ],
)
def test_a_breakpoint_makes_a_frame_of_the_guest(
    machine: MachineX86, label: str, reason: int
) -> None:
    seen = delivered(machine)
    signal(machine, SIGTRAP, machine.address(label) + 1, rcx=SITE + 2, rax=0)
    assert [(n, r) for n, r, _ in seen] == [(Request.DELIVER, reason)]
    where = {Reason.BEFORE: SITE, Reason.FATAL: machine.address(label) + 1}.get(reason, SITE + 2)
    assert frame(machine, RIP) == where


def test_a_breakpoint_elsewhere_in_the_stub_is_fatal(machine: MachineX86) -> None:
    seen = delivered(machine)
    signal(machine, SIGTRAP, machine.address("native") + 1)
    assert seen[0][1] == Reason.FATAL
