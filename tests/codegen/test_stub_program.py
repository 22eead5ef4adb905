"""Reply programs on the real stub: every micro-op, what fails and what the kernel hears of it."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

import pytest

from codegen.layout import CTRL_FD, PAYLOAD, Op, Request, Slot
from kernel.reply import SCRATCH, Program, Result
from tests.codegen.stub_machine import (
    MEMORY,
    SIBLING,
    SLOT,
    UNMAPPED,
    Machine,
    Trap,
    says,
    signed,
)

EAGAIN = -errno.EAGAIN
_SENDMSG_NAME = struct.Struct("<QQQQQQI4x")


def run(machine: Machine, *programs: Program, name: str = "getpgid") -> int:
    """Answer a call with the programs, one a request; the call's result."""
    left: Iterator[Program] = iter(programs)
    machine.kernel = lambda m: m.run_program(next(left))
    return machine.call(name, 0)


def ended(program: Program, result: int = 0) -> Program:
    program.op(Op.END, result)
    return program


def hostcall(machine: Machine, *, checked: bool = False) -> Program:
    program = Program()
    program.hostcall(machine.numbers["getpid"], checked=checked)
    return program


# ------------------------------------------------------------------------------- END and HOSTCALL
@pytest.mark.parametrize("result", [0, 5, -errno.EPERM, (1 << 63) - 1])
def test_end_is_the_result(machine: Machine, result: int) -> None:
    assert run(machine, ended(Program(), result)) == result


def test_a_host_call_gets_its_arguments_and_later_ops_its_result(machine: Machine) -> None:
    program = Program()
    first = program.hostcall(machine.numbers["openat"], 1, 2, 3, 4, 5, 6)
    second = program.hostcall(machine.numbers["fcntl"], first, first, 7)
    program.op(Op.END, second)
    machine.host = lambda m, number, _: 40 if number == m.numbers["openat"] else 41
    assert run(machine, program) == 41
    assert machine.calls[0] == ("openat", [1, 2, 3, 4, 5, 6])
    assert machine.calls[1][1][:3] == [40, 40, 7]


def test_every_result_register_can_be_an_argument(machine: Machine) -> None:
    program = Program()
    results = [program.hostcall(machine.numbers["dup"], i) for i in range(12)]
    program.hostcall(machine.numbers["pselect6"], *results[:6])
    program.hostcall(machine.numbers["pselect6"], *results[6:])
    machine.host = lambda _m, _n, arguments: 100 + arguments[0]
    run(machine, ended(program))
    assert machine.calls[12][1] == [100, 101, 102, 103, 104, 105]
    assert machine.calls[13][1] == [106, 107, 108, 109, 110, 111]


@pytest.mark.parametrize("result", [-1, -errno.EBADF, -4095])
def test_a_checked_failure_is_reported_with_its_index(machine: Machine, result: int) -> None:
    program = Program()
    program.hostcall(machine.numbers["getpid"], checked=False)
    program.do(machine.numbers["dup"], 9)
    program.do(machine.numbers["close"], 9)
    machine.host = says(result)
    heard: list[tuple[int, list[int]]] = []

    def kernel(m: Machine) -> None:
        heard.append(m.posted)
        if m.requests == 1:
            m.run_program(ended(program))
        else:
            m.answer(-errno.EMFILE)

    machine.kernel = kernel
    assert machine.call("getpgid", 0) == -errno.EMFILE
    number, arguments = heard[1]
    assert number == Request.FAILED
    assert (arguments[0], signed(arguments[1])) == (1, result)
    assert [n for n, _ in machine.calls] == ["getpid", "dup"]


@pytest.mark.parametrize("result", [0, 4096, -4096, -1 << 63])
def test_what_is_no_errno_is_no_failure(machine: Machine, result: int) -> None:
    machine.host = says(result)
    assert run(machine, ended(hostcall(machine, checked=True), 6)) == 6


def test_an_unchecked_failure_goes_on(machine: Machine) -> None:
    machine.host = says(-errno.EPERM)
    program = hostcall(machine)
    program.op(Op.END, Result(0))
    assert run(machine, program) == -errno.EPERM


