"""An emulator that counts: qemu-user with a plugin, in a directory to be put first on PATH.

Debian's static emulator cannot load plugins; its dynamic one (package qemu-user) can, and is
unpacked into the cache together with the libraries the machine lacks. It is started by a script
under the static one's name, which needs nothing of the environment it is given: whoever looks for
the emulator on PATH and starts it with an empty environment has its guests counted.
"""

from __future__ import annotations

import shlex
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.guests import cross
from tests.images import cache
from tools import debs

HERE = Path(__file__).parent
NAME = "qemu-aarch64-static"  # as the product looks for it
PACKAGES = ("qemu-user", "libcapstone4", "liburing2", "libglib2.0-0", "libgnutls30")
LIBRARIES = "usr/lib/x86_64-linux-gnu"
# Exactly 3 + 2 * 1000 + 3 instructions.
KNOWN = """\
.globl _start
_start: mov x0, #1000
nop
nop
again: subs x0, x0, #1
b.ne again
mov x0, #0
mov x8, #93
svc #0
"""
KNOWN_COUNT = 3 + 2 * 1000 + 3


def _emulator() -> Path:
    """Unpack the dynamic emulator and return its prefix."""
    prefix = cache.directory() / "qemu-user"
    with cache.lock("qemu-user"):
        if not (prefix / "usr/bin/qemu-aarch64").exists():
            debs.fetch(PACKAGES, prefix)
    return prefix


def _plugin() -> Path:
    source = HERE / "count.c"
    target = cache.directory() / f"count-{cache.digest(source.read_bytes())}.so"
    if not target.exists():
        command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(target), str(source)]
        subprocess.run(command, check=True)
    return target


class Counter:
    """An emulator's directory and what its processes counted."""

    def __init__(self, base: Path) -> None:
        self.directory = base / "bin"
        self.counts = base / "counts"
        for path in (self.directory, self.counts):
            path.mkdir()
        prefix = _emulator()
        values = {
            "LD_LIBRARY_PATH": str(prefix / LIBRARIES),
            "QEMU_PLUGIN": f"{_plugin()},out={self.counts}",
        }
        settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in values.items())
        script = f'#!/bin/sh\n{settings} exec {prefix}/usr/bin/qemu-aarch64 "$@"\n'
        self.emulator = self.directory / NAME
        self.emulator.write_text(script)
        self.emulator.chmod(0o755)

    def take(self) -> int:
        """Return the instructions counted since the last time, of all processes together."""
        total = 0
        for path in self.counts.iterdir():
            content = path.read_bytes()[:8].ljust(8, b"\0")
            total += struct.unpack("Q", content)[0]
            path.unlink()
        return total

    def plain(self, command: Sequence[str]) -> int:
        """Run a program under the emulator and nothing else; return what it executed."""
        self.take()
        subprocess.run([str(self.emulator), *command], stdout=subprocess.PIPE, check=True)
        return self.take()

    def check(self) -> None:
        """Count a program whose count is known. Raises RuntimeError when it is off."""
        with tempfile.TemporaryDirectory(prefix="count-") as scratch:
            source, program = Path(scratch, "known.s"), Path(scratch, "known")
            source.write_text(KNOWN)
            command = [cross.COMPILER, "-nostdlib", "-static", "-o", str(program), str(source)]
            subprocess.run(command, check=True)
            counted = self.plain([str(program)])
        if counted != KNOWN_COUNT:
            raise RuntimeError(f"{counted} instructions counted, {KNOWN_COUNT} were executed")


@contextmanager
def counter() -> Iterator[Counter]:
    """Make an emulator that counts, checked.

    Raises debs.DebsError when the emulator cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="counter-") as base:
        made = Counter(Path(base))
        made.check()
        yield made
