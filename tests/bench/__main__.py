"""`make bench`: every bar, measured; a table, and JSON in bench-results/.

A time's ratio is ours against the same binary run natively in the same run, by turns, medians of
at least five. `--only WORD` measures the lines that contain the word; `--runs N` repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from tests.bench import measure, workloads
from tests.docker.daemon import Daemon
from tests.images import debian

RESULTS = Path(__file__).resolve().parents[2] / "bench-results"
HELLO = "printf 'int puts(const char*);int main(){puts(\"hello\");}' >h.c && gcc h.c && ./a.out"
PATCHED = {"dpkg -l": "dpkg -l", "python3 -c pass": "python3 -c pass", "gcc hello.c": HELLO}
MIB = 1 << 20
LOAD_BEFORE = os.getloadavg()[0]


@dataclass(frozen=True)
class Line:
    """One measured thing. `holds` says whether it is within its bar."""

    what: str
    figure: float
    unit: str
    bar: float
    holds: bool
    native: float = 0.0
    ours: float = 0.0
    error: str = ""


def at_most(what: str, figure: float, bar: float, unit: str) -> Line:
    """A figure that must not be larger than its bar."""
    return Line(what, figure, unit, bar, figure <= bar)


def duration(nanoseconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.2f} {unit}"
    return f"{nanoseconds:.0f} ns"


def shown(line: Line) -> str:
    """The line as the table has it."""
    if line.error:
        return f"{line.what:<28} {'-':>12} {'-':>12} {'-':>9} {'':>9}  ERROR {line.error}"
    verdict = "ok" if line.holds else "MISSED"
    if line.unit == "x native":
        sides = f"{duration(line.native):>12} {duration(line.ours):>12}"
        return f"{line.what:<28} {sides} {line.figure:>8.2f}x {line.bar:>8.2f}x  {verdict}"
    figure, bar = f"{line.figure:.4g}", f"{line.bar:.4g}"
    return f"{line.what:<28} {'':>12} {'':>12} {figure:>9} {bar:>9}  {verdict} ({line.unit})"


def timed(pairs: measure.Pairs, bar: workloads.Bar, runs: int) -> Line:
    """Measure one workload."""
    native, ours = pairs.times(bar, runs)
    ratio = ours / native
    return Line(bar.name, ratio, "x native", bar.most, ratio <= bar.most, native, ours)


def start_latency(docker: Daemon, runs: int) -> Line:
    """Measure `docker run --rm busybox true`."""
    seconds = measure.start_seconds(docker, max(runs, 5) * 2)
    return at_most("docker run busybox true", seconds * 1000, 120, "ms")


def patched(docker: Daemon, image: str, name: str) -> Line:
    """Measure the share of patched calls."""
    share = measure.patched_share(docker, image, PATCHED[name]) * 100
    return Line(f"patched: {name}", share, "%, at least", 95, share >= 95)


def idle(docker: Daemon) -> Iterator[Line]:
    """Measure memory and processor use at rest."""
    at_rest = measure.settled_pss(docker)
    yield at_most("daemon idle PSS", at_rest / MIB, 80, "MB")
    try:
        measure.sleepers(docker, 10)
        added = (measure.settled_pss(docker) - at_rest) / 10
        yield at_most("PSS a sleeping container", added / MIB, 15, "MB")
        measure.sleepers(docker, 10)
        share = measure.idle_share(docker, 10) * 100
        yield at_most("CPU with 20 sleeping", share, 1, "% of a core")
    finally:
        docker("rm", "-f", *docker("ps -aq").stdout.split())


def lines(docker: Daemon, image: str, runs: int, only: str) -> Iterator[Line]:
    """Measure everything whose name contains `only`."""
    pairs = measure.Pairs(docker, image, workloads.compiled())
    tasks: list[tuple[str, Callable[[], Line]]] = [
        ("docker run busybox true", partial(start_latency, docker, runs))
    ]
    for bar in workloads.CALLS + workloads.COMPUTE:
        tasks += [(bar.name, partial(timed, pairs, bar, runs))]
    for name in PATCHED:
        tasks += [(f"patched: {name}", partial(patched, docker, image, name))]
    for what, task in tasks:
        if only in what:
            try:
                yield task()
            except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                yield Line(what, 0, "", 0, holds=False, error=str(error)[:200])
    if only in "idle":
        yield from idle(docker)


def write(measured: Sequence[Line], runs: int) -> Path:
    """Put the figures into a JSON file of their own."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"bench-{time.strftime('%Y%m%d-%H%M%S')}.json"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    about = {
        "commit": commit.stdout.strip(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "runs": runs,
        "load_before": LOAD_BEFORE,
    }
    path.write_text(json.dumps({**about, "lines": [asdict(line) for line in measured]}, indent=1))
    return path


def main() -> int:
    """Measure, print, write; 1 when a bar is missed and `--strict` was given."""
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--strict", action="store_true")
    options = parser.parse_args()
    docker = Daemon()
    docker.start()
    measured = []
    try:
        made = docker.ddock("image", "bootstrap", "busybox", "--offline")
        done = docker("import", str(debian.tarball()), "debian:test", timeout=300)
        if made.status or done.status:
            print(made.stderr + done.stderr, file=sys.stderr)
            return 1
        if LOAD_BEFORE > 0.5:
            print(
                f"the machine is busy (load {LOAD_BEFORE:.1f}): ratios will be worse than they are"
            )
        print(f"{'':<28} {'native':>12} {'ddock':>12} {'ratio':>9} {'bar':>9}")
        for line in lines(docker, "debian:test", options.runs, options.only):
            measured.append(line)
            print(shown(line), flush=True)
    finally:
        docker.remove()
    missed = [line.what for line in measured if not line.holds]
    held = len(measured) - len(missed)
    print(f"{held} of {len(measured)} bars hold; {write(measured, options.runs)}")
    if missed:
        print(f"missed: {', '.join(missed)}")
    return int(bool(missed) and options.strict)


if __name__ == "__main__":
    sys.exit(main())