def interruptible(machine: Machine, flags: int = 0) -> Program:
    program = Program()
    result = program.op(Op.HOSTCALL, 5, nr=machine.numbers["read"], flags=Op.INTERRUPTIBLE | flags)
    program.op(Op.END, result)
    return program


def test_an_interruptible_call_is_not_begun_when_work_is_pending(machine: Machine) -> None:
    def kernel(m: Machine) -> None:
        m.set(Slot.PENDING, 1, 4)
        m.run_program(interruptible(machine))

    machine.kernel = kernel
    with pytest.raises(Trap, match="trap_after"):
        machine.call("getpgid", 0)
    assert machine.result == -errno.EINTR
    assert not machine.calls


@pytest.mark.parametrize("reported", [False, True])
def test_eintr_is_reported_when_the_kernel_wants_to_know(machine: Machine, reported: bool) -> None:
    machine.host = says(-errno.EINTR)
    heard: list[tuple[int, list[int]]] = []

    def kernel(m: Machine) -> None:
        heard.append(m.posted)
        if m.requests == 1:
            m.run_program(interruptible(machine, Op.REPORT_EINTR if reported else 0))
        else:
            m.answer(-77)

    machine.kernel = kernel
    assert machine.call("getpgid", 0) == (-77 if reported else -errno.EINTR)
    assert [n for n, _ in heard[1:]] == ([Request.FAILED] if reported else [])


def test_another_failure_is_none_that_report_eintr_reports(machine: Machine) -> None:
    machine.host = says(-errno.EBADF)
    assert run(machine, interruptible(machine, Op.REPORT_EINTR)) == -errno.EBADF


# ------------------------------------------------------------------------------------------ memory
def test_copy_out_and_store32(machine: Machine) -> None:
    program = Program()
    program.copy_out(MEMORY, b"one")
    program.copy_out(MEMORY + 0x100, b"second")
    result = program.hostcall(machine.numbers["getpid"])
    program.op(Op.STORE32, MEMORY + 0x201, result, flags=Op.CHECKED)
    machine.host = says(0x11_2233_4455)
    assert run(machine, ended(program, 3)) == 3
    assert machine.read(MEMORY, 4) == b"one\0"
    assert machine.read(MEMORY + 0x100, 7) == b"second\0"
    assert machine.read(MEMORY + 0x200, 6) == bytes.fromhex("005544332200")
    assert machine.get(Slot.FIXUP) == 0


def test_copy_in(machine: Machine) -> None:
    machine.write(MEMORY, b"guest memory")
    program = Program()
    program.op(Op.COPY_IN, MEMORY + 6, 32, 6, flags=Op.CHECKED)
    assert run(machine, ended(program)) == 0
    assert machine.read(SLOT + PAYLOAD + 31, 8) == b"\0memory\0"


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (Op.COPY_OUT, (UNMAPPED, 0, 8)),
        (Op.COPY_OUT, (MEMORY - 4, 0, 8)),
        (Op.COPY_IN, (UNMAPPED, 0, 8)),
        (Op.STORE32, (UNMAPPED, 1)),
        (Op.STORE32, (0, 1)),
    ],
)
def test_a_bad_guest_address(machine: Machine, code: int, arguments: tuple[int, ...]) -> None:
    program = Program()
    result = program.op(code, *arguments)
    program.op(Op.END, result)
    assert run(machine, program) == -errno.EFAULT
    assert machine.get(Slot.FIXUP) == 0
    program = Program()
    program.op(Op.HOSTCALL, nr=machine.numbers["getpid"], register=SCRATCH)
    program.op(code, *arguments, flags=Op.CHECKED)
    heard: list[tuple[int, list[int]]] = []
    left = iter((ended(program), ended(Program(), -1)))

    def kernel(m: Machine) -> None:
        heard.append(m.posted)
        m.run_program(next(left))

    machine.kernel = kernel
    machine.call("getpgid", 0)
    assert (heard[1][0], heard[1][1][0], signed(heard[1][1][1])) == (
        Request.FAILED, 1, -errno.EFAULT,
    )  # fmt: skip


