"""What a handler answers: a number, or a short program for the stub to run.

A reply is written into the task's slot by `emit`; only the ring then publishes it. The program's
format is codegen.layout.Op. Payload offsets are relative to the slot's payload area.
"""

from __future__ import annotations

import operator
import os
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from codegen.layout import PAYLOAD_SIZE, Op, Slot

if TYPE_CHECKING:
    from kernel.fs.openfile import OpenFile
    from kernel.slot import SlotMemory
    from kernel.task import Task
    from tables import Table

_OP = struct.Struct("<BBHIQ6Q")
_OP_HEAD = 16  # bytes before an op's arguments
_MASK64 = (1 << 64) - 1
_EPOLL_WAITS = frozenset(("epoll_wait", "epoll_pwait", "epoll_pwait2"))  # sleep, never restart
SCRATCH = 15  # the result register of ops whose result nobody needs


class Result(int):
    """`RESULTS[n]`: the result of an earlier micro-op, used as an argument of a later one."""


class Hole(int):
    """Argument n of `Template.emit`: what an op of a template takes when it is used."""


_REGISTERS = [Result(n) for n in range(SCRATCH + 1)]
_PACK = _OP.pack
_REST = [(0,) * (6 - n) for n in range(7)]


class Program:
    """Micro-ops under construction. Arguments are integers or `Result` references."""

    def __init__(self) -> None:
        self.ops: list[bytes] = []
        self.holes: list[tuple[int, int]] = []  # (index of the u64 in the slot, the Hole's number)
        self.payload = bytearray()
        self._registers = 0

    def op(
        self, code: int, *args: int, nr: int = 0, flags: int = 0, register: int | None = None
    ) -> Result:
        """Append an op; its result register is returned for use by later ops."""
        mask, i = 0, 1
        for a in args:
            if a.__class__ is not int:
                if a.__class__ is Result:
                    mask |= i
                elif a.__class__ is Hole:
                    self.holes.append((self._argument(i.bit_length() - 1), a))
            i <<= 1
        target = self.next_register() if register is None else _REGISTERS[register]
        values = [a & _MASK64 for a in args]
        self.ops.append(_PACK(code, target, mask, flags, nr, *values, *_REST[len(values)]))
        return target

    def _argument(self, number: int) -> int:
        """Where argument `number` of the op to be appended will lie in the slot."""
        return (Slot.PROGRAM + Slot.OP_SIZE * len(self.ops) + _OP_HEAD) // 8 + number

    def next_register(self) -> Result:
        """A register for a result; RECV_FDS of two descriptors also fills the next one."""
        register = self._registers
        if register == SCRATCH:
            raise ValueError("reply program keeps too many results")
        self._registers = register + 1
        return _REGISTERS[register]

    def do(self, nr: int, *args: int) -> None:
        """A checked host call whose result nobody needs."""
        self.op(Op.HOSTCALL, *args, nr=nr, flags=Op.CHECKED, register=SCRATCH)

    def hostcall(self, nr: int, *args: int, checked: bool = True) -> Result:
        """Run a host system call in the guest; an error ends the program when `checked`."""
        return self.op(Op.HOSTCALL, *args, nr=nr, flags=Op.CHECKED if checked else 0)

    def copy_out(self, address: int, data: bytes) -> None:
        """Copy `data` to guest memory; a bad address ends the program with EFAULT."""
        offset = self.store(data)
        self.op(Op.COPY_OUT, address, offset, len(data), flags=Op.CHECKED, register=SCRATCH)

    def store(self, data: bytes) -> int:
        """Put `data` into the payload (16-byte aligned); its offset."""
        self.payload += bytes(-len(self.payload) % 16)
        offset = len(self.payload)
        self.payload += data
        if offset + len(data) > PAYLOAD_SIZE:
            raise ValueError("reply program's payload is full")
        return offset

    @property
    def room(self) -> int:
        """How many bytes the payload still takes in one block."""
        return PAYLOAD_SIZE - len(self.payload) - 16

    def beginning(self, count: int) -> Program:
        """The first `count` ops as a program of their own, which are no longer in this one."""
        first = Program()
        first.ops, self.ops = self.ops[:count], self.ops[count:]
        first.payload = self.payload
        return first

    def emit(self, task: Task) -> None:
        """Write the program into the task's slot."""
        slot = task.slot
        if len(self.ops) > Slot.PROGRAM_LIMIT:
            raise ValueError("reply program is too long")
        if self.payload:
            slot.write_payload(self.payload)
        slot.write_program(self.ops)


class Template:
    """A program packed once and used often; its `Hole` arguments are filled in at each use.

    The ops are runs of constant bytes with holes between them, so that one call packs them all.
    """

    def __init__(self, program: Program) -> None:
        ops = b"".join(program.ops)
        layout, done = "<", 0
        self._parts: list[bytes | int] = []  # constant, hole, constant, ..., constant
        for at, _ in program.holes:
            offset = 8 * at - Slot.PROGRAM
            layout += f"{offset - done}sQ"
            self._parts += (ops[done:offset], 0)
            done = offset + 8
        self._parts.append(ops[done:])
        self._struct = struct.Struct(f"{layout}{len(ops) - done}s")
        numbers = [int(number) for _, number in program.holes]
        self._pick = operator.itemgetter(*numbers) if len(numbers) > 1 else None
        self._numbers = numbers
        self._count = len(program.ops)
        self._payload = bytes(program.payload)

    def emit(self, slot: SlotMemory, values: Sequence[int]) -> None:
        """Write it into `slot`; Hole(n) becomes `values[n]`, an unsigned number."""
        if self._payload:
            slot.write_payload(self._payload)
        parts = self._parts
        if self._pick is not None:
            parts[1::2] = self._pick(values)
        else:
            parts[1::2] = [values[n] for n in self._numbers]
        slot.write_packed(self._struct, parts, self._count)


