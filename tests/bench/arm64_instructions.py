"""`python -m tests.bench.arm64_instructions`: guest instructions, ours against plain emulation.

The workloads, built for arm64 and static, run (a) directly under the counting emulator and (b) as
our guests under the same one; the counts do not depend on the machine's load. The bars: (b)/(a) of
each computation at most 1.02; fewer than 60 instructions added to a call that the stub serves.
`--plain` stops at (a), `--only WORD` measures the lines that contain the word.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from pathlib import Path

from tests.bench import instructions, workloads
from tests.docker.daemon import Daemon
from tests.guests import cross
from tests.images import arm64, cache, debian, foreign

MOST = 1.02
ADDED_MOST = 60
IMAGE = "counted:arm64"
# Calls that one run of calls.c makes: its REPEAT count, and a twentieth and one to warm up.
CALLS = {"getppid": 1_050_001, "read-1": 525_001, "write-1": 525_001, "pread-4k": 315_001}


@functools.cache
def _sqlite() -> Path:
    prefix = cache.directory() / "sqlite-arm64"
    with cache.lock("sqlite-arm64"):
        if not (prefix / "usr/include/sqlite3.h").exists():
            foreign.unpack(["libsqlite3-dev"], debian.SUITE, prefix)
    return prefix / "usr"


def compiled() -> Path:
    """Return the directory with static arm64 `compute` and `calls`."""
    texts = [path.read_bytes() for path in sorted(workloads.HERE.glob("*.c"))]
    return cache.made("bench-arm64", cache.digest(*texts), _compile)


def _compile(target: Path) -> None:
    usr, static = _sqlite(), ("-static", "-Wl,--no-warnings")
    library = f"{usr}/lib/aarch64-linux-gnu/libsqlite3.a"
    sqlite = (f"-I{usr}/include", library, "-lm", "-ldl")
    cross.compile_one(workloads.HERE / "compute.c", target / "compute", *static, *sqlite)
    cross.compile_one(workloads.HERE / "calls.c", target / "calls", *static)


def counting_daemon(counter: instructions.Counter) -> Daemon:
    """Start a daemon that finds the counting emulator first, with an arm64 image."""
    daemon = Daemon()
    path = daemon.environment["PATH"]
    daemon.environment["PATH"] = f"{counter.directory}{os.pathsep}{path}"
    daemon.start()
    words = ("import", "--platform", "linux/arm64", str(arm64.busybox()), IMAGE)
    done = daemon(*words)
    if done.status:
        raise RuntimeError(f"docker import: {done}")
    return daemon


def ours(
    daemon: Daemon, counter: instructions.Counter, programs: Path, program: str, name: str
) -> int:
    """Run a workload as our guest; return the instructions of stub and program together."""
    counter.take()
    done = daemon(
        *("run", "--rm", "--platform", "linux/arm64", "-v", f"{programs}:/bench:ro", IMAGE),
        *(f"/bench/{program}", name),
        timeout=600,
    )
    counted = counter.take()
    if done.status:
        raise RuntimeError(f"{program} {name}: {done}")
    if not counted:
        raise RuntimeError(f"{program} {name}: the guest did not run under the counting emulator")
    return counted


def main() -> int:
    """Measure and print; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plain", action="store_true", help="only (a), without a daemon")
    parser.add_argument("--only", default="", metavar="WORD")
    options = parser.parse_args()
    lines = [("compute", bar.name) for bar in workloads.COMPUTE]
    lines += [("calls", name) for name in CALLS]
    programs, missed = compiled(), 0
    with instructions.counter() as counter:
        daemon = None if options.plain else counting_daemon(counter)
        try:
            for program, name in lines:
                if options.only not in name:
                    continue
                plain = counter.plain([str(programs / program), name])
                text = f"{name:<14} {plain:>16,}"
                if program == "calls":
                    text += f" {plain / CALLS[name]:>8.1f} a call"
                if daemon:
                    mine = ours(daemon, counter, programs, program, name)
                    added = (mine - plain) / CALLS.get(name, 1)
                    holds = added < ADDED_MOST if program == "calls" else mine / plain <= MOST
                    missed += not holds
                    figure = f"+{added:.1f}" if program == "calls" else f"{mine / plain:.4f}x"
                    text += f" {mine:>16,} {figure:>10}  {'ok' if holds else 'MISSED'}"
                print(text, flush=True)
        finally:
            if daemon:
                daemon.remove()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
