"""The BPF assembler and interpreter against each other and against a plain reading."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen import bpf

WORDS = st.integers(0, 0xFFFF_FFFF)


def first_word(program: bpf.Program, word: int) -> int:
    return bpf.run(program.assemble(), struct.pack("<I", word))[0]


@given(st.integers(0, 600), st.integers(0, 600), WORDS, WORDS)
def test_jumps_reach_any_distance(near: int, far: int, word: int, limit: int) -> None:
    p = bpf.Program()
    yes, no = bpf.Label(), bpf.Label()
    p.load(0)
    p.jump(bpf.JUMP_GREATER, limit, if_true=yes, if_false=no)
    for _ in range(near):
        p.op(bpf.ADD, 1)
    p.bind(yes)
    p.ret(1)
    for _ in range(far):
        p.op(bpf.ADD, 1)
    p.bind(no)
    p.ret(2)
    assert first_word(p, word) == (1 if word > limit else 2)


@given(WORDS, WORDS)
def test_a_missing_label_is_the_next_instruction(word: int, limit: int) -> None:
    p = bpf.Program()
    far = bpf.Label()
    p.load(0)
    p.jump(bpf.JUMP_EQUAL, limit, if_false=far)
    p.ret(7)
    for _ in range(300):
        p.op(bpf.ADD, 1)
    p.bind(far)
    p.ret(8)
    assert first_word(p, word) == (7 if word == limit else 8)
    assert first_word(p, limit) == 7


@given(WORDS, WORDS)
def test_arithmetic_wraps_at_32_bits(a: int, b: int) -> None:
    p = bpf.Program()
    big = bpf.Label()
    p.load(0)
    p.op(bpf.A_TO_X)
    p.load(4)
    p.op(bpf.ADD_X)
    p.jump(bpf.JUMP_GREATER_EQUAL_X, 0, if_true=big)
    p.ret(0)
    p.bind(big)
    p.ret(1)
    carried = a + b > 0xFFFF_FFFF
    assert bpf.run(p.assemble(), struct.pack("<II", a, b))[0] == (0 if carried else 1)


def test_scratch_memory_and_bits() -> None:
    p = bpf.Program()
    odd = bpf.Label()
    p.load(0)
    p.op(bpf.STORE, 3)
    p.op(bpf.LOAD_IMMEDIATE, 0)
    p.op(bpf.LOAD_SCRATCH, 3)
    p.jump(bpf.JUMP_ANY_BIT, 1, if_true=odd)
    p.ret(0)
    p.bind(odd)
    p.ret(1)
    assert [first_word(p, n) for n in (2, 3)] == [0, 1]


def test_a_program_that_is_too_long_is_refused() -> None:
    p = bpf.Program()
    for _ in range(4097):
        p.ret(0)
    with pytest.raises(ValueError, match="BPF_MAXINSNS"):
        p.assemble()


def test_backward_jumps_are_refused() -> None:
    p = bpf.Program()
    back = bpf.Label()
    p.bind(back)
    p.load(0)
    p.jump(bpf.JUMP_EQUAL, 0, if_true=back)
    with pytest.raises(AssertionError, match="forward"):
        p.assemble()
