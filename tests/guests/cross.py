"""Compile the guest programs for arm64 on this machine, once per content of the sources.

The cross compiler is the machine's (Debian: gcc-aarch64-linux-gnu); its glibc is no newer than
that of the arm64 tree, which has the loaders of both libcs. musl comes from Debian's arm64 package
and a specs file of the form its `musl-gcc` uses.
"""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.guests import build
from tests.images import cache, debian, foreign

COMPILER = "aarch64-linux-gnu-gcc"
VARIANTS = build.VARIANTS
MUSL = ("musl-dev", "linux-libc-dev")
SPECS = """\
%rename cpp_options old_cpp_options

*cpp_options:
-nostdinc -isystem PREFIX/include/aarch64-linux-musl -isystem include%s \
-idirafter PREFIX/include -idirafter PREFIX/include/aarch64-linux-gnu %(old_cpp_options)

*cc1:
%(cc1_cpu) -nostdinc -isystem PREFIX/include/aarch64-linux-musl -isystem include%s \
-idirafter PREFIX/include -idirafter PREFIX/include/aarch64-linux-gnu

*link_libgcc:
-LLIB -L .%s

*libgcc:
libgcc.a%s %:if-exists(libgcc_eh.a%s)

*startfile:
%{!shared: LIB/Scrt1.o} LIB/crti.o crtbeginS.o%s

*endfile:
crtendS.o%s LIB/crtn.o

*link:
-dynamic-linker /lib/ld-musl-aarch64.so.1 -nostdlib %{static:-static}
"""


def available() -> str:
    """Return "" when programs can be compiled, else the reason why not."""
    return "" if shutil.which(COMPILER) else f"{COMPILER} is not installed"


def _musl() -> Path:
    """Unpack musl for arm64 into the cache and return the specs file."""
    prefix = cache.directory() / f"musl-arm64-{cache.digest(SPECS, *MUSL)}"
    specs = prefix / "musl.specs"
    with cache.lock("musl-arm64"):
        if not specs.exists():
            foreign.unpack(MUSL, debian.SUITE, prefix)
            usr = prefix / "usr"
            text = SPECS.replace("PREFIX", str(usr))
            specs.write_text(text.replace("LIB", f"{usr}/lib/aarch64-linux-musl"))
    return specs


def compile_one(source: Path, target: Path, *options: str) -> None:
    """Compile one program. Raises RuntimeError with the compiler's words."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # Libraries are among the options: they come after what needs them.
    command = [COMPILER, *build.FLAGS.split(), "-o", str(target), str(source), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"compiling {target.name}: {done.stderr}")


def compiled() -> Path:
    """Return the directory that holds `<variant>/<name>` for every program."""
    texts = [path.read_bytes() for path in sorted(build.SOURCES.glob("*.[ch]"))]
    description = cache.digest(SPECS, build.FLAGS, *MUSL, *texts)
    return cache.made("guests-arm64", description, _compile)


def _compile(target: Path) -> None:
    specs = f"-specs={_musl()}"
    options = {
        "glibc": [],
        "glibc-static": ["-static"],
        "musl": [specs],
        "musl-static": [specs, "-static"],
    }

    def compile_program(variant: str, name: str) -> None:
        source = build.SOURCES / f"{name}.c"
        compile_one(source, target / variant / name, *options[variant], "-lrt")

    with ThreadPoolExecutor(2) as pool:
        every = [
            pool.submit(compile_program, variant, name)
            for variant in VARIANTS
            for name in build.names()
        ]
        for one in every:
            one.result()
