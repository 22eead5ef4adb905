"""Platforms as images and users name them, `linux/arm64/v8`: reading, spelling, matching.

The rules are those of containerd's platforms package, which Docker uses: aliases are normalised
(`aarch64` is `arm64`, and `v8` is what every arm64 is), and a CPU of a level runs images of the
levels below it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from api.engine.errors import InvalidParameter
from kernel.host import engines

_COMPONENT = re.compile(r"[A-Za-z0-9_.-]+")
_SYSTEMS = frozenset(("linux", "windows", "darwin", "freebsd"))
_ARCHITECTURES = frozenset(
    ("386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x")
)
_ALIASES = {
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "i386": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
}
_IMPLIED = {("amd64", "v1"): "", ("arm64", "v8"): "", ("arm", ""): "v7"}
_LOWEST = {"amd64": 2, "arm": 5, "arm64": 9}  # the lowest variant with a name of its own
_LAST_RANK = 99
_ISAS = {"amd64": "x86_64", "arm64": "arm64"}
# What a CPU must have for each level of the x86_64 psABI, in the words of /proc/cpuinfo.
_LEVELS = (
    ("v2", "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"),
    ("v3", "abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"),
    ("v4", "avx512bw avx512cd avx512dq avx512f avx512vl"),
)

Candidate = TypeVar("Candidate")


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system, an architecture in Go's words, and its variant or nothing."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Platform:
        """The platform in an image's config, or in a manifest's descriptor."""
        return cls(
            str(facts.get("os") or "linux"),
            str(facts.get("architecture") or "amd64"),
            str(facts.get("variant") or ""),
        )

    def to_json(self) -> dict[str, str]:
        """The OCI platform object."""
        facts = {"architecture": self.architecture, "os": self.os}
        return facts | ({"variant": self.variant} if self.variant else {})

    @property
    def isa(self) -> str | None:
        """Whose instructions its programs have, a name in `tables`; None for what we never run."""
        return _ISAS.get(self.architecture) if self.os == "linux" else None

    def rank(self, image: Platform) -> int | None:
        """How well an image's platform fits what this one can run: 0 best, None not at all."""
        wanted, given = self._normalized(), image._normalized()
        if (wanted.os, wanted.architecture) != (given.os, given.architecture):
            return None
        variants = wanted._variants()
        if given.variant in variants:
            return variants.index(given.variant)
        return None if image.variant else _LAST_RANK  # configs often lack the variant

    def _normalized(self) -> Platform:
        architecture, implied = _ALIASES.get(self.architecture, (self.architecture, ""))
        variant = self.variant or implied
        if variant.isdigit():
            variant = f"v{variant}"
        variant = _IMPLIED.get((architecture, variant), variant)
        return Platform(self.os, architecture, variant)

    def _variants(self) -> list[str]:
        """Its own variant and those below it, best first."""
        lowest = _LOWEST.get(self.architecture)
        number = self.variant.removeprefix("v")
        if lowest is None or not number.isdigit():
            return [self.variant]
        lower = [f"v{level}" for level in range(int(number), lowest - 1, -1)]
        return lower if self.architecture == "arm" else [*lower, ""]


def parse_platform(text: str) -> Platform | None:
    """Read `os`, `architecture`, `os/architecture` or `os/architecture/variant`; None for nothing.

    Raises InvalidParameter.
    """
    if not text:
        return None
    parts = text.lower().split("/")
    if len(parts) > 3:
        raise InvalidParameter(f'"{text}": cannot parse platform specifier: invalid argument')
    for part in parts:
        if not _COMPONENT.fullmatch(part):
            raise InvalidParameter(
                f'"{part}" is an invalid component of "{text}": platform specifier component must'
                f' match "^{_COMPONENT.pattern}$": invalid argument'
            )
    if len(parts) == 1:
        if parts[0] in _SYSTEMS:
            return Platform(parts[0], host_platform().architecture)
        if parts[0] not in _ARCHITECTURES and parts[0] not in _ALIASES:
            raise InvalidParameter(
                f'"{text}": unknown operating system or architecture: invalid argument'
            )
        parts.insert(0, "linux")
    architecture, implied = _ALIASES.get(parts[1], (parts[1], ""))
    return Platform(parts[0], architecture, parts[2] if len(parts) == 3 else implied)


def parse_platform_json(text: str) -> Platform | None:
    """Read an OCI platform object, as newer parts of the API have it. Raises InvalidParameter."""
    if not text:
        return None
    try:
        value = json.loads(text)
        return Platform(
            str(value["os"]), str(value["architecture"]), str(value.get("variant") or "")
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidParameter("failed to parse platform: invalid platform") from None


def choose(candidates: Iterable[tuple[Platform, Candidate]], wanted: Platform) -> Candidate | None:
    """The candidate that fits best, the first of equals; None when none fits."""
    ranked = [(wanted.rank(own), candidate) for own, candidate in candidates]
    fitting = [(rank, candidate) for rank, candidate in ranked if rank is not None]
    return min(fitting, key=lambda pair: pair[0])[1] if fitting else None


def choose_manifest(entries: Iterable[dict[str, Any]], wanted: Platform) -> dict[str, Any] | None:
    """The entry of an index for a platform; entries without one, as attestations, are skipped."""
    named = [(entry.get("platform"), entry) for entry in entries]
    return choose([(Platform.of(own), entry) for own, entry in named if own], wanted)


@cache
def host_platform() -> Platform:
    """What runs here without a choice, as Docker detects it: with the CPU's level."""
    if engines.host_isa() == "arm64":
        return Platform("linux", "arm64", "v8")
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return Platform("linux", "amd64", amd64_level(flags))


def amd64_level(flags: str) -> str:
    """The variant that /proc/cpuinfo's flags amount to; empty for the first level."""
    have, level = set(flags.split()), ""
    for name, needed in _LEVELS:
        if not have.issuperset(needed.split()):
            break
        level = name
    return level
