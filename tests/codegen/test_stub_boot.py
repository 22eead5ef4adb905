"""The stub from the host's execve to its first request."""

from __future__ import annotations

import struct

import pytest

from codegen.layout import (
    BELLS_BASE,
    BOOT_MESSAGE,
    CTRL_FD,
    KICK_SIGNAL,
    LARGEST_PAGE,
    PAGE,
    PAYLOAD,
    SLOT_SIZE,
    Op,
    Request,
    Slot,
)
from codegen.templates.arm64 import signals, threads
from kernel.reply import Program
from tests.codegen.arm64_machine import MachineArm64
from tests.codegen.stub_machine import (
    MEMORY,
    SIBLING,
    SLOT,
    STACK,
    STACK_SIZE,
    Ended,
    Machine,
)
from tests.codegen.x86_64_machine import MachineX86

STACK_POINTER = STACK + STACK_SIZE - 0x400
# argc, argv, NULL, envp, NULL, auxv, AT_NULL: what execve(2) leaves on the stack
INITIAL = struct.pack("<10Q", 2, 0xA1, 0xA2, 0, 0xE1, 0, 6, 4096, 0, 0)
Message = tuple[int, int, list[int]]


class Host:
    """Answers a booting stub."""

    def __init__(self, *messages: Message | int) -> None:
        self.messages = list(messages)
        self.closed: list[int] = []
        self.mapped: list[tuple[int, int, int, int, int]] = []
        self.handlers: dict[int, tuple[int, int, int, int]] = {}
        self.failing = ""

    def __call__(self, machine: Machine, number: int, arguments: list[int]) -> int:
        name = machine.table.names[number]
        if name == "recvmsg":
            return self._receive(machine, arguments)
        if name == "exit_group":
            raise Ended
        if name == "close":
            self.closed.append(arguments[0])
        elif name == "mmap":
            start, size, protection, flags, fd, offset = arguments
            assert offset == 0
            self.mapped.append((start, size, protection, flags, fd))
        elif name == "arch_prctl":
            assert isinstance(machine, MachineX86)
            assert arguments[0] == 0x1001
            machine.slot_is(arguments[1])
        elif name == "rt_sigaction":
            assert arguments[2:4] == [0, 8]
            action = struct.unpack("<4Q", machine.read(arguments[1], 32))
            self.handlers[arguments[0]] = action
        return -9 if name == self.failing else 0

    def _receive(self, machine: Machine, arguments: list[int]) -> int:
        assert arguments[0] == CTRL_FD
        assert not arguments[2] & 0x40, "a booting stub waits"
        message = self.messages.pop(0)
        if isinstance(message, int):
            return message
        slot, word, fds = message
        header = struct.unpack("<QQQQQQ", machine.read(arguments[1], 48))
        (data,) = struct.unpack("<Q", machine.read(header[2], 8))
        machine.write(data, struct.pack("<QQ", slot, word))
        machine.write(header[4], struct.pack("<QII", 16 + 4 * len(fds), 1, 1))
        machine.write(header[4] + 16, struct.pack(f"<{len(fds)}i", *fds))
        return 16


GREETING: Message = (SLOT, BOOT_MESSAGE | 1, [7, 8])


def booted(make: type[Machine], host: Host) -> tuple[Machine, bytes]:
    """A stub that has booted and entered its program; the payload the kernel saw."""
    machine = make()
    if isinstance(machine, MachineX86):
        machine.slot_is(0)
    machine.set(Slot.ALT_DESCRIPTOR, SLOT + 0x1_4000)
    machine.host = host
    payload: list[bytes] = []

    def kernel(m: Machine) -> None:
        number, arguments = m.posted
        assert (number, arguments[0]) == (Request.BOOT, STACK_POINTER)
        assert 0 <= SLOT + m.STACK_TOP - m.register(m.STACK_POINTER) < 0x100
        payload.append(m.read(SLOT + PAYLOAD, len(INITIAL) + 8))
        program = Program()
        program.op(Op.ENTER, m.RETURN, MEMORY + 64)
        m.run_program(program)

    machine.kernel = kernel
    machine.write(STACK, b"\xee" * STACK_SIZE)
    machine.write(STACK_POINTER, INITIAL)
    machine.load({machine.STACK_POINTER: STACK_POINTER})
    machine.enter(machine.address("boot"), machine.RETURN)
    assert machine.register(machine.STACK_POINTER) == MEMORY + 64
    assert machine.read(STACK_POINTER, len(INITIAL)) == INITIAL
    return machine, payload[0]


def test_boot_maps_its_slot_and_the_bells_and_closes_their_descriptors(make: type[Machine]) -> None:
    host = Host(GREETING)
    machine, payload = booted(make, host)
    shared, both = 0x11, 3
    assert host.mapped[:2] == [
        (SLOT, SLOT_SIZE, both, shared, 7), (BELLS_BASE, PAGE, both, shared, 8),
    ]  # fmt: skip
    private, fixed, anonymous = 2, 0x10, 0x20
    table = (
        threads.TABLE, threads.TABLE_BYTES, both, private | fixed | anonymous, (1 << 64) - 1,
    )  # fmt: skip
    words = (
        signals.SIGRETURN_PAGES, 2 * LARGEST_PAGE, both, private | fixed | anonymous, (1 << 64) - 1,
    )  # fmt: skip
    assert host.mapped[2:] == ([table, words] if issubclass(make, MachineArm64) else [])
    assert host.closed == [7, 8]
    assert payload == INITIAL + bytes(8), "exactly argc, argv, envp and auxv"
    names = [name for name, _ in machine.calls if name != "rt_sigaction"]
    assert names == [
        "recvmsg", "mmap", "close", "mmap", "close",
        *(["arch_prctl"] if make is MachineX86 else []), "madvise", "sigaltstack", "prctl",
        *(["mmap", "mmap", "mprotect", "mprotect"] if issubclass(make, MachineArm64) else []),
        "rt_sigprocmask",
    ]  # fmt: skip
    by_name = dict(machine.calls)
    assert by_name["madvise"][:3] == [SLOT, SLOT_SIZE, 10]  # MADV_DONTFORK
    assert by_name["sigaltstack"][:2] == [SLOT + Slot.ALT_DESCRIPTOR, 0]
    assert by_name["prctl"][:2] == [1, 9]  # PR_SET_PDEATHSIG, SIGKILL


def test_every_signal_that_can_be_handled_is(make: type[Machine]) -> None:
    host = Host(GREETING)
    machine, _ = booted(make, host)
    assert set(host.handlers) == set(range(1, 65)) - {9, 17, 18, 19}
    assert KICK_SIGNAL in host.handlers
    (action,) = set(host.handlers.values())
    assert action == (
        machine.address("handler"),
        0x0C00_0004,
        machine.address("restorer"),
        (1 << 64) - 1,
    )


def test_what_the_program_before_left_is_closed_and_interruptions_do_not_matter(
    make: type[Machine],
) -> None:
    host = Host(-4, (SLOT, 3 << 1, [20]), (SIBLING, 4 << 1, [21, 22]), -4, GREETING)
    booted(make, host)
    assert host.closed == [20, 21, 22, 7, 8]


@pytest.mark.parametrize("messages", [[0], [-9], [8]])
def test_without_a_kernel_the_stub_ends(make: type[Machine], messages: list[int]) -> None:
    with pytest.raises(Ended):
        booted(make, Host(*messages))


def test_a_slot_that_cannot_be_mapped_ends_the_stub(make: type[Machine]) -> None:
    host = Host(GREETING)
    host.failing = "mmap"
    with pytest.raises(Ended):
        booted(make, host)
