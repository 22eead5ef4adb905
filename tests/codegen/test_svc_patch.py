"""Patched arm64 text: what is found, what is written, and that a program cannot tell."""

from __future__ import annotations

import random
import struct
from typing import Any

import capstone
import pytest
import unicorn as untyped_unicorn
from unicorn import arm64_const as arm

from codegen.layout import PAGE, SlotArm64, Trampoline
from codegen.svc_patch import (
    REACH,
    Entries,
    Site,
    UnreachableError,
    area_size,
    find_sites,
    patch,
    reaches,
)

unicorn: Any = untyped_unicorn  # it ships no annotations

SVC, MSR, NOP = 0xD400_0001, 0xD51B_D040, 0xD503_201F
TEXT, STACK, SLOT, STUB = 0x40_0000, 0x7000_0000, 0x9000_0000, 0x6800_0000
ENTRIES = Entries(STUB, STUB + 0x100)
ANSWER = 0x1234


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def test_finds_calls_and_writes_of_the_thread_pointer() -> None:
    code = words(NOP, SVC, MSR | 7, NOP, MSR | 31, SVC)
    assert find_sites(code) == [Site(4, None), Site(8, 7), Site(16, 31), Site(20, None)]


def test_reads_of_the_thread_pointer_and_other_immediates_stay() -> None:
    code = words(0xD53B_D040, SVC | 1 << 5, SVC | 0xFFFF << 5, 0xD400_0002, 0xD51B_D020)
    assert find_sites(code) == []


def test_a_strict_scan_finds_every_immediate() -> None:
    code = words(*(SVC | immediate << 5 for immediate in (0, 1, 0x80, 0x1234, 0xFFFF)), 0xD400_0002)
    assert [site.offset for site in find_sites(code, strict=True)] == [0, 4, 8, 12, 16]


@pytest.mark.parametrize("strict", [False, True])
def test_a_scan_agrees_with_a_look_at_every_word(strict: bool) -> None:
    """Random bytes of the sites' own, so that matches at odd offsets are frequent."""
    rng = random.Random(1)
    code = bytes(rng.choice(b"\x01\x00\xd4\x40\xd0\x1b\xd5") for _ in range(400_000))
    expected = []
    for offset, (word,) in enumerate(struct.iter_unpack("<I", code)):
        if word == SVC or (strict and word & 0xFFE0_001F == SVC):
            expected.append(Site(4 * offset, None))
        elif word & ~31 == MSR:
            expected.append(Site(4 * offset, word & 31))
    assert find_sites(code, strict) == expected
    assert len(expected) > 10


def test_a_trampoline_reads_as_its_contract_says() -> None:
    patched = patch(words(NOP, MSR | 7), [Site(4, 7)], 0x1000, ENTRIES, PAGE)
    decoder = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    text = [f"{i.mnemonic} {i.op_str}" for i in decoder.disasm(patched.text, 0)]
    assert text == ["nop ", "b #0x1000"]
    assert [f"{i.mnemonic} {i.op_str}" for i in decoder.disasm(patched.area[:20], 0x1000)] == [
        "stp x17, x30, [sp, #-0x20]",
        "ldr x17, #0x1018",
        "blr x17",
        "ldp x17, x30, [x30, #0x48]",
        "b #8",
    ]
    assert struct.unpack_from("<IQ", patched.area, Trampoline.REGISTER) == (7, ENTRIES.set_tls)
    assert len(patched.area) == PAGE == area_size([Site(4, 7)], PAGE)


def test_text_without_sites_needs_no_area() -> None:
    assert patch(words(NOP), [], 1 << 40, ENTRIES, PAGE) == (words(NOP), b"")


@pytest.mark.parametrize(
    ("site", "distance", "fits"),
    [
        (0, REACH - 12, True),  # the branch back is the longest: T + 16 to the site's next word
        (0, REACH - 8, False),
        (REACH - 4, -4, True),
        (REACH, -4, False),
        (0, -REACH, True),
        (0, -REACH - 4, False),
    ],
)
def test_an_area_lies_within_reach(site: int, distance: int, fits: bool) -> None:
    assert reaches([Site(site, None)], distance) is fits


def test_an_area_out_of_reach_is_refused() -> None:
    with pytest.raises(UnreachableError):
        patch(words(SVC), [Site(0, None)], REACH, ENTRIES, PAGE)


