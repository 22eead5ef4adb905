"""Golden listings of the stubs, one file a part: what review sees of a template change.

UPDATE_GOLDEN=1 rewrites them; review the diff. Offsets count from the label above, branch targets
and tables are named, so that a change shows where it is made and nowhere else. The dispatch,
marshal and op tables stand in no listing: they follow from the tables of system calls.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from codegen.asm.assembler import Label, Memo
from codegen.asm.decode import Instruction, sweep
from codegen.layout import STUB_TEXT_LIMIT
from codegen.templates.x86_64 import poll
from codegen.variant import ORDINARY, Variant
from tests.codegen.stub_machine import Built, stub

GOLDEN = Path(__file__).parent / "golden"
PARTS = {  # the file of templates that emits it: its first label
    "x86_64": {
        "entry": "entry",
        "post": "slow",
        "program": "program",
        "signals": "trap_before",
        "boot": "boot",
    },
    "arm64": {
        "entry": "entry",
        "threads": "set_tls",
        "post": "copy",
        "program": "program",
        "descriptors": "op_recv_fds",
        "clone": "op_clone",
        "enter": "op_enter",  # of program.py; clone.py stands between
        "signals": "trap_before",
        "boot": "boot",
    },
}
END = "empty_string"
VARIANT = Variant(reserved_x18=True, kernel_pages=True)
_ARM64_TARGETS = ("b", "bl", "cbz", "cbnz", "tbz", "tbnz", "adr")
_BRANCH = re.compile(r"0x[0-9a-f]+|\d+")
_TARGET = re.compile(r"#(0x[0-9a-f]+|\d+)$")  # arm64: the last operand of a branch or adr
_RELATIVE = re.compile(r"\[rip ([+-]) (0x[0-9a-f]+|\d+)\]")


def offset_of(label: Label) -> int:
    assert label.offset is not None
    return label.offset


def label_names(made: Built) -> dict[int, list[str]]:
    """Every label by its offset; labels of the same name are numbered in order."""
    counts = Counter(label.name for label in made.a.labels)
    seen: Counter[str] = Counter()
    names: dict[int, list[str]] = {}
    for label in sorted(made.a.labels, key=offset_of):
        name = label.name
        if counts[name] > 1:
            seen[name] += 1
            name += f".{seen[name]}"
        names.setdefault(offset_of(label), []).append(name)
    for label in made.a.places:
        names[offset_of(label)] = [label.name]
    return names


def operands_arm64(instruction: Instruction, names: dict[int, list[str]]) -> str:
    """With the names of the places they refer to."""
    text = instruction.operands
    if instruction.mnemonic.split(".")[0] in _ARM64_TARGETS:
        found = _TARGET.search(text)
        assert found
        text = text.replace(found[0], names[int(found[1], 0)][0])
    return text


def operands(instruction: Instruction, names: dict[int, list[str]]) -> str:
    """With the names of the places they refer to."""
    text = instruction.operands
    if instruction.mnemonic.startswith(("j", "call")) and _BRANCH.fullmatch(text):
        return names[int(text, 0)][0]
    found = _RELATIVE.search(text)
    if found:
        distance = int(found[2], 0) * (1 if found[1] == "+" else -1)
        text = text.replace(found[0], f"[{names[instruction.end + distance][0]}]")
    return text


def listing(isa: str, first: str, variant: Variant = ORDINARY) -> str:
    """The part of the stub that begins with the label `first`."""
    made = stub(isa, variant)
    starts = sorted(offset_of(made.names[name]) for name in (*PARTS[isa].values(), END))
    start = offset_of(made.names[first])
    return listed(made, isa, start, starts[starts.index(start) + 1])


def listed(made: Built, isa: str, start: int, stop: int) -> str:
    """The instructions between two offsets."""
    names = label_names(made)
    named = operands_arm64 if isa == "arm64" else operands
    lines: list[str] = []
    since = start
    for instruction in sweep(made.code, start, stop, isa):
        for name in names.get(instruction.offset, ()):
            lines.append(f"{name}:")
            since = instruction.offset
        text = f"{instruction.mnemonic} {named(instruction, names)}".rstrip()
        lines.append(f"  {instruction.offset - since:4x}  {text}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("isa", "part"), [(isa, p) for isa, parts in PARTS.items() for p in parts])
def test_golden_listing(isa: str, part: str) -> None:
    text = listing(isa, PARTS[isa][part])
    file = GOLDEN / isa / f"stub-{part}.s"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert file.read_text() == text, "UPDATE_GOLDEN=1 accepts the new listing"


def test_golden_listing_of_the_poll_loop() -> None:
    made = poll.build(Memo())
    built = Built(made.a, made.names, made.a.finish())
    text = listed(built, "x86_64", offset_of(made.names["next_request"]), len(built.code))
    file = GOLDEN / "x86_64" / "poll.s"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert file.read_text() == text, "UPDATE_GOLDEN=1 accepts the new listing"


def test_golden_differences_of_the_variant() -> None:
    """What codegen.variant changes, without the offsets."""
    text = ""
    for part, first in PARTS["arm64"].items():
        ordinary, other = (
            [re.sub(r"^ +[0-9a-f]+  ", "  ", line) for line in found.splitlines()]
            for found in (listing("arm64", first), listing("arm64", first, VARIANT))
        )
        lines = difflib.unified_diff(ordinary, other, part, part, lineterm="")
        text += "".join(f"{line}\n" for line in lines)
    file = GOLDEN / "arm64" / "stub-variant.diff"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert file.read_text() == text, "UPDATE_GOLDEN=1 accepts the new differences"


@pytest.mark.parametrize("isa", PARTS)
def test_the_listings_show_every_instruction(isa: str) -> None:
    made = stub(isa)
    stop = offset_of(made.names[END])
    instructions = sweep(made.code, 0, stop, isa)
    assert offset_of(made.names["entry"]) == 0
    assert instructions[-1].end == stop
    written = [offset for offset, _ in made.a.listing if offset < stop]
    assert [i.offset for i in instructions] == written


def test_what_the_assembler_says_it_emitted_is_what_capstone_reads() -> None:
    made = stub("x86_64")
    said = dict(made.a.listing)
    for instruction in sweep(made.code, 0, offset_of(made.names[END])):
        mnemonic = said[instruction.offset].split()[0].replace("movabs", "mov")
        read = instruction.mnemonic.split()[0].replace("movabs", "mov")
        assert mnemonic == read, said[instruction.offset]


@pytest.mark.parametrize("isa", PARTS)
@pytest.mark.parametrize("variant", [ORDINARY, VARIANT])
def test_the_tables_lie_behind_the_code_within_the_text(isa: str, variant: Variant) -> None:
    made = stub(isa, variant)
    end = offset_of(made.names[END])
    for name in ("dispatch_table", "op_table", "marshal_table", "one"):
        assert offset_of(made.names[name]) > end
        assert offset_of(made.names[name]) % 8 == 0
    assert made.a.base + len(made.code) <= STUB_TEXT_LIMIT


@pytest.mark.parametrize("isa", PARTS)
def test_building_again_gives_the_same_bytes(isa: str) -> None:
    made = stub(isa)
    stub.cache_clear()
    again = stub(isa)
    assert again.code == made.code
    assert again.a.listing == made.a.listing