class Reply:
    """Answers that are more than a number; `emit` writes them into the slot."""

    __slots__ = ()

    def emit(self, task: Task) -> None:
        """Write this answer into `task`'s slot."""
        raise NotImplementedError

    @staticmethod
    def out(result: int, *outs: tuple[int, bytes]) -> Reply:
        """Copy each (guest address, data) out, then answer `result`; a bad address is EFAULT."""
        if len(outs) == 1:
            return OutReply(result, outs[0][0], outs[0][1])
        program = Program()
        for address, data in outs:
            program.copy_out(address, data)
        program.op(Op.END, result)
        return ProgramReply(program)

    @staticmethod
    def descriptor(host_fd: int, cloexec: bool, open_file: OpenFile | None = None) -> Reply:
        """Hand the guest `host_fd` as its lowest free descriptor; ours is closed once sent.

        With `open_file` the descriptor is flagged: its calls come to the kernel.
        """
        return DescriptorReply(host_fd, cloexec, open_file)

    @staticmethod
    def descriptors(
        files: Sequence[tuple[int, bool, OpenFile | None]], out: int, result: int = 0
    ) -> Reply:
        """Hand over several descriptors and write their numbers as int32[] at `out`."""
        return DescriptorsReply(files, out, result)

    @staticmethod
    def hostcall(name: str, *args: int) -> Reply:
        """The stub runs the host call `name` itself and answers its result."""
        return HostCallReply(name, args)

    @staticmethod
    def program(program: Program) -> Reply:
        """A ready program."""
        return ProgramReply(program)

    @staticmethod
    def template(template: Template, values: Sequence[int]) -> Reply:
        """A template with its values."""
        return TemplateReply(template, values)


class OutReply(Reply):
    """One block copied out, then a result: the plain answer's fast form."""

    __slots__ = ("address", "data", "result")

    def __init__(self, result: int, address: int, data: bytes) -> None:
        self.result = result
        self.address = address
        self.data = data

    def emit(self, task: Task) -> None:
        task.slot.write_out(self.result, self.address, self.data)


class ProgramReply(Reply):
    """A program built elsewhere."""

    __slots__ = ("_program",)

    def __init__(self, program: Program) -> None:
        self._program = program

    def emit(self, task: Task) -> None:
        self._program.emit(task)


class TemplateReply(Reply):
    """A template and what fills its holes."""

    __slots__ = ("_template", "_values")

    def __init__(self, template: Template, values: Sequence[int]) -> None:
        self._template = template
        self._values = values

    def emit(self, task: Task) -> None:
        self._template.emit(task.slot, self._values)


def sleeping_flags(abi: Table, name: str) -> int:
    """The flags of a host call that is made for a guest's call of that name.

    Where Linux would sleep in the call, a signal prevents or ends it, and the call's restart rule
    decides what becomes of it. Elsewhere it is simply made: no signal makes mmap(2) fail.
    """
    sleeps = name in _EPOLL_WAITS or abi.syscalls[name].restart != "never"
    return Op.INTERRUPTIBLE | Op.REPORT_EINTR if sleeps else 0


class HostCallReply(Reply):
    """One host call whose result is the answer."""

    __slots__ = ("args", "name")

    def __init__(self, name: str, args: tuple[int, ...]) -> None:
        self.name = name
        self.args = args

    def emit(self, task: Task) -> None:
        program = Program()
        nr, flags = task.abi.numbers[self.name], sleeping_flags(task.abi, self.name)
        program.op(Op.END, program.op(Op.HOSTCALL, *self.args, nr=nr, flags=flags))
        program.emit(task)


class DescriptorReply(Reply):
    """One descriptor, sent over the control socket and received by the stub."""

    __slots__ = ("cloexec", "host_fd", "open_file")

    def __init__(self, host_fd: int, cloexec: bool, open_file: OpenFile | None) -> None:
        self.host_fd = host_fd
        self.cloexec = cloexec
        self.open_file = open_file

    def emit(self, task: Task) -> None:
        task.process.channel.give_one(task, self.host_fd, self.cloexec, self.open_file)


class DescriptorsReply(Reply):
    """Several descriptors whose numbers are stored in guest memory."""

    __slots__ = ("address", "files", "result")

    def __init__(
        self, files: Sequence[tuple[int, bool, OpenFile | None]], address: int, result: int
    ) -> None:
        self.files = files
        self.address = address
        self.result = result

    def emit(self, task: Task) -> None:
        program = Program()
        channel = task.process.channel
        if len(self.files) == 2 and all(f is None for _, _, f in self.files):
            # Both in one message: what another thread may receive for us comes in one piece.
            (one, cloexec, _), (two, _, _) = self.files
            try:
                numbers = [channel.transfer(task, program, [one, two], cloexec)]
            finally:
                os.close(one)
                os.close(two)
            numbers.append(program.next_register())
        else:
            numbers = [
                channel.give(task, program, host_fd, cloexec, open_file)
                for host_fd, cloexec, open_file in self.files
            ]
        for i, number in enumerate(numbers):
            program.op(Op.STORE32, self.address + 4 * i, number, flags=Op.CHECKED)
        program.op(Op.END, self.result)
        task.recover = lambda _index, errno: _take_back(task, numbers, errno)
        program.emit(task)


def _take_back(task: Task, numbers: Sequence[Result], errno: int) -> Reply:
    """The guest cannot be told its new descriptors: close those it has received."""
    program = Program()
    for number in numbers:
        program.op(Op.HOSTCALL, number, nr=task.abi.numbers["close"], register=SCRATCH)
    program.op(Op.END, -errno)
    return ProgramReply(program)


Answer = int | Reply
