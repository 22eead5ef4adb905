"""Patched text with instructions that name x18: the area, its reach, and whole programs."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
import unicorn as untyped_unicorn
from unicorn import arm64_const as arm

from codegen import x18
from codegen.asm.decode import sweep
from codegen.layout import PAGE, SlotArm64, Trampoline
from codegen.svc_patch import (
    REACH,
    Entries,
    Site,
    UnreachableError,
    area_size,
    bodies,
    find_sites,
    patch,
    reaches,
)
from kernel.scanned import Area
from tests.codegen import x18_examples as examples
from tests.codegen.x18_examples import TEXTS, assemble

unicorn: Any = untyped_unicorn  # it ships no annotations

SVC, MSR_X9, MSR_X18 = 0xD400_0001, 0xD51B_D049, 0xD51B_D052
NOP, MOV_X18 = 0xD503_201F, 0xAA01_03F2  # mov x18, x1
TEXT, DATA, STACK, SLOT, STUB = 0x4000_0000, 0x7000_0000, 0x7100_0000, 0x9000_0000, 0x6800_0000
ENTRIES = Entries(STUB, STUB + 0x100, STUB + 0x200)
MARGIN = REACH - x18.REACH
GARBAGE = 0xBAD0_BAD0_BAD0_BAD0
MEMORY_SIZE = 4 * PAGE


def pack(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def sites_of(code: bytes) -> list[Site]:
    return find_sites(code, x18_in=[(0, len(code))])


# ---------------------------------------------------------------------------------------- the area
def test_bodies_stand_behind_all_trampolines() -> None:
    code = pack(MOV_X18, SVC, MOV_X18, MSR_X9, NOP)
    sites = sites_of(code)
    assert [(s.offset, s.register, s.x18) for s in sites] == [
        (0, None, MOV_X18), (4, None, 0), (8, None, MOV_X18), (12, 9, 0),
    ]  # fmt: skip
    assert bodies(sites) == [sites[0], sites[2]]
    patched = patch(code, sites, PAGE, ENTRIES, PAGE)
    assert len(patched.area) == PAGE == area_size(sites, PAGE)
    entries = [
        struct.unpack_from("<IQ", patched.area, n * Trampoline.SIZE + Trampoline.REGISTER)
        for n in range(4)
    ]
    assert entries == [(0, ENTRIES.x18), (0, ENTRIES.svc), (0, ENTRIES.x18), (9, ENTRIES.set_tls)]
    first = 4 * Trampoline.SIZE
    for number, site in ((0, sites[0]), (2, sites[2])):
        back = number * Trampoline.SIZE + Trampoline.BACK
        body = first + bodies(sites).index(site) * x18.BODY_SIZE
        (jump,) = sweep(patched.area, back, back + 4, "arm64")
        assert (jump.mnemonic, int(jump.operands[1:], 0)) == ("b", body)
        assert patched.area[body : body + x18.BODY_SIZE] == x18.body(
            MOV_X18, site.offset, PAGE + body
        )
    assert not any(patched.area[first + 2 * x18.BODY_SIZE :])


def test_a_body_is_found_by_its_address() -> None:
    code = pack(MOV_X18, SVC, MOV_X18)
    sites = sites_of(code)
    area = Area(0x10_0000, 0x8_0000, sites)
    first = 0x10_0000 + 3 * Trampoline.SIZE
    assert area.find_body(first - 4) is None
    assert area.find_body(first) == (first, sites[0])
    assert area.find_body(first + x18.BODY_SIZE - 4) == (first, sites[0])
    assert area.find_body(first + x18.BODY_SIZE) == (first + x18.BODY_SIZE, sites[2])
    assert area.find_body(first + 2 * x18.BODY_SIZE) is None
    assert area.find(first) is None
    assert area.find(first - 4) == (first - Trampoline.SIZE, sites[2])


@pytest.mark.parametrize("page", [PAGE, 16 << 10, 64 << 10])
def test_an_area_is_whole_pages(page: int) -> None:
    used = Trampoline.SIZE + x18.BODY_SIZE
    for count, pages in ((1, 1), (page // used, 1), (page // used + 1, 2)):
        sites = [Site(4 * n, None, MOV_X18) for n in range(count)]
        assert area_size(sites, page) == pages * page
        code = pack(*[MOV_X18] * count)
        assert len(patch(code, sites, 1 << 20, ENTRIES, page).area) == pages * page


def test_a_write_of_the_thread_pointer_from_x18_has_no_body() -> None:
    """The stub reads the guest's x18 by itself."""
    sites = sites_of(pack(MSR_X18))
    assert sites == [Site(0, 18)]
    patched = patch(pack(MSR_X18), sites, PAGE, ENTRIES, PAGE)
    assert struct.unpack_from("<IQ", patched.area, Trampoline.REGISTER) == (18, ENTRIES.set_tls)


