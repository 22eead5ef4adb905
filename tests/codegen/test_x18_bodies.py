"""Bodies do what their instructions do, whenever a signal comes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache

import pytest

from codegen import x18
from codegen.layout import PAGE
from codegen.svc_patch import REACH
from tests.codegen import x18_examples as examples
from tests.codegen.x18_examples import BRANCHES, CROWDED, FORMS, JUMPS, LITERALS, ORDINARY
from tests.codegen.x18_machine import CODE, DATA, MEMORY_SIZE, MIDDLE, Bodies, Outcome

PLACES = (  # site and body: far apart both ways, at the ends of pages
    (MIDDLE, MIDDLE + 0x1_0000),
    (MIDDLE + PAGE - 4, MIDDLE + 0x8000 - 8),
    (MIDDLE + PAGE - 8, CODE + PAGE - 12),
    (CODE + 0x123C, CODE + 0x3_8000 - 16),
    (MIDDLE + 0x10, CODE + 0x40),
)

UNMAPPED = 0x5000_0000
ADRP_REACH = (1 << 20) - (REACH >> 12)  # pages, from wherever its body may lie


@cache
def machine() -> Bodies:
    return Bodies(seed=18)


def readable(form: str, others: tuple[int, ...]) -> Iterator[int]:
    for word, _ in examples.instances(form, others):
        if x18.rewrite(word) is not None:
            yield word


def given_up(word: int) -> set[str]:
    """Registers that a body may change."""
    plan = x18.rewrite(word)
    assert plan is not None
    return {"x17"} if plan.kind in ("jump", "call") else set()


def same(word: int, native: Outcome, got: Outcome) -> None:
    for name in given_up(word):
        native.registers.pop(name, None)
        got.registers.pop(name, None)
    assert got.registers == native.registers
    assert got.memory == native.memory


def check(word: int, site: int, here: int, **chosen: int) -> Outcome:
    """Compare one run; then let a signal come at each word of the body, and go on."""
    bodies = machine()
    values = bodies.registers(word) | chosen
    memory = bodies.rng.randbytes(MEMORY_SIZE)
    native = bodies.native(word, site, values, memory)
    bodies.prepare(word, site, here, values, memory)
    same(word, native, bodies.finish(here))
    for count in range(x18.BODY_SIZE // 4):
        bodies.prepare(word, site, here, values, memory)
        at = bodies.step(here, count)
        if not here <= at < here + x18.BODY_SIZE:
            break
        bodies.settle(word, site, at - here)
        settled = bodies.outcome()
        if settled.registers["pc"] == site:  # as if it had not begun
            assert settled.registers == values | {"pc": site}
            bodies.enter()
            settled = bodies.finish(here)
        same(word, native, settled)
    else:
        raise AssertionError("a body without an end")
    return native


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("others", [ORDINARY, CROWDED])
def test_a_body_does_what_its_instruction_does(form: str, others: tuple[int, ...]) -> None:
    tried = 0
    for word in readable(form, others):
        if "dc " in form or "ic " in form:
            check(word, *PLACES[0], x18=DATA + PAGE)
        elif form.startswith("msr fpcr"):
            check(word, *PLACES[0], x18=0x0180_0000)
        else:
            check(word, *PLACES[tried % len(PLACES)])
        tried += 1
    assert tried


@pytest.mark.parametrize("form", BRANCHES)
@pytest.mark.parametrize("distance", [0x48, -0x48, 0x4C00, -0x4C00, 4, 0x7FFC])
def test_a_branch_goes_where_it_would(form: str, distance: int) -> None:
    word, _ = examples.relative(form, distance)
    ends = set()
    for site, here in PLACES[:3]:
        for value in (0, 1, 1 << 18, 1 << 32, 1 << 63, (1 << 64) - 1):
            native = check(word, site, here, x18=value)
            ends.add(native.registers["pc"] - site)
    assert ends == {4, distance}


@pytest.mark.parametrize("name", JUMPS)
def test_a_jump_goes_where_it_would(name: str) -> None:
    for site, here in PLACES:
        native = check(JUMPS[name], site, here, x18=MIDDLE + 0x240)
        assert native.registers["pc"] == MIDDLE + 0x240
        assert (native.registers["x30"] == site + 4) == name.startswith("bl")


@pytest.mark.parametrize("form", LITERALS)
@pytest.mark.parametrize("distance", [8, -8, 0x240, 0x4FFC, -0x7000])
def test_a_literal_is_the_same(form: str, distance: int) -> None:
    word, _ = examples.relative(form, distance)
    for site, here in PLACES:
        if site + distance >= CODE:
            check(word, site, here)


@pytest.mark.parametrize("distance", [0, 1, 4, -1, -4, 0x18, 0xFFF, 0x1000, -0x1000, 0xF_FFFF])
def test_an_address_is_the_same(distance: int) -> None:
    for site, here in PLACES:
        assert check(examples.adr(distance), site, here).registers["x18"] == site + distance
        distance = min(distance, ADRP_REACH)
        page = check(examples.adrp(distance), site, here).registers["x18"]
        assert page == ((site & -PAGE) + distance * PAGE) % (1 << 64)


@pytest.mark.parametrize("form", ["ldr x{}, [x{}, #16]!", "stp x{}, x{}, [x{}, #-16]!"])
def test_a_fault_leaves_the_instruction_undone(form: str) -> None:
    bodies = machine()
    site, here = PLACES[0]
    for word in readable(form, ORDINARY):
        values = bodies.registers(word)
        for name, value in values.items():
            if name.startswith("x") and DATA <= value < DATA + MEMORY_SIZE:
                values[name] = UNMAPPED
        memory = bodies.rng.randbytes(MEMORY_SIZE)
        bodies.prepare(word, site, here, values, memory)
        at = bodies.fault(here)
        assert here <= at < here + x18.BODY_SIZE
        bodies.settle(word, site, at - here)
        assert bodies.outcome() == Outcome(values | {"pc": site}, memory + memory[::-1])


def test_a_body_needs_an_instruction_with_x18() -> None:
    with pytest.raises(ValueError, match="no instruction to rewrite"):
        x18.body(0xD503_201F, 0, 0x1000)


def test_every_body_fits() -> None:
    rng = random.Random(7)
    kinds = set()
    for _ in range(3000):
        word = rng.getrandbits(32) & ~31 | 18
        plan = x18.rewrite(word)
        if plan is not None:
            kinds.add(plan.kind)
            assert len(x18.body(word, rng.randrange(0, 1 << 20, 4), 0x10_0000)) == x18.BODY_SIZE
    assert kinds >= {"plain", "compare", "address", "literal"}
