"""The assembler: operands by Hypothesis against Capstone, labels, fixups and the memo."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import capstone
import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.asm import x86_64 as x
from codegen.asm.assembler import Assembler, Memo
from codegen.asm.decode import sweep
from codegen.asm.x86_64 import AsmX86, Mem, Reg, absolute, at, encode, gs

BASE = 0x6800_0000_1000
REGISTERS = [
    x.rax, x.rbx, x.rcx, x.rdx, x.rsi, x.rdi, x.rbp, x.rsp,
    x.r8, x.r9, x.r10, x.r11, x.r12, x.r13, x.r14, x.r15,
]  # fmt: skip
ANY = st.sampled_from(REGISTERS)
INDEX = st.sampled_from([r for r in REGISTERS if r != x.rsp])
DISPLACEMENT = st.integers(-(1 << 31), (1 << 31) - 1)
SIZES = st.sampled_from([1, 2, 4, 8])
MEMO = Memo()
DECODER = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
DECODER.detail = True


def fresh() -> AsmX86:
    return AsmX86(BASE, MEMO)


def part(register: Reg, size: int) -> Reg:
    """The part of a register that goes with a memory operand."""
    if size == 8:
        return register
    if size == 4:
        return register.low32
    if size == 1:
        return register.low8
    return Reg(f"{register}w") if register[1:].isdigit() else Reg(register[1:])


def only(a: AsmX86) -> Any:
    code = a.finish()
    (instruction,) = DECODER.disasm(code, BASE)
    assert instruction.size == len(code)
    return instruction


def memory_of(instruction: Any) -> tuple[str, str, str, int, int, int]:
    """(segment, base, index, scale, displacement, size) of the memory operand."""
    (operand,) = [o for o in instruction.operands if o.type == capstone.x86.X86_OP_MEM]
    mem = operand.mem
    segment, base, index = (
        instruction.reg_name(r) or "" for r in (mem.segment, mem.base, mem.index)
    )
    return segment, base, index, mem.scale, mem.disp, operand.size


@given(ANY, ANY, INDEX, st.sampled_from([1, 2, 4, 8]), DISPLACEMENT, SIZES, st.booleans())
@settings(max_examples=150, deadline=None)
def test_memory_operands(
    register: Reg, base: Reg, index: Reg, scale: int, displacement: int, size: int, indexed: bool
) -> None:
    mem = Mem(base, displacement, index if indexed else None, scale if indexed else 1, size)
    a = fresh()
    a.mov(mem, part(register, size))
    got = memory_of(only(a))
    wanted = ("", str(base), str(index) if indexed else "", mem.scale, displacement, size)
    plain = ("", str(index), str(base), 1, displacement, size)  # the same sum
    assert got == wanted or (indexed and scale == 1 and got == plain)


@given(st.integers(0, (1 << 31) - 1), SIZES, ANY)
@settings(max_examples=80, deadline=None)
def test_gs_fields_are_absolute(offset: int, size: int, register: Reg) -> None:
    for load in (True, False):
        a = fresh()
        operands = [part(register, size), gs(offset, size)]
        a.mov(*operands if load else operands[::-1])
        assert memory_of(only(a)) == ("gs", "", "", 1, offset, size)
        assert struct.pack("<I", offset) in a.finish()


@given(st.integers(0, 0x2000), INDEX, st.sampled_from([1, 2, 4, 8]))
@settings(max_examples=40, deadline=None)
def test_gs_fields_by_index(offset: int, index: Reg, scale: int) -> None:
    a = fresh()
    a.mov(x.rax, gs(offset, 8, index, scale))
    assert memory_of(only(a)) == ("gs", "", str(index), scale, offset, 8)


@pytest.mark.parametrize("address", [0, 0x50F_0000, 0x7FFF_FFFF, -1])
def test_absolute_addresses_are_neither_relative_nor_moffs(address: int) -> None:
    a = fresh()
    a.jmp(absolute(address))
    assert a.finish() == b"\xff\x24\x25" + struct.pack("<i", address)
    a = fresh()
    a.mov(x.rax, absolute(address))
    assert a.finish() == b"\x48\x8b\x04\x25" + struct.pack("<i", address)


@given(
    st.sampled_from([0, 0x48, 0xDD, 0xDDDD, 0x5D_DDDD, 0x5DDD_DDDD]),
    st.sampled_from([0, 0xDD, 0x48DD, 0xDD00, 0x5DDD_DDDD]) | st.integers(0, (1 << 31) - 1),
)
@settings(max_examples=80, deadline=None)
def test_an_immediate_behind_an_absolute_operand_is_left_alone(offset: int, value: int) -> None:
    """Its bytes may look like the placeholder; only the operand is rewritten."""
    a = fresh()
    a.mov(gs(offset, 4), value)
    instruction = only(a)
    assert memory_of(instruction) == ("gs", "", "", 1, offset, 4)
    assert instruction.operands[1].imm == value


@given(ANY, st.integers(0, (1 << 64) - 1))
@settings(max_examples=100, deadline=None)
def test_constants(register: Reg, value: int) -> None:
    a = fresh()
    a.constant(register, value)
    (instruction,) = DECODER.disasm(a.finish(), BASE)
    assert instruction.size <= 10
    if value == 0:
        assert instruction.mnemonic == "xor"
    else:
        wanted = str(register.low32 if value < 1 << 32 else register)
        assert instruction.reg_name(instruction.operands[0].reg) == wanted
        assert instruction.operands[1].imm & (1 << 64) - 1 == value


def test_parts_of_registers() -> None:
    assert [str(r.low32) for r in REGISTERS] == [
        "eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp",
        "r8d", "r9d", "r10d", "r11d", "r12d", "r13d", "r14d", "r15d",
    ]  # fmt: skip
    assert [str(r.low8) for r in REGISTERS] == [
        "al", "bl", "cl", "dl", "sil", "dil", "bpl", "spl",
        "r8b", "r9b", "r10b", "r11b", "r12b", "r13b", "r14b", "r15b",
    ]  # fmt: skip
    assert [str(r.low32.low32) for r in (x.r8, x.r15)] == ["r8d", "r15d"]
    assert str(at(x.rax, -8, 4)) == "dword ptr [rax - 0x8]"
    assert gs(8).sized(4) == gs(8, 4)


# ----------------------------------------------------------------------------- labels and fixups
BRANCHES = ["jmp", "call", "jo", "jno", "jb", "jae", "je", "jne", "jbe", "ja", "js", "jns", "jl",
            "jge", "jle", "jg"]  # fmt: skip


@given(st.sampled_from(BRANCHES), st.integers(0, 300), st.booleans())
@settings(max_examples=60, deadline=None)
def test_branches_reach_their_label(name: str, distance: int, forward: bool) -> None:
    a = fresh()
    target = a.label("target")
    if not forward:
        a.bind(target)
        a.set_bytes(b"\x90" * distance, "nops")
    branch_at = len(a.code)
    getattr(a, name)(target)
    if forward:
        a.set_bytes(b"\x90" * distance, "nops")
        a.bind(target)
    (branch,) = [i for i in sweep(a.finish(), 0, len(a.code)) if i.offset == branch_at]
    assert branch.mnemonic == name
    assert int(branch.operands, 0) == target.offset
    assert branch.size in {5, 6}  # never the short form


@given(ANY, st.integers(0, 200), st.booleans())
@settings(max_examples=40, deadline=None)
def test_load_address(register: Reg, distance: int, forward: bool) -> None:
    a = fresh()
    target = a.label("target")
    if not forward:
        a.bind(target)
    a.set_bytes(b"\x90" * distance, "nops")
    where = len(a.code)
    a.load_address(register, target)
    a.set_bytes(b"\x90" * distance, "nops")
    if forward:
        a.bind(target)
    code = a.finish()
    (lea,) = DECODER.disasm(code[where : where + 7], a.base + where)
    assert lea.mnemonic == "lea"
    assert lea.reg_name(lea.operands[0].reg) == register
    assert lea.reg_name(lea.operands[1].mem.base) == "rip"
    assert a.base + where + 7 + lea.operands[1].mem.disp == a.address(target)


def test_pointers_and_alignment() -> None:
    a = Assembler(BASE)
    a.emit(b"\x01\x02\x03", "data")
    a.align(8, b"\xcc")
    a.align(8, b"\xcc")
    label = a.label("later")
    a.pointer(label)
    assert a.here == BASE + 16
    a.bind(label)
    assert a.finish() == b"\x01\x02\x03" + b"\xcc" * 5 + struct.pack("<Q", BASE + 16)
    assert a.finish() == bytes(a.code), "finishing again changes nothing"
    assert [offset for offset, _ in a.listing] == [0, 8]


def test_labels_are_bound_once_and_before_the_end() -> None:
    a = fresh()
    label = a.bind("here")
    with pytest.raises(ValueError, match="bound already"):
        a.bind(label)
    missing = a.label("missing")
    assert repr(missing) == "<label missing>"
    a.jmp(missing)
    with pytest.raises(ValueError, match="never bound"):
        a.finish()


@pytest.mark.parametrize("text", ["frobnicate rax", "mov cl, rdx", ""])
def test_what_is_no_instruction_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        encode(text)


def test_mnemonics_that_are_python_words_or_have_prefixes() -> None:
    a = fresh()
    a.and_(x.rax, x.rbx)
    a.rep_movsb()
    a.lock_or(at(x.rsp, 0, 4), 0)
    assert [i.mnemonic for i in sweep(a.finish(), 0, len(a.code))] == [
        "and", "rep movsb", "lock or",
    ]  # fmt: skip
    with pytest.raises(AttributeError):
        _ = a.__wrapped__


# ---------------------------------------------------------------------------------------- the memo
def counted(calls: list[str], text: str) -> bytes:
    calls.append(text)
    return text.encode()


def test_the_memo_encodes_once_and_remembers_between_runs(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "memo.msgpack"
    calls: list[str] = []
    for _ in range(3):
        memo = Memo(file)
        for text in ("nop", "ret", "nop"):
            assert memo.encode(text, lambda t: counted(calls, t)) == text.encode()
        memo.save()
    assert calls == ["nop", "ret"]
    assert list(file.parent.iterdir()) == [file], "no temporary file stays"


def test_a_memo_that_learned_nothing_is_not_written(tmp_path: Path) -> None:
    file = tmp_path / "memo"
    Memo(file).save()
    assert not file.exists()
    Memo().save()


@given(damage=st.binary(max_size=40))
@settings(max_examples=60, deadline=None)
def test_a_damaged_memo_is_ignored(tmp_path_factory: pytest.TempPathFactory, damage: bytes) -> None:
    file = tmp_path_factory.mktemp("memo") / "memo"
    file.write_bytes(damage)
    memo = Memo(file)
    assert memo.encode("nop", lambda _: b"\x90") == b"\x90"


@pytest.mark.parametrize("kept", [0, 1, 5, -1])
def test_a_truncated_memo_is_ignored(tmp_path: Path, kept: int) -> None:
    file = tmp_path / "memo"
    file.write_bytes(msgpack.packb({"nop": b"\x90", "ret": b"\xc3"})[:kept])
    memo = Memo(file)
    assert memo.encode("ret", lambda _: b"\xc3") == b"\xc3"
    memo.save()
    assert Memo(file).known["ret"] == b"\xc3"


def test_a_memo_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    memo = Memo(blocked / "memo")
    memo.encode("nop", lambda _: b"\x90")
    memo.save()
    assert memo.known == {"nop": b"\x90"}
