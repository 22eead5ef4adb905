"""Load tables/overlay.toml, the hand-written part of the tables, and check it for mistakes.

A name that no syscall has, or an argument that a syscall does not have, is an error: a typing
mistake in the overlay must not silently leave a derived value in place.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLANES = ("ring", "data", "slot")
RESTARTS = ("never", "always", "nohand", "block")


class OverlayError(Exception):
    """tables/overlay.toml contradicts the headers or itself."""


@dataclass(frozen=True)
class Overlay:
    """What one ISA's headers do not say; see the comments of tables/overlay.toml."""

    planes: dict[str, str]
    restarts: dict[str, str]
    kinds: dict[str, dict[str, str]]
    prototypes: dict[str, str]
    numbers: dict[str, int]
    constants: dict[str, int]
    errno: dict[str, int]
    aliases: dict[str, str]
    detours: dict[str, str]
    code: str


def load(path: Path, isa: str) -> Overlay:
    """Read the overlay for one ISA. Raises OverlayError."""
    data = tomllib.loads(path.read_text())
    prototypes = dict(data["prototypes"]["any"]) | dict(data["prototypes"].get(isa, {}))
    numbers = {}
    for name, entry in data["newer"].items():
        numbers[name] = int(entry["number"])
        prototypes[name] = entry["prototype"]
    return Overlay(
        planes=_invert(data["plane"], PLANES),
        restarts=_invert(data["restart"], RESTARTS),
        kinds=data["kinds"],
        prototypes=prototypes,
        numbers=numbers,
        constants=data["constants"],
        errno=data["errno"],
        aliases=data["aliases"],
        detours=data["detour"],
        code=data["code"]["any"] + data["code"].get(isa, ""),
    )


def _invert(groups: dict[str, Any], allowed: tuple[str, ...]) -> dict[str, str]:
    """Turn {"data": "read write"} into {"read": "data", "write": "data"}."""
    result: dict[str, str] = {}
    for value, names in groups.items():
        if value not in allowed:
            raise OverlayError(f"{value!r} is none of {', '.join(allowed)}")
        for name in names.split():
            if name in result:
                raise OverlayError(f"{name} is both {result[name]} and {value}")
            result[name] = value
    return result


def check_names(overlay: Overlay, known: set[str]) -> None:
    """Raise OverlayError if the overlay speaks of a syscall that no ISA has."""
    for part in (
        overlay.planes,
        overlay.restarts,
        overlay.kinds,
        overlay.prototypes,
        overlay.detours,
    ):
        unknown = sorted(set(part) - known)
        if unknown:
            raise OverlayError(f"no ISA has the syscall {', '.join(unknown)}")