# --------------------------------------------------------------------------------- several programs
def test_continue_asks_for_more_and_results_stay(machine: Machine) -> None:
    first = hostcall(machine)
    first.op(Op.CONTINUE)
    second = Program()
    second.op(Op.END, Result(0))
    heard: list[int] = []
    left = iter((first, second))

    def kernel(m: Machine) -> None:
        heard.append(m.posted[0])
        m.run_program(next(left))

    machine.host, machine.kernel = says(99), kernel
    assert machine.call("getpgid", 0) == 99
    assert heard == [machine.numbers["getpgid"], Request.CONTINUED]


def test_a_plain_answer_may_follow_a_program(machine: Machine) -> None:
    first = Program()
    first.op(Op.CONTINUE)

    def kernel(m: Machine) -> None:
        if m.requests == 1:
            m.run_program(first)
        else:
            m.answer(8, (MEMORY, b"x"))

    machine.kernel = kernel
    assert machine.call("getpgid", 0) == 8


def test_many_requests_leave_the_stubs_stack_where_it_was(machine: Machine) -> None:
    """A thread may run a hundred programs in one call: nothing accumulates."""
    more = hostcall(machine)
    more.op(Op.CONTINUE)
    pointers: set[int] = set()

    def kernel(m: Machine) -> None:
        pointers.add(m.register(m.STACK_POINTER))
        m.run_program(more if m.requests < 100 else ended(Program(), 1))

    machine.kernel = kernel
    assert machine.call("getpgid", 0) == 1
    assert len(pointers) == 1


@pytest.mark.parametrize("code", [11, 100, 255])
def test_an_unknown_op_is_a_broken_stub(machine: Machine, code: int) -> None:
    program = Program()
    program.op(code)
    with pytest.raises(Trap, match="stub_broken"):
        run(machine, program)


def test_a_program_without_an_end_is_a_broken_stub(machine: Machine) -> None:
    with pytest.raises(Trap, match="stub_broken"):
        run(machine, hostcall(machine))


# -------------------------------------------------------------------------------------- descriptors
class Socket:
    """The control socket: queued messages for recvmsg, and what became of descriptors."""

    def __init__(self) -> None:
        self.queue: list[tuple[int, int, list[int]]] = []  # slot, word, descriptors
        self.closed: list[int] = []
        self.flags: list[int] = []
        self.sent: list[tuple[int, int]] = []
        self.yields = 0

    def send(self, slot: int, number: int, *fds: int, cloexec: bool = False) -> None:
        self.queue.append((slot, cloexec | number << 1, list(fds)))

    def __call__(self, machine: Machine, number: int, arguments: list[int]) -> int:
        if number == machine.numbers["close"]:
            self.closed.append(arguments[0])
            return 0
        if number == machine.numbers["sched_yield"]:
            self.yields += 1
            assert self.yields < 20, "the stub waits for ever"
            return 0
        if number == machine.numbers["fcntl"]:
            self.flags.append(arguments[0])
            return 0
        assert number in {machine.numbers["recvmsg"], machine.numbers["sendmsg"]}, (
            machine.table.names[number]
        )
        assert arguments[0] == CTRL_FD
        header = _SENDMSG_NAME.unpack(machine.read(arguments[1], _SENDMSG_NAME.size))
        name, name_size, iov, iov_count, control, room, _ = header
        assert (name, name_size, iov_count) == (0, 0, 1)
        data, size = struct.unpack("<QQ", machine.read(iov, 16))
        assert size == 16
        if number == machine.numbers["sendmsg"]:
            length, level, kind, fd = struct.unpack("<QIIi", machine.read(control, 20))
            assert (length, level, kind, room) == (20, 1, 1, 24)
            self.sent.append((struct.unpack("<Q", machine.read(data, 8))[0], fd))
            return 16
        assert arguments[2] & 0x40, "a blocking recvmsg"
        if not self.queue:
            return EAGAIN
        slot, word, fds = self.queue.pop(0)
        machine.write(data, struct.pack("<QQ", slot, word))
        machine.write(control, struct.pack("<QII", 16 + 4 * len(fds), 1, 1))
        machine.write(control + 16, struct.pack(f"<{len(fds)}i", *fds))
        return 16


def receive(
    number: int, *, count: int = 1, flagged: bool = False, cloexec: bool = False
) -> Program:
    program = Program()
    flags = 0x4000_0000 if cloexec else 0
    got = program.op(Op.RECV_FDS, count, flags, int(flagged), number, flags=Op.CHECKED)
    program.op(Op.END, got)
    return program


