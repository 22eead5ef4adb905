"""Instructions with x18: how they are rewritten, and where they are found."""

from __future__ import annotations

import math
import random
import re
import struct
from collections.abc import Iterable

import pytest

from codegen import x18
from codegen.asm.decode import words as decoded
from codegen.layout import PAGE
from codegen.svc_patch import Site, find_sites
from codegen.x18 import find, rewrite
from tests.codegen import x18_examples as examples
from tests.codegen.x18_examples import BRANCHES, CROWDED, FORMS, JUMPS, LITERALS, ORDINARY, assemble

RET, NOP = 0xD65F_03C0, 0xD503_201F
MOV_X18 = 0xAA01_03F2  # mov x18, x1


def pack(values: Iterable[int]) -> bytes:
    listed = list(values)
    return struct.pack(f"<{len(listed)}I", *listed)


def read(word: int) -> tuple[str, str]:
    return decoded(pack([word]))[0]


def registers(text: str) -> set[int]:
    return {int(n) for n in re.findall(r"\b[wx](\d+)\b", text)}


# ------------------------------------------------------------------------------------- rewriting
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("others", [ORDINARY, CROWDED])
def test_an_instruction_is_the_same_with_another_register(
    form: str, others: tuple[int, ...]
) -> None:
    tried = 0
    for word, text in examples.instances(form, others):
        name, operands = read(word)
        free = {15, 16, 17, 30} - registers(operands)
        if name == ".byte":  # unpredictable, or so the disassembler thinks
            assert len(re.findall(r"\b[wx]18\b", text)) > 1, text
            continue
        plan = rewrite(word)
        if len(free) < 2:
            assert plan is None, text
            continue
        assert plan is not None, text
        assert plan.kind == "plain", text
        assert {plan.scratch, plan.base} <= free
        assert plan.scratch != plan.base
        assert read(plan.word) == (name, re.sub(r"\b([wx])18\b", rf"\g<1>{plan.scratch}", operands))
        if form not in examples.WORDS:  # the assembler agrees
            again = re.sub(r"\b([wx])18\b", rf"\g<1>{plan.scratch}", text)
            assert read(assemble(again)) == read(plan.word), text
        tried += 1
    assert tried


@pytest.mark.parametrize("form", [*BRANCHES, *LITERALS])
@pytest.mark.parametrize("distance", [0x48, 18 << 12 | 0x48, -0x48, 0x7FFC, -0x8000])
def test_a_relative_instruction_keeps_its_target(form: str, distance: int) -> None:
    word, text = examples.relative(form, distance)
    plan = rewrite(word) if abs(distance) <= 0x8000 or not form.startswith("tb") else None
    if plan is None:  # a test branch reaches 32 KiB
        assert abs(distance) > 0x8000
        return
    assert plan.kind == ("compare" if form in BRANCHES else "literal")
    assert plan.word == assemble(re.sub(r"^(\w+ [wx])18", rf"\g<1>{plan.scratch}", text))
    assert x18.target(word, 0x4000) == 0x4000 + distance


@pytest.mark.parametrize("distance", [0, 3, 0x48, -1, -0x10_0000, 0xF_FFFF, 18 << 5])
def test_an_address_keeps_its_value(distance: int) -> None:
    word = examples.adr(distance)
    plan = rewrite(word)
    assert plan is not None
    assert (plan.kind, plan.word) == ("address", word & ~31 | plan.scratch)
    assert x18.target(word, 0x1234) == 0x1234 + distance
    page = examples.adrp(distance)
    assert x18.target(page, 0x1234) == 0x1000 + distance * PAGE


@pytest.mark.parametrize("name", JUMPS)
def test_a_jump_goes_through_x17(name: str) -> None:
    plan = rewrite(JUMPS[name])
    assert plan is not None
    assert (plan.scratch, plan.base) == (17, 30)
    assert plan.kind == ("call" if name.startswith("bl") else "jump")


@pytest.mark.parametrize(
    "word",
    [
        pytest.param(0xD71F_0A51, id="braa x18, x17"),
        pytest.param(0xD73F_0BD2, id="blraa x30, x18"),
        pytest.param(0x4832_7C82, id="casp x18, x19, x2, x3, [x4]"),
        pytest.param(0x4822_7C92, id="casp x2, x3, x18, x19, [x4]"),
        pytest.param(0xF83F_D032, id="ld64b x18, [x1]"),
    ],
)
def test_what_no_body_can_run_is_left_alone(word: int) -> None:
    assert "x18" in read(word)[1]
    assert rewrite(word) is None