# ------------------------------------------------------------------------------------------- reach
@pytest.mark.parametrize("word", [examples.relative("cbz x{}, #{}", 0xF_FFFC).word, MOV_X18])
@pytest.mark.parametrize("count", [1, 100])
def test_whatever_is_said_to_be_in_reach_is(word: int, count: int) -> None:
    """At the limits, with instructions that branch as far as they can, both ways."""
    far = examples.relative("cbz x{}, #{}", -0x10_0000).word
    sites = [Site(4 * n, None, (word, far)[n % 2]) for n in range(count)]
    code = pack(*(site.x18 for site in sites))
    used = count * (Trampoline.SIZE + x18.BODY_SIZE)
    behind = (MARGIN - Trampoline.BACK - used + Trampoline.SIZE) & -PAGE
    for distance in (behind, (sites[-1].offset - MARGIN + PAGE - 1) & -PAGE):
        assert reaches(sites, distance)
        patched = patch(code, sites, distance, ENTRIES, PAGE)
        _check_branches(sites, distance, patched.text, patched.area)
    assert not reaches(sites, behind + PAGE)
    assert not reaches(sites, ((sites[-1].offset - MARGIN) & -PAGE) - PAGE)
    with pytest.raises(UnreachableError):
        patch(code, sites, behind + PAGE, ENTRIES, PAGE)


def _target(word: int, at: int) -> int:
    assert word >> 26 == 0b000101
    displacement = (word & (1 << 26) - 1) << 2
    return at + displacement - ((displacement >> 27) << 28)


def _check_branches(sites: list[Site], distance: int, text: bytes, area: bytes) -> None:
    """Every branch leads to the site's trampoline, its next word or where it branches itself."""
    first = len(sites) * Trampoline.SIZE
    for number, site in enumerate(sites):
        trampoline, body = number * Trampoline.SIZE, first + number * x18.BODY_SIZE
        (word,) = struct.unpack_from("<I", text, site.offset)
        assert _target(word, site.offset) == distance + trampoline
        (word,) = struct.unpack_from("<I", area, trampoline + Trampoline.BACK)
        assert _target(word, trampoline + Trampoline.BACK) == body
        ends = {
            _target(word, distance + body + 4 * n)
            for n, (word,) in enumerate(struct.iter_unpack("<I", area[body:][: x18.BODY_SIZE]))
            if word >> 26 == 0b000101
        }
        own = {x18.target(site.x18, site.offset)} if site.x18 != MOV_X18 else set()
        assert ends == {site.offset + 4} | own


def test_the_margin_is_for_text_with_x18_only() -> None:
    assert reaches([Site(0, None)], REACH - Trampoline.BACK)
    assert not reaches([Site(0, None, MOV_X18)], REACH - Trampoline.BACK)
    assert reaches([Site(0, None), Site(4, 3)], MARGIN)
    assert not reaches([Site(0, None), Site(4, None, MOV_X18)], MARGIN)
    assert reaches([], 1 << 40)


