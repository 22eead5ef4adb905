"""The arm64 assembler: what it says it emitted is what Capstone reads, operand by operand.

Keystone encodes some arm64 forms wrongly and says nothing, so no instruction of the stub is
trusted unread.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.asm import arm64
from codegen.asm.arm64 import AsmArm64, Mem, Reg, X, at, encode, indexed, post, pre, sp, xzr
from codegen.asm.assembler import Label, Memo
from codegen.asm.decode import sweep
from tests.codegen.stub_machine import stub

BASE = 0x6800_0000_1000
MEMO = Memo()
ANY = st.sampled_from(X)
_NUMBER = re.compile(r"#(-?(?:0x[0-9a-f]+|\d+))")
_BRANCHES = ("b", "bl", "cbz", "cbnz", "tbz", "tbnz", "adr")
# Capstone's name: what we call it when an operand allows both.
_ALIASES = {"mov": ("movz", "movn", "orr"), "ldur": ("ldr",), "stur": ("str",)}


def fresh() -> AsmArm64:
    return AsmArm64(BASE, MEMO)


def numbers_in_one_form(operands: str) -> str:
    """Immediates as decimal numbers; Capstone prints some negative ones as unsigned."""
    return _NUMBER.sub(lambda found: f"#{int(found[1], 0) % (1 << 64)}", operands)


def moved(mnemonic: str, operands: str) -> int:
    """The value that mov, movz or movn leaves."""
    found = [int(n, 0) for n in _NUMBER.findall(operands)]
    value = found[0] << (found[1] if len(found) > 1 else 0)
    return (~value if mnemonic == "movn" else value) & (1 << 64) - 1


def agree(said: str, mnemonic: str, operands: str, labels: dict[str, list[int]]) -> bool:
    """Whether the assembler's text and Capstone's mean the same."""
    name, _, rest = said.partition(" ")
    if name.partition(".")[0] in _BRANCHES:
        *registers, target = rest.split(", ")
        *read, place = operands.split(", ")
        if name in {"tbz", "tbnz"}:  # Capstone prints w below bit 32
            same = registers[0][1:] == read[0][1:] and int(registers[1]) == int(read[1][1:], 0)
        else:
            same = registers == read
        return name == mnemonic and same and int(place[1:], 0) in labels[target]
    if name != mnemonic and name not in _ALIASES.get(mnemonic, ()):
        return False
    if name in {"mov", "movz", "movn"} and "#" in rest:
        same = rest.partition(",")[0] == operands.partition(",")[0]
        return same and moved(name, rest) == moved(mnemonic, operands)
    return numbers_in_one_form(rest) == numbers_in_one_form(operands)


def disagreements(a: AsmArm64, code: bytes, stop: int) -> list[str]:
    """Instructions that are not what the listing says."""
    said = dict(a.listing)
    labels: dict[str, list[int]] = {}
    for label in (*a.labels, *a.places):
        assert label.offset is not None
        labels.setdefault(label.name, []).append(label.offset)
    read = {i.offset: i for i in sweep(code, 0, stop, "arm64")}
    wrong = [
        f"{said[offset]}: not decoded" for offset in said if offset < stop and offset not in read
    ]
    for offset, i in read.items():
        if not agree(said[offset], i.mnemonic, i.operands, labels):
            wrong.append(f"{offset:x}: {said[offset]}: {i.mnemonic} {i.operands}")
    return wrong


def test_what_the_assembler_says_it_emitted_is_what_capstone_reads() -> None:
    made = stub("arm64")
    assert isinstance(made.a, AsmArm64)
    stop = made.names["empty_string"].offset
    assert stop is not None
    assert disagreements(made.a, made.code, stop) == []


def test_a_wrong_encoding_is_noticed() -> None:
    for said, code in (
        ("ldr x0, [x1, #-8]", "ldr x0, [x1, #8]"),
        ("movn x0, #0x4", "movz x0, #0x4"),
        ("cmn x0, #0x4", "cmp x0, #0x4"),
        ("ldr x0, [x1], #8", "ldr x0, [x1, #8]!"),
        ("ldr x0, [x1, w2, uxtw]", "ldr x0, [x1, x2]"),
    ):
        a = fresh()
        a.emit(encode(code), said)
        assert len(disagreements(a, a.finish(), 4)) == 1, said


@given(ANY, ANY, st.integers(-32, 31), st.sampled_from(["", "pre", "post"]))
@settings(max_examples=100, deadline=None)
def test_memory_operands(register: Reg, other: Reg, step: int, mode: str) -> None:
    base = X[9] if X[9] not in {register, other} else sp
    if register == other:
        return
    places: dict[str, Callable[[Reg, int], Mem]] = {"": at, "pre": pre, "post": post}
    mem = places[mode](base, 8 * step or 8)
    a = fresh()
    a.ldp(register, other, mem)
    a.stp(register, other, mem)
    a.ldr(register, mem)
    a.str_(register.w, mem)
    assert disagreements(a, a.finish(), len(a.code)) == []


@given(ANY, ANY, ANY, st.sampled_from([0, 3]))
@settings(max_examples=60, deadline=None)
def test_indexed_operands(register: Reg, base: Reg, index: Reg, shift: int) -> None:
    a = fresh()
    a.ldr(register, indexed(base, index, shift))
    a.str_(register, indexed(base, index.w, shift))
    a.ldrb(register.w, indexed(base, index.w))
    assert disagreements(a, a.finish(), len(a.code)) == []


@given(ANY, st.integers(-(1 << 63), (1 << 64) - 1) | st.integers(-(1 << 17), 1 << 17))
@settings(max_examples=150, deadline=None)
def test_constants(register: Reg, value: int) -> None:
    a = fresh()
    a.constant(register, value)
    got = 0
    for i in sweep(a.finish(), 0, len(a.code), "arm64"):
        assert i.operands.split(",")[0] == register
        if i.mnemonic == "movk":
            part, *shift = (int(n, 0) for n in _NUMBER.findall(i.operands))
            by = shift[0] if shift else 0
            got = got & ~(0xFFFF << by) | part << by
        else:
            got = moved(i.mnemonic, i.operands)
    assert got == value & (1 << 64) - 1


CONDITIONS = ["eq", "ne", "hs", "lo", "mi", "pl", "hi", "ls", "ge", "lt", "gt", "le"]


@pytest.mark.parametrize("distance", [-0x7FFC, -4, 0, 4, 0x7FF8])
def test_branches_reach_their_label(distance: int) -> None:
    made: list[tuple[str, tuple[Reg | int, ...]]] = [("b", ()), ("bl", ())]
    made += [(f"b_{c}", ()) for c in CONDITIONS]
    for register in (X[3], X[30].w, xzr):
        made += [("cbz", (register,)), ("cbnz", (register,))]
        made += [("tbz", (register, 5)), ("tbnz", (register, 31))]
    made += [("tbz", (X[7], 63)), ("tbnz", (X[7], 32))]
    for name, operands in made:
        a = fresh()
        a.set_bytes(bytes(0x8000), "data")
        target = Label("target")
        target.offset = 0x8000 + distance
        getattr(a, name)(*operands, target)
        a.labels.append(target)
        code = a.finish()
        (branch,) = sweep(code, 0x8000, 0x8004, "arm64")
        said = a.listing[-1][1]
        assert agree(said, branch.mnemonic, branch.operands, {"target": [0x8000 + distance]}), said


@pytest.mark.parametrize(
    ("name", "operands", "bits"),
    [("tbz", (X[0], 1), 14), ("cbz", (X[0],), 19), ("b_eq", (), 19), ("b", (), 26)],
)
def test_a_branch_out_of_reach_is_an_error(
    name: str, operands: tuple[Reg | int, ...], bits: int
) -> None:
    for words, fits in ((1 << bits - 1, False), ((1 << bits - 1) - 1, True),
                        (-1 << bits - 1, True), ((-1 << bits - 1) - 1, False)):  # fmt: skip
        a = fresh()
        target = Label("target")
        target.offset = 4 * words
        getattr(a, name)(*operands, target)
        if fits:
            assert len(a.finish()) == 4
        else:
            with pytest.raises(ValueError, match="out of reach"):
                a.finish()


@given(ANY, st.integers(-(1 << 20), (1 << 20) - 1))
@settings(max_examples=60, deadline=None)
def test_load_address(register: Reg, distance: int) -> None:
    a = fresh()
    target = Label("target")
    target.offset = distance
    a.load_address(register, target)
    (adr,) = sweep(a.finish(), 0, 4, "arm64")
    assert adr.mnemonic == "adr"
    name, place = adr.operands.split(", ")
    assert (name, int(place[1:], 0)) == (str(register), distance % (1 << 64)) or (
        int(place[1:], 0) == distance
    )


def test_registers() -> None:
    assert [str(r.w) for r in (X[0], X[30])] == ["w0", "w30"]
    assert [r.number for r in (X[0], X[29].w, xzr, sp, arm64.wzr)] == [0, 29, 31, 31, 31]


@pytest.mark.parametrize("text", ["frobnicate x0", "add x0, x1, #0x12345", ""])
def test_what_is_no_instruction_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        encode(text)


def test_the_first_word_of_a_trampoline() -> None:
    (word,) = struct.unpack("<I", encode("stp x17, x30, [sp, #-32]"))
    assert word == 0xA93E_7BF1
