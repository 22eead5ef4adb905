"""Reply programs: the bytes the stub reads."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tables
from codegen.layout import PAYLOAD, PAYLOAD_SIZE, Op, Slot
from kernel.reply import SCRATCH, Program, Reply, Result
from kernel.slot import SlotMemory

OP = struct.Struct("<BBHIQ6Q")
U64 = st.integers(0, (1 << 64) - 1)


@pytest.fixture(scope="module")
def task() -> Any:
    slot = SlotMemory(2)
    slot.reset()
    yield SimpleNamespace(slot=slot, abi=tables.load("x86_64"))
    slot.close()


def program_of(task: Any) -> list[tuple[int, ...]]:
    count = task.slot.q[Slot.OPS // 8]
    data = task.slot.mm[Slot.PROGRAM : Slot.PROGRAM + count * Slot.OP_SIZE]
    return list(OP.iter_unpack(data))


def test_an_op_fills_its_size() -> None:
    assert OP.size == Slot.OP_SIZE


@given(
    arguments=st.lists(st.tuples(st.booleans(), st.integers(-(1 << 63), (1 << 64) - 1)), max_size=6)
)
@settings(max_examples=60, deadline=None)
def test_ops_encode_numbers_and_results(arguments: list[tuple[bool, int]]) -> None:
    program = Program()
    given_ = [Result(v & 15) if is_result else v for is_result, v in arguments]
    got = program.op(Op.HOSTCALL, *given_, nr=257, flags=Op.CHECKED)
    code, register, mask, flags, number, *values = OP.unpack(program.ops[0])
    assert (code, register, flags, number, int(got)) == (Op.HOSTCALL, 0, Op.CHECKED, 257, 0)
    assert mask == sum(1 << i for i, (is_result, _) in enumerate(arguments) if is_result)
    assert values[: len(given_)] == [int(v) & (1 << 64) - 1 for v in given_]
    assert values[len(given_) :] == [0] * (6 - len(given_))


def test_registers_are_dealt_out_in_order_and_run_out() -> None:
    program = Program()
    assert [int(program.hostcall(1)) for _ in range(15)] == list(range(15))
    with pytest.raises(ValueError, match="too many results"):
        program.hostcall(1)
    program.do(3, 4)  # needs none
    assert OP.unpack(program.ops[-1])[1] == SCRATCH


def test_the_payload_is_aligned_and_limited() -> None:
    program = Program()
    assert [program.store(b"a" * n) for n in (1, 16, 17, 0)] == [0, 16, 32, 64]
    with pytest.raises(ValueError, match="full"):
        program.store(bytes(PAYLOAD_SIZE))


def test_a_program_has_a_limit(task: Any) -> None:
    program = Program()
    for _ in range(Slot.PROGRAM_LIMIT):
        program.op(Op.END, register=SCRATCH)
    program.emit(task)
    program.op(Op.END, register=SCRATCH)
    with pytest.raises(ValueError, match="too long"):
        program.emit(task)


def test_the_longest_program_ends_before_the_descriptor_flags() -> None:
    assert Slot.PROGRAM + Slot.PROGRAM_LIMIT * Slot.OP_SIZE <= 0x1000


@given(result=st.integers(-4095, (1 << 63) - 1), address=U64, data=st.binary(max_size=50))
@settings(max_examples=30, deadline=None)
def test_plain_answers(task: Any, result: int, address: int, data: bytes) -> None:
    q = task.slot.q
    q[Slot.OPS // 8] = q[Slot.OUT_LENGTH // 8] = 99
    Reply.out(result, (address, data)).emit(task)
    assert q[Slot.OPS // 8] == 0
    assert q[Slot.OUT_ADDRESS // 8] == address
    assert q[Slot.OUT_LENGTH // 8] == len(data)
    assert q[Slot.RESULT // 8] == result & (1 << 64) - 1
    assert task.slot.read_payload(0, len(data)) == data
    task.slot.write_result(result)
    assert q[Slot.OUT_LENGTH // 8] == 0


def test_several_blocks_become_a_program(task: Any) -> None:
    Reply.out(-5, (0x1000, b"one"), (0x2000, b"second")).emit(task)
    first, second, end = program_of(task)
    for op, address, data in ((first, 0x1000, b"one"), (second, 0x2000, b"second")):
        code, register, mask, flags, _, where, offset, length, *_ = op
        assert (code, register, mask, flags) == (Op.COPY_OUT, SCRATCH, 0, Op.CHECKED)
        assert (where, task.slot.mm[PAYLOAD + offset : PAYLOAD + offset + length]) == (
            address,
            data,
        )
    assert (end[0], end[5]) == (Op.END, (1 << 64) - 5)


def test_no_block_at_all_is_a_number(task: Any) -> None:
    Reply.out(7).emit(task)
    ((code, *_, result, _, _, _, _, _),) = program_of(task)
    assert (code, result) == (Op.END, 7)


@pytest.mark.parametrize(
    ("name", "sleeps"),
    [
        ("lseek", False),
        ("mmap", False),
        ("munmap", False),
        ("setsockopt", False),
        ("recvfrom", True),
        ("fcntl", True),
        ("epoll_wait", True),
    ],
)
def test_a_host_call_answers_its_result(task: Any, name: str, sleeps: bool) -> None:
    """Only what may sleep is kept from beginning by a signal, and restarted by its rule."""
    Reply.hostcall(name, 5, -1 & (1 << 64) - 1, 2).emit(task)
    call, end = program_of(task)
    flags = Op.INTERRUPTIBLE | Op.REPORT_EINTR if sleeps else 0
    assert call[:5] == (Op.HOSTCALL, 0, 0, flags, task.abi.numbers[name])
    assert call[5:8] == (5, (1 << 64) - 1, 2)
    assert (end[0], end[2], end[5]) == (Op.END, 1, call[1])