@pytest.mark.parametrize("distance", [REACH - 12, -REACH])
def test_branches_lead_where_they_should_at_the_limits(distance: int) -> None:
    patched = patch(words(SVC), [Site(0, None)], distance, ENTRIES, PAGE)
    there, back = (
        struct.unpack("<I", patched.text)[0],
        struct.unpack_from("<I", patched.area, 16)[0],
    )
    assert target(there, 0) == distance
    assert target(back, distance + 16) == 4


def target(word: int, at: int) -> int:
    assert word >> 26 == 0b000101
    displacement = (word & (1 << 26) - 1) << 2
    return at + displacement - ((displacement >> 27) << 28)


class Machine:
    """Patched text, its area and a stub that does what the real one promises."""

    def __init__(self, code: bytes, distance: int) -> None:
        self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        patched = patch(code, find_sites(code), distance, ENTRIES, PAGE)
        for base in (TEXT, TEXT + distance, SLOT, STUB):
            self.uc.mem_map(base & -PAGE, 2 * PAGE)
        self.uc.mem_map(STACK - PAGE, PAGE)
        self.uc.mem_write(TEXT, patched.text)
        self.uc.mem_write(TEXT + distance, patched.area)
        self.stores: list[int] = []
        self.entered: list[tuple[str, int]] = []
        self.uc.hook_add(unicorn.UC_HOOK_MEM_WRITE, self._stored)
        for address in (ENTRIES.svc, ENTRIES.set_tls):
            self.uc.mem_write(address, words(0xD65F_03C0))  # ret: x30 is BACK
            self.uc.hook_add(unicorn.UC_HOOK_CODE, self._stub, None, address, address)

    def _stored(self, _uc: Any, _kind: int, address: int, _size: int, _v: int, _data: Any) -> None:
        self.stores.append(address)

    def _stub(self, uc: Any, pc: int, _size: int, _data: Any) -> None:
        back, sp = uc.reg_read(arm.UC_ARM64_REG_X30), uc.reg_read(arm.UC_ARM64_REG_SP)
        saved = bytes(uc.mem_read(sp - 32, 16))
        uc.mem_write(SLOT + SlotArm64.SAVED_X17, saved)
        (register,) = struct.unpack(
            "<I", uc.mem_read(back - Trampoline.BACK + Trampoline.REGISTER, 4)
        )
        self.entered.append(("svc" if pc == ENTRIES.svc else "msr", register))
        if pc == ENTRIES.svc:
            uc.reg_write(arm.UC_ARM64_REG_X0, ANSWER)
        # As the stub leaves: a branch to BACK with the slot's address in x30.
        uc.reg_write(arm.UC_ARM64_REG_X30, SLOT)
        uc.reg_write(arm.UC_ARM64_REG_PC, back)

    def run(self, site: int) -> tuple[dict[int, int], dict[int, int], int]:
        registers = [getattr(arm, f"UC_ARM64_REG_X{n}") for n in range(31)]
        for n, register in enumerate(registers):
            self.uc.reg_write(register, 0x1111_0000_0000 + n)
        self.uc.reg_write(arm.UC_ARM64_REG_SP, STACK - 64)
        self.uc.reg_write(arm.UC_ARM64_REG_NZCV, 0xA000_0000)
        self.stores.clear()
        before = {n: self.uc.reg_read(r) for n, r in enumerate(registers)}
        self.uc.emu_start(TEXT + site, TEXT + site + 4, count=100)
        after = {n: self.uc.reg_read(r) for n, r in enumerate(registers)}
        assert self.uc.reg_read(arm.UC_ARM64_REG_SP) == STACK - 64
        assert self.uc.reg_read(arm.UC_ARM64_REG_NZCV) == 0xA000_0000
        return before, after, self.uc.reg_read(arm.UC_ARM64_REG_PC)


@pytest.mark.parametrize("distance", [0x10_0000, -0x20_0000, REACH - 0x10000])
def test_a_call_changes_x0_only_and_stores_below_the_stack_only(distance: int) -> None:
    machine = Machine(words(NOP, SVC, NOP, SVC, NOP), distance)
    for site in (4, 12):
        before, after, pc = machine.run(site)
        assert pc == TEXT + site + 4
        assert after == before | {0: ANSWER}
        assert all(STACK - 64 - 32 <= address < STACK - 64 for address in machine.stores)
    assert machine.entered == [("svc", 0), ("svc", 0)]


def test_a_write_of_the_thread_pointer_changes_no_other_register() -> None:
    machine = Machine(words(MSR | 9, MSR | 17, NOP), 0x1_0000)
    for site in (0, 4):
        before, after, pc = machine.run(site)
        assert (after, pc) == (before, TEXT + site + 4)
    assert machine.entered == [("msr", 9), ("msr", 17)]