def test_a_pair_at_x18_is_no_pair_of_x18() -> None:
    word = 0x4824_7E42  # casp x4, x5, x2, x3, [x18]
    assert rewrite(word) is not None


@pytest.mark.parametrize("text", examples.LEFT_ALONE)
def test_eighteen_is_not_always_x18(text: str) -> None:
    assert rewrite(assemble(text)) is None


def test_random_words_are_rewritten_if_they_name_x18() -> None:
    """Against another look at the disassembly: nothing that names x18 in a register is missed."""
    rng = random.Random(18)
    seen = 0
    for _ in range(20_000):
        word = rng.getrandbits(32)
        at = rng.choice((0, 5, 10, 16))
        word = word & ~(31 << at) | 18 << at
        name, operands = read(word)
        used = registers(operands)
        plan = rewrite(word)
        if 18 not in used:
            assert plan is None, (name, operands)
        elif plan is None:
            pairs = name.startswith(("casp", "ld64b", "st64b"))
            assert pairs or len({15, 16, 17, 30} - used) < 2, (name, operands)
        else:
            seen += 1
            assert registers(read(plan.word)[1]) == used - {18} | {plan.scratch}
    assert seen > 2000


# --------------------------------------------------------------------------------------- finding
def constants() -> bytes:
    """What ciphers keep between their functions: SHA-2's, AES's tables, a name."""
    primes = [n for n in range(2, 500) if all(n % d for d in range(2, math.isqrt(n) + 1))]
    sha256 = [int(p ** (1 / 3) % 1 * 2**32) for p in primes[:64]]
    sha512 = [(round(p**0.5 * 2**52) << 12) & (1 << 64) - 1 for p in primes[:80]]
    box, inverse = [0] * 256, 1
    log = [0] * 256
    power = [1] * 256
    for i in range(1, 256):
        power[i] = power[i - 1] ^ power[i - 1] << 1 ^ (0x11B if power[i - 1] & 0x80 else 0)
    for i in range(255):
        log[power[i]] = i
    for i in range(256):
        inverse = power[(255 - log[i]) % 255] if i else 0
        rotated = inverse * 0x101
        box[i] = (
            inverse ^ (rotated >> 4 ^ rotated >> 5 ^ rotated >> 6 ^ rotated >> 7) ^ 0x63
        ) & 255
    table = [n * 0x0101_0100 ^ (n << 1 & 255) ^ n << 24 for n in box]
    name = b"SHA256 block transform for ARMv8, CRYPTOGAMS by <appro@openssl.org>\0"
    return (
        pack(sha256) + struct.pack("<80Q", *sha512) + bytes(box)
        + pack(n & 0xFFFF_FFFF for n in table) + name
    )  # fmt: skip


TEXT = (
    b"rate resource rr\0really: no such file or directory\0Report 2 rules\0rrrrRRRR2222r2R2\0"
    b"usage: %s [-r] [-R] [--recursive] FILE...\n\0r\0\0\0R\0\0\0permission denied in register\0"
)
DATA = {
    "constants": constants(),
    "text": TEXT.ljust(len(TEXT) + -len(TEXT) % 4, b"\0"),
    "offsets": pack((0x12 + 0x20 * n - 0x400) & 0xFFFF_FFFF for n in range(256)),
    "bytes of a switch": bytes(n % 0x20 for n in range(0x412)) + bytes(2),
    "zeros": bytes(256),
    "pointers": struct.pack("<64Q", *(0xAAAA_1234_0012 + 0x20 * n for n in range(64))),
    "doubles": struct.pack("<64d", *(n / 7 for n in range(64))),
}


def candidates(data: bytes) -> int:
    """Words that look like an instruction with x18 if nothing around them is looked at."""
    return sum(rewrite(word) is not None for (word,) in struct.iter_unpack("<I", data))


