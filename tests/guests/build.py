"""Compile the guest programs inside the Debian tree, once per content of the sources."""

from __future__ import annotations

from pathlib import Path

from tests.images import cache, debian, native

SOURCES = Path(__file__).parent
VARIANTS = ("glibc", "glibc-static", "musl", "musl-static")
# Warnings are kept on while writing programs (see CONTRIBUTING.md), not here.
FLAGS = "-O2 -w -pthread -fno-strict-aliasing"
# Kernel headers for musl-gcc, which looks only at its own.
LINUX_HEADERS = "-idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu"
SCRIPT = """
set -e
for name; do
    for variant in VARIANTS; do
        case $variant in
            glibc) compiler="gcc" ;;
            glibc-static) compiler="gcc -static" ;;
            musl) compiler="musl-gcc HEADERS" ;;
            musl-static) compiler="musl-gcc -static HEADERS" ;;
        esac
        mkdir -p /mnt/out/$variant
        printf '%s FLAGS -o /mnt/out/%s/%s /mnt/src/%s.c -lrt\\0' "$compiler" $variant $name $name
    done
done | xargs -0 -n 1 -P 2 sh -c
"""

for placeholder, text in (
    ("FLAGS", FLAGS),
    ("HEADERS", LINUX_HEADERS),
    ("VARIANTS", " ".join(VARIANTS)),
):
    SCRIPT = SCRIPT.replace(placeholder, text)


def names() -> list[str]:
    """Name the programs."""
    return sorted(path.stem for path in SOURCES.glob("*.c"))


def compiled() -> Path:
    """Return the directory that holds `<variant>/<name>` for every program."""
    texts = [path.read_bytes() for path in sorted(SOURCES.glob("*.[ch]"))]
    return cache.made("guests", cache.digest(SCRIPT, *texts, *debian.PACKAGES), _compile)


def _compile(target: Path) -> None:
    native.build(
        debian.tree(),
        ["sh", "-c", SCRIPT, "build", *names()],
        [(SOURCES, "/mnt/src"), (target, "/mnt/out")],
    )
