"""Put headers, prototypes and overlay together: everything that one ISA's table says.

The result is plain data (dicts, lists, strings, integers): `render` only writes it down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import classify, headers, prototypes
from .headers import Facts, Layout
from .overlay import Overlay, OverlayError
from .packages import Headers

DETOUR_TESTS = ("nonzero", "is", "not", "has")


def build(isa: str, source: Headers, notes: Overlay) -> dict[str, Any]:
    """Build the complete table of one ISA. Raises OverlayError, ValueError or LookupError."""
    facts = headers.read(isa, source, notes.code)
    facts.constants |= {k: v for k, v in notes.constants.items() if k not in facts.ioctls}
    facts.errno |= notes.errno
    for alias, struct in notes.aliases.items():
        facts.structs.setdefault(alias, facts.structs[struct])
    _add_newer(facts, notes)
    declared = prototypes.read(source.kernel)
    numbers = sorted(facts.numbers.items(), key=lambda item: item[1])
    return {
        "isa": isa,
        "sources": [
            f"{p.name} {p.version} {p.architecture} sha256 {p.sha256}" for p in source.packages
        ],
        "syscalls": {
            name: _syscall(name, number, facts, declared, notes) for name, number in numbers
        },
        "structs": {name: _struct(facts.structs[name]) for name in sorted(facts.structs)},
        "constants": dict(sorted(facts.constants.items())),
        "errno": dict(sorted(facts.errno.items(), key=lambda item: (item[1], item[0]))),
        "ioctls": dict(sorted(facts.ioctls.items())),
    }


def _add_newer(facts: Facts, notes: Overlay) -> None:
    """Add the calls that are newer than the headers. Raises OverlayError once headers have them."""
    taken = {number: name for name, number in facts.numbers.items()}
    for name, number in notes.numbers.items():
        if name in facts.numbers or number in taken:
            raise OverlayError(f"[newer] {name} = {number}: the headers know it by now")
        facts.numbers[name] = number


def _syscall(
    name: str,
    number: int,
    facts: Facts,
    declared: Mapping[str, prototypes.Prototype],
    notes: Overlay,
) -> dict[str, Any]:
    prototype = prototypes.of_syscall(name, declared, notes.prototypes)
    arguments = classify.arguments(name, prototype or (), facts, notes)
    return {
        "number": number,
        "plane": notes.planes.get(name, "ring"),
        "restart": notes.restarts.get(name, "never"),
        "args": [[a.name, a.ctype, a.kind, a.struct, list(a.param)] for a in arguments],
        "detours": detours(notes.detours.get(name, ""), [a.name for a in arguments], facts),
    }


def detours(text: str, names: list[str], facts: Facts) -> list[list[Any]]:
    """Read `cmd is A B; arg nonzero` as [[1, "is", [a, b]], [2, "nonzero", []]].

    `names` are the call's arguments. Raises OverlayError.
    """
    known = facts.constants | facts.ioctls
    result = []
    for clause in filter(None, (part.split() for part in text.split(";"))):
        name, test, *values = clause
        if name not in names or test not in DETOUR_TESTS:
            raise OverlayError(f"cannot read the detour {text!r}")
        unknown = [value for value in values if value not in known]
        if unknown:
            raise OverlayError(f"no header defines {', '.join(unknown)}")
        result.append([names.index(name), test, sorted({known[value] for value in values})])
    return result


def _struct(layout: Layout) -> dict[str, Any]:
    members = layout.members.items()
    return {
        "size": layout.size,
        "align": layout.align,
        "fields": [[path, m.offset, m.size, m.count, m.signed] for path, m in members],
    }