def function(rng: random.Random, length: int = 40) -> list[int]:
    """Instructions with loops among them, a return at the end."""
    code = examples.some_words(rng, length)
    loop = rng.randrange(4, length)
    code[loop] = assemble(f"cbnz x1, #{-4 * rng.randrange(1, loop)}")
    return [*code, RET]


def found(code: bytes) -> list[int]:
    return [at for at, _ in find(code, [(0, len(code))])]


def expected(code: list[int], start: int = 0) -> list[int]:
    return [start + 4 * i for i, word in enumerate(code) if rewrite(word) is not None]


@pytest.mark.parametrize("kind", DATA)
def test_data_between_functions_is_no_code(kind: str) -> None:
    """Functions before and behind it are; a branch leads to where code begins behind data."""
    rng = random.Random(kind)
    data = DATA[kind]
    assert len(data) % 4 == 0
    before, behind = function(rng), function(rng)
    caller = [assemble(f"bl #{4 * len(before) + 8 + len(data)}"), RET]
    code = pack(caller) + pack(before) + data + pack(behind)
    start = 4 * (len(caller) + len(before)) + len(data)
    want = expected(before, 4 * len(caller)) + expected(behind, start)
    assert [at for at in found(code) if not start - len(data) <= at < start] == want
    inside = [at for at in found(code) if start - len(data) <= at < start]
    assert len(inside) <= len(data) // 2000, "hardly any"


def test_the_tables_would_be_taken_without_a_look_around() -> None:
    assert sum(candidates(data) for data in DATA.values()) > 30


def test_random_data_is_hardly_ever_taken() -> None:
    rng = random.Random(4)
    data = rng.randbytes(600_000)
    assert candidates(data) > 1500
    assert len(found(pack([RET]) + data + pack([RET]))) <= 8


def test_code_is_found_wherever_it_stands() -> None:
    rng = random.Random(5)
    code = [word for _ in range(60) for word in function(rng, rng.randrange(8, 400))]
    assert found(pack(code)) == expected(code)
    assert len(expected(code)) > 500


def test_code_behind_data_needs_a_branch_to_it() -> None:
    """Nobody can tell a function right behind data from data, unless something leads there."""
    data = b"\xff\xff\xff\xff" * 4
    code = [NOP, MOV_X18, RET, MOV_X18, RET]
    assert found(pack([RET]) + data + pack(code)) == [4 + 16 + 12]
    for target, name in ((20, "b"), (20, "bl"), (20, "cbz w0,"), (24, "tbz x0, #3,"), (24, "b.eq")):
        led = pack([assemble(f"{name} #{target}")]) + data + pack(code)
        assert found(led) == [4 + 16 + 4, 4 + 16 + 12], name
    behind = pack([assemble("b #28")]) + data + pack(code)  # leads to what follows the instruction
    assert found(behind) == [4 + 16 + 12]


def test_data_at_the_end_of_control_flow_only() -> None:
    invalid = 0xFFFF_FFFF
    assert found(pack([MOV_X18, RET, invalid])) == [0]
    assert found(pack([MOV_X18, NOP, invalid])) == []
    assert found(pack([invalid, RET, MOV_X18, RET])) == [8]
    for end in ("b #0x40", "br x1", "brk #1", "ret x1"):
        assert found(pack([MOV_X18, assemble(end), invalid])) == [0]


def test_only_words_of_the_sections_are_looked_at() -> None:
    code = pack([MOV_X18, RET] * 8)
    assert find(code, []) == []
    assert [at for at, _ in find(code, [(6, 20), (33, 47), (48, 999)])] == [8, 16, 40, 48, 56]
    assert find(code + b"\xf2\x03\x01", [(64, 80)]) == []
    assert find(pack([0xFFFF_FFFF, MOV_X18, 0xFFFF_FFFF]), [(4, 8)]) == [(4, MOV_X18)]


def test_sites_of_all_kinds_stand_in_order() -> None:
    msr = 0xD51B_D052  # msr tpidr_el0, x18: the stub reads x18 itself
    code = [MOV_X18, 0xD400_0001, msr, MOV_X18, RET]
    want = [Site(0, None, MOV_X18), Site(4, None), Site(8, 18), Site(12, None, MOV_X18)]
    assert find_sites(pack(code), x18_in=[(0, 20)]) == want
    assert find_sites(pack(code)) == want[1:3]
