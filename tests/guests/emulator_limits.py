"""What qemu-user itself cannot do: the entries of emulator_limits.toml, and plain runs under it.

Plain means that no part of ddock is involved: the arm64 program under the emulator, in the same
namespaces and tree as the native runs.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.guests import build
from tests.images import arm64, debian, native

EMULATOR = "qemu-aarch64-static"


@dataclass(frozen=True)
class Limit:
    """Where Linux prints `linux`, the emulator prints something that matches `emulator`."""

    program: str
    linux: str
    emulator: str
    reason: str
    variants: tuple[str, ...] = build.VARIANTS


def limits(program: str, variant: str) -> list[Limit]:
    """Return what is known of one build of a program."""
    return [one for one in ALL if one.program == program and variant in one.variants]


def _read() -> list[Limit]:
    text = (build.SOURCES / "emulator_limits.toml").read_text()
    return [
        Limit(**entry | {"variants": tuple(entry.get("variants", build.VARIANTS))})
        for entry in tomllib.loads(text)["limit"]
    ]


ALL = _read()


def forgiven(transcript: str, expected: str, known: list[Limit]) -> str:
    """Put Linux's lines where the transcript has the emulator's.

    A line is replaced once for each time that Linux's is missing, and never without need: the
    emulator's "child exited 1" excuses one "child exited 0", not all of them.
    """
    lines = transcript.splitlines(keepends=True)
    for limit in known:
        wanted = f"{limit.linux}\n"
        missing = expected.count(wanted) - lines.count(wanted)
        for at, line in enumerate(lines):
            if missing > 0 and re.fullmatch(limit.emulator, line.rstrip("\n")):
                lines[at] = wanted
                missing -= 1
    return "".join(lines)


def available() -> str:
    """Return "" when plain runs can be made here, else the reason why not."""
    if shutil.which(EMULATOR) is None:
        return f"{EMULATOR} is not installed"
    return native.available()


def plain(programs: Path, variant: str, name: str, timeout: float = 60) -> native.Run:
    """Run one program under the emulator and nothing else."""
    emulator = shutil.which(EMULATOR)
    assert emulator is not None, "see available()"
    binds = [(programs, "/mnt/guests"), (Path(emulator), "/mnt/emulator")]
    command = ["/mnt/emulator"]
    if not variant.endswith("-static"):
        binds.append((arm64.tree(), "/mnt/tree"))
        command += ["-L", "/mnt/tree"]  # also shadows paths that programs open: only where needed
    with tempfile.TemporaryDirectory(prefix="plain-") as scratch:
        Path(scratch).chmod(0o1777)
        machine = native.Native(debian.tree(), Path(scratch), binds=binds)
        return machine.run([*command, f"/mnt/guests/{variant}/{name}"], timeout=timeout)