# -------------------------------------------------------------------------------- whole programs
class Guest:
    """A program's registers and memory; `patched`: x18 is the host's, sites lead to a stub."""

    def __init__(self, code: bytes, distance: int, patched: bool) -> None:
        self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self.uc.ctl_set_cpu_model(arm.UC_CPU_ARM64_MAX)
        self.patched, self.end = patched, TEXT + len(code)
        self.calls: list[tuple[str, list[int]]] = []
        made = patch(code, sites_of(code), distance, ENTRIES, PAGE)
        for base in (TEXT, TEXT + distance, DATA, STACK, SLOT, STUB):
            self.uc.mem_map(base, 16 * PAGE)
        self.uc.mem_write(TEXT, made.text if patched else code)
        self.uc.mem_write(TEXT + distance, made.area)
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self._called)
        for entry in (ENTRIES.svc, ENTRIES.set_tls, ENTRIES.x18):
            self.uc.mem_write(entry, pack(0xD65F_03C0))  # ret: x30 is BACK
            self.uc.hook_add(unicorn.UC_HOOK_CODE, self._stub, None, entry, entry)

    def x(self, number: int) -> int:
        if number == 18 and self.patched:
            return int.from_bytes(self.uc.mem_read(SLOT + SlotArm64.X18, 8), "little")
        return int(self.uc.reg_read(self._register(number)))

    @staticmethod
    def _register(number: int) -> int:
        return int(getattr(arm, f"UC_ARM64_REG_X{number}"))

    def set(self, number: int, value: int) -> None:
        if number == 18 and self.patched:
            self.uc.mem_write(SLOT + SlotArm64.X18, struct.pack("<Q", value))
            value = GARBAGE
        self.uc.reg_write(self._register(number), value)

    def _call(self, name: str) -> None:
        """The kernel's answer depends on everything that it can see."""
        self.calls.append((name, [self.x(n) for n in range(15)]))
        if name == "svc":
            self.set(0, sum(self.x(n) * (n + 3) for n in range(15)) & 0xFFFF)

    def _called(self, uc: Any, _number: int, _data: Any) -> None:
        assert not self.patched, hex(uc.reg_read(arm.UC_ARM64_REG_PC))
        self._call("svc")

    def _stub(self, uc: Any, pc: int, _size: int, _data: Any) -> None:
        back = uc.reg_read(arm.UC_ARM64_REG_X30)
        x17, x30 = struct.unpack("<2Q", uc.mem_read(uc.reg_read(arm.UC_ARM64_REG_SP) - 32, 16))
        for at, value in zip(
            (SlotArm64.SAVED_X15, SlotArm64.SAVED_X16, SlotArm64.SAVED_X17, SlotArm64.SAVED_X30),
            (self.x(15), self.x(16), x17, x30), strict=True,
        ):  # fmt: skip
            uc.mem_write(SLOT + at, struct.pack("<Q", value))
        if pc == ENTRIES.svc:
            self._call("svc")
        elif pc == ENTRIES.set_tls:
            at = back - Trampoline.BACK + Trampoline.REGISTER
            (number,) = struct.unpack("<I", uc.mem_read(at, 4))
            uc.reg_write(arm.UC_ARM64_REG_TPIDR_EL0, self.x(number))
        uc.reg_write(arm.UC_ARM64_REG_X17, GARBAGE)
        uc.reg_write(arm.UC_ARM64_REG_X18, GARBAGE)
        uc.reg_write(arm.UC_ARM64_REG_X30, SLOT)
        uc.reg_write(arm.UC_ARM64_REG_PC, back)

    def run(self, values: list[int], memory: bytes) -> tuple[Any, ...]:
        for number, value in enumerate(values):
            self.set(number, value)
        self.uc.reg_write(arm.UC_ARM64_REG_SP, STACK + 8 * PAGE)
        self.uc.mem_write(DATA, memory)
        self.uc.emu_start(TEXT, self.end, count=20_000)
        assert self.uc.reg_read(arm.UC_ARM64_REG_PC) == self.end
        return (
            [self.x(n) for n in range(31)],
            [self.uc.reg_read(r) for r in (arm.UC_ARM64_REG_SP, arm.UC_ARM64_REG_NZCV)],
            self.uc.reg_read(arm.UC_ARM64_REG_TPIDR_EL0),
            bytes(self.uc.mem_read(DATA, len(memory))),
            self.calls,
        )


# Registers of random programs: these hold numbers, x20 and x21 addresses in DATA, x22 a small one.
NUMBERS = (0, 1, 2, 3, 15, 16, 17, 30, 18, 18, 18, 18)
_MEMORY = ("[", "sp", "fpcr", "dc ", "ic ")
_PURE = [form for form in TEXTS if not any(part in form for part in _MEMORY)]


def random_word(rng: random.Random) -> int:
    kind = rng.randrange(12)
    picked = rng.sample(NUMBERS, 4)
    if kind == 0:
        return rng.choice((SVC, MSR_X9, MSR_X18))
    if kind < 3:
        access = rng.choice(("ldr x{}", "str x{}", "ldrsw x{}", "strb w{}", "ldr w{}", "ldar x{}"))
        return assemble(f"{access.format(picked[0])}, [x{rng.choice((20, 21))}]")
    if kind == 3:
        return assemble(f"{rng.choice(('ldp', 'stp'))} x{picked[0]}, x22, [x20, #16]")
    if kind == 4:
        return assemble(rng.choice(("str x18, [sp, #-16]!", "ldr x18, [sp], #16")))
    if kind == 5:  # over the next word
        form = rng.choice(("cbz x{}, #8", "cbnz w{}, #8", "tbz x{}, #40, #8", "tbnz w{}, #3, #8"))
        return assemble(form.format(picked[0]))
    if kind == 6:
        return examples.adr(rng.randrange(-64, 64)) if rng.random() < 0.5 else examples.adrp(3)
    form = rng.choice(_PURE)
    word = assemble(form.format(*picked[: form.count("{}")]))
    return word if x18.rewrite(word) or 18 not in picked else NOP  # beyond what bodies can do


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("distance", [0x10_0000, -0x20_0000, 0x7D0_0000])
def test_a_program_cannot_tell(seed: int, distance: int) -> None:
    rng = random.Random(seed)
    code = pack(*(random_word(rng) for _ in range(400)), NOP)
    values = [rng.getrandbits(64) for _ in range(31)]
    values[20], values[21], values[22] = DATA + 0x100, DATA + 0x200, 8
    memory = rng.randbytes(MEMORY_SIZE)
    native = Guest(code, distance, patched=False).run(values, memory)
    assert Guest(code, distance, patched=True).run(values, memory) == native
    assert len(bodies(sites_of(code))) > 60
    assert native[4]
