"""The measured programs, compiled in the Debian tree, and what each may cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.images import cache, debian, native

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Bar:
    """One line of the table: `program name` is run; its time may be `most` times native's."""

    program: str
    name: str
    most: float


def _bars(program: str, most: float, *names: str) -> list[Bar]:
    return [Bar(program, name, most) for name in names]


# At least 0.97x native speed is at most 1/0.97 of its time.
COMPUTE = _bars(
    "compute",
    1 / 0.97,
    "sieve",
    "nbody",
    "sha256",
    "memcpy",
    "matmul",
    "mandelbrot",
    "qsort",
    "base64",
    "scan",
    "sqlite",
)
CALLS = [
    *_bars(
        "calls",
        1.5,
        "getppid",
        "read-1",
        "write-1",
        "pread-4k",
        "pipe-ping-pong",
        "futex-ping-pong",
        "epoll-wait-ready",
        "mmap+munmap",
    ),
    *_bars("calls", 6.0, "stat", "open+close", "readlink"),
    *_bars("calls", 1.5, "fork+wait"),
    *_bars("calls", 2.5, "fork+exec+wait"),
]

SCRIPT = """
set -e
gcc -O2 -w -o /mnt/out/compute /mnt/bench/compute.c -lsqlite3 -lm
gcc -O2 -w -pthread -o /mnt/out/calls /mnt/bench/calls.c
"""


def compiled() -> Path:
    """Return the directory with `compute` and `calls`."""
    texts = [path.read_bytes() for path in sorted(HERE.glob("*.c"))]
    return cache.made("bench", cache.digest(SCRIPT, *texts, *debian.PACKAGES), _compile)


def _compile(target: Path) -> None:
    native.build(debian.tree(), ["sh", "-c", SCRIPT], [(HERE, "/mnt/bench"), (target, "/mnt/out")])