@pytest.mark.parametrize("flagged", [False, True])
def test_a_descriptor_is_received_and_flagged(machine: Machine, flagged: bool) -> None:
    machine.host = socket = Socket()
    machine.write(SLOT + 0x1000 + 7, b"\0" if flagged else b"\1")
    socket.send(SLOT, 5, 7)
    assert run(machine, receive(5, flagged=flagged)) == 7
    assert machine.read(SLOT + 0x1000 + 7, 1) == bytes([flagged])
    assert not socket.closed


def test_two_descriptors_take_two_registers(machine: Machine) -> None:
    machine.host = socket = Socket()
    socket.send(SLOT, 5, 7, 8)
    program = Program()
    first = program.op(Op.RECV_FDS, 2, 0, 0, 5, flags=Op.CHECKED)
    second = program.next_register()
    program.op(Op.STORE32, MEMORY, first)
    program.op(Op.STORE32, MEMORY + 4, second)
    assert run(machine, ended(program)) == 0
    assert struct.unpack("<II", machine.read(MEMORY, 8)) == (7, 8)


def test_what_a_failed_program_left_is_closed(machine: Machine) -> None:
    machine.host = socket = Socket()
    socket.send(SLOT, 4, 20)
    socket.send(SLOT, 5, 21, 22)
    socket.send(SLOT, 6, 23)
    assert run(machine, receive(6)) == 23
    assert socket.closed == [20, 21, 22]


def test_a_siblings_message_goes_to_its_mailbox(machine: Machine) -> None:
    machine.host = socket = Socket()
    socket.send(SIBLING, 5, 30, cloexec=True)
    socket.send(SLOT, 6, 31)
    assert run(machine, receive(6)) == 31
    assert struct.unpack("<I", machine.read(SIBLING + Slot.MAIL_FDS, 4)) == (30,)
    (full,) = struct.unpack("<Q", machine.read(SIBLING + Slot.MAIL_FULL, 8))
    assert full >> 1 & (1 << 62) - 1 == 5
    assert full >> 63
    assert socket.flags == [30, 0xFFFF_FFFF]  # one descriptor: the other place holds -1
    assert not socket.closed


def mail(machine: Machine, number: int, *fds: int) -> None:
    """What a sibling leaves for us."""
    places = (*fds, 0xFFFF_FFFF)[:2]  # -1: only one came
    machine.set(Slot.MAIL_FDS, sum(fd << 32 * i for i, fd in enumerate(places)))
    machine.set(Slot.MAIL_FULL, 1 << 63 | number << 1)


def test_the_mailbox_is_looked_at_first(machine: Machine) -> None:
    machine.host = Socket()
    mail(machine, 5, 40)
    assert run(machine, receive(5)) == 40
    assert machine.get(Slot.MAIL_FULL) == 0


def test_mail_that_comes_late_is_waited_for(machine: Machine) -> None:
    socket = Socket()

    def host(m: Machine, number: int, arguments: list[int]) -> int:
        if number == m.numbers["sched_yield"] and socket.yields == 3:
            mail(m, 5, 41)
        return socket(m, number, arguments)

    machine.host = host
    assert run(machine, receive(5)) == 41


def test_stale_mail_is_closed(machine: Machine) -> None:
    machine.host = socket = Socket()
    mail(machine, 4, 50)
    socket.send(SLOT, 5, 51)
    assert run(machine, receive(5)) == 51
    assert socket.closed[0] == 50


def test_no_room_for_a_descriptor_is_emfile(machine: Machine) -> None:
    def host(m: Machine, number: int, arguments: list[int]) -> int:
        m.write(arguments[1] + 48, struct.pack("<I", 8))  # MSG_CTRUNC
        return 16

    machine.host = host
    program = Program()
    program.op(Op.END, program.op(Op.RECV_FDS, 1, 0, 0, 5))
    assert run(machine, program) == -errno.EMFILE


def test_a_descriptor_is_sent(machine: Machine) -> None:
    machine.host = socket = Socket()
    program = Program()
    program.op(Op.SEND_FD, 9, flags=Op.CHECKED)
    assert run(machine, ended(program)) == 0
    assert socket.sent == [(SLOT, 9)]
