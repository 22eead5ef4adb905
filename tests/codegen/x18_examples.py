"""Instructions that name x18, in every position of every form that compilers and people write.

A *form* is an instruction with holes for register numbers; `instances` fills them, x18 first alone
in each hole, then in several, the other holes with registers that bodies use for themselves too.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from codegen.asm.arm64 import encode

X18 = 18
ORDINARY = (1, 2, 3, 4)
CROWDED = (17, 30, 16, 15)  # scratch and base of bodies

TEXTS = """
mov x{}, x{}
mov x{}, #5
movk x{}, #0xdead, lsl #16
mvn w{}, w{}
add x{}, x{}, x{}
add w{}, w{}, w{}, lsl #3
add x{}, x{}, w{}, sxtw #2
add x{}, x{}, #18
add sp, x{}, #16
add x{}, sp, #16
sub w{}, w{}, #1
subs x{}, x{}, x{}, asr #1
adds x{}, x{}, x{}, lsl #3
adc x{}, x{}, x{}
sbcs w{}, w{}, w{}
cmp x{}, x{}
cmn w{}, #4
tst x{}, #0xff
and x{}, x{}, #0xff00ff00ff00ff00
orr x{}, x{}, x{}, ror #13
bic x{}, x{}, x{}
ands w{}, w{}, #1
bfi x{}, x{}, #4, #8
ubfx x{}, x{}, #4, #18
sbfiz x{}, x{}, #4, #8
sxtw x{}, w{}
extr x{}, x{}, x{}, #18
lsl x{}, x{}, x{}
asr w{}, w{}, #18
madd x{}, x{}, x{}, x{}
msub w{}, w{}, w{}, w{}
smaddl x{}, w{}, w{}, x{}
umulh x{}, x{}, x{}
udiv x{}, x{}, x{}
csel x{}, x{}, x{}, eq
csinc w{}, w{}, w{}, lt
csneg x{}, x{}, x{}, hi
cset x{}, hi
ccmp x{}, x{}, #3, eq
ccmp x{}, #18, #3, ne
clz x{}, x{}
rbit w{}, w{}
rev x{}, x{}
crc32b w{}, w{}, w{}
crc32x w{}, w{}, x{}
ldr x{}, [x{}]
ldr x{}, [x{}, #144]
ldr w{}, [x{}, x{}]
ldr x{}, [x{}, w{}, uxtw #3]
ldr x{}, [x{}, w{}, sxtw]
ldr x{}, [x{}], #16
ldr x{}, [x{}, #16]!
ldrb w{}, [x{}], #18
ldrsb x{}, [x{}, x{}]
ldrsw x{}, [x{}, #4]
ldrh w{}, [x{}, #18]
ldur x{}, [x{}, #-3]
ldtr x{}, [x{}]
str x{}, [x{}, x{}]
str x{}, [x{}, #8]!
str x{}, [x{}], #-8
str x{}, [sp, #-16]!
strb w{}, [x{}, #1]
stur w{}, [x{}, #-18]
ldp x{}, x{}, [x{}]
ldp w{}, w{}, [x{}, #16]
ldp x{}, x{}, [x{}], #16
ldpsw x{}, x{}, [x{}]
ldnp x{}, x{}, [x{}]
stp x{}, x{}, [x{}, #-16]!
stp x{}, x{}, [sp, #16]
stp w{}, w{}, [x{}], #8
stnp x{}, x{}, [x{}]
prfm pldl1keep, [x{}]
prfm pstl2keep, [x{}, x{}]
ldr q18, [x{}]
ldr q0, [x{}], #18
str d18, [x{}, x{}]
stp q18, q1, [x{}, #32]!
ld1 {{v18.16b}}, [x{}], #16
ld1 {{v0.16b, v1.16b}}, [x{}], x{}
ld1 {{v0.b}}[3], [x{}], x{}
ld4r {{v0.8b, v1.8b, v2.8b, v3.8b}}, [x{}]
st1 {{v18.4s}}, [x{}], x{}
st2 {{v0.8h, v1.8h}}, [x{}]
fmov d18, x{}
fmov x{}, d18
fmov w{}, s1
fmov v18.d[1], x{}
fmov x{}, v18.d[1]
scvtf d18, x{}
ucvtf s0, w{}, #18
fcvtzs x{}, d18
fcvtzu w{}, s18, #3
umov w{}, v18.b[3]
smov x{}, v1.h[2]
mov v18.d[1], x{}
dup v18.4s, w{}
ins v0.s[1], w{}
ldar x{}, [x{}]
ldaxr w{}, [x{}]
ldxr x{}, [x{}]
ldxrb w{}, [x{}]
ldxp x{}, x{}, [x{}]
stlr x{}, [x{}]
stxr w{}, x{}, [x{}]
stlxrh w{}, w{}, [x{}]
stxp w{}, x{}, x{}, [x{}]
mrs x{}, nzcv
mrs x{}, fpcr
msr nzcv, x{}
msr fpcr, x{}
dc zva, x{}
dc cvau, x{}
ic ivau, x{}
""".strip().splitlines()

WORDS = {  # what Keystone cannot assemble: a word, and where its registers stand
    "ldadd": (0xF820_0000, (16, 0, 5)),
    "ldaddal w": (0xB8E0_0000, (16, 0, 5)),
    "stset": (0xF820_301F, (16, 5)),
    "ldsmaxb": (0x3820_4000, (16, 0, 5)),
    "swpal": (0xF8E0_8000, (16, 0, 5)),
    "cas": (0xC8A0_7C00, (16, 0, 5)),
    "casalh": (0x48E0_FC00, (16, 0, 5)),
    "ldapr": (0xF8BF_C000, (0, 5)),
    "pacia": (0xDAC1_0000, (0, 5)),
    "autib": (0xDAC1_1400, (0, 5)),
    "paciza": (0xDAC1_23E0, (0,)),
    "xpaci": (0xDAC1_43E0, (0,)),
}

BRANCHES = (
    *("cbz x{}, #{}", "cbnz x{}, #{}", "cbz w{}, #{}", "cbnz w{}, #{}"),
    *("tbz w{}, #18, #{}", "tbnz w{}, #0, #{}", "tbz x{}, #63, #{}", "tbnz x{}, #32, #{}"),
)
LITERALS = ("ldr x{}, #{}", "ldr w{}, #{}", "ldrsw x{}, #{}")
JUMPS = {  # with x18 as the target
    "br": 0xD61F_0240,
    "ret": 0xD65F_0240,
    "blr": 0xD63F_0240,
    "braaz": 0xD61F_0A5F,
    "blraaz": 0xD63F_0A5F,
    "brab": 0xD71F_0E41,
    "blraa": 0xD73F_0A41,
    "blraa sp": 0xD73F_0A5F,
}

LEFT_ALONE = (  # 18 stands in them, x18 does not
    "add v18.4s, v18.4s, v18.4s",
    "fadd d18, d1, d18",
    "ldr d18, [x1]",
    "ld1 {v18.16b}, [x1], x2",
    "ldr q18, #0x40",
    "mov x0, #18",
    "movk x0, #0x240",
    "add x1, x2, #18",
    "ldr x1, [x2, #144]",
    "ldp x1, x2, [x3, #144]",
    "ubfx x1, x2, #18, #18",
    "ccmp x1, #18, #3, eq",
    "tbz x1, #18, #0x40",
    "cbz x1, #0x240",
    "b #0x48",
    "adr x1, #0x49",
    "prfm pstl2keep, [x1]",
    "prfm pldl1keep, #0x40",
    "svc #18",
    "brk #18",
    "hint #18",
)


class Instance(NamedTuple):
    """One instruction, and how to write it with another register in place of x18."""

    word: int
    text: str


def assemble(text: str) -> int:
    (word,) = struct.unpack("<I", encode(text))
    return int(word)


def fillings(holes: int, others: tuple[int, ...]) -> Iterator[list[int]]:
    """The registers of `holes` holes, x18 among them, no other twice."""
    for count in range(1, holes + 1):
        for chosen in combinations(range(holes), count):
            rest = iter(others)
            yield [X18 if hole in chosen else next(rest) for hole in range(holes)]


def of_text(form: str, others: tuple[int, ...] = ORDINARY) -> list[Instance]:
    """A form of TEXTS with x18. Keystone refuses some that are unpredictable."""
    found = []
    for registers in fillings(form.count("{}"), others):
        text = form.format(*registers)
        try:
            found.append(Instance(assemble(text), text))
        except ValueError:
            assert registers.count(X18) > 1 or CROWDED[0] in registers, text
    return found


def of_word(name: str, others: tuple[int, ...] = ORDINARY) -> list[Instance]:
    """The same of WORDS."""
    base, fields = WORDS[name]
    return [
        Instance(base | sum(n << at for n, at in zip(registers, fields, strict=True)), name)
        for registers in fillings(len(fields), others)
    ]


def instances(form: str, others: tuple[int, ...] = ORDINARY) -> list[Instance]:
    return of_word(form, others) if form in WORDS else of_text(form, others)


FORMS = (*TEXTS, *WORDS)


def relative(form: str, distance: int) -> Instance:
    """An instruction of BRANCHES or LITERALS whose target is `distance` bytes from it."""
    text = form.format(X18, distance)
    return Instance(assemble(text), text)


def adr(distance: int) -> int:
    """`adr x18` of a place `distance` bytes from it."""
    return 0x1000_0012 | (distance & 3) << 29 | (distance >> 2 & 0x7_FFFF) << 5


def adrp(pages: int) -> int:
    """`adrp x18` of a page so many pages from its own."""
    return 0x9000_0012 | (pages & 3) << 29 | (pages >> 2 & 0x7_FFFF) << 5


def some_words(rng: random.Random, count: int) -> list[int]:
    """Instructions as they follow each other in code, some of them with x18, none a branch."""
    return [
        instances(form)[0].word if rng.random() < 0.3 else without_x18(form)
        for form in rng.choices(FORMS, k=count)
    ]


def without_x18(form: str) -> int:
    """An instruction of this form with other registers."""
    if form in WORDS:
        base, fields = WORDS[form]
        return base | sum(n << at for n, at in zip(ORDINARY, fields, strict=False))
    return assemble(form.format(*ORDINARY[: form.count("{}")]))
