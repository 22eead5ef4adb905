"""Taking figures: times of the same binary here and there, memory, processor use, patched calls."""

from __future__ import annotations

import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.bench.workloads import Bar
from tests.docker import leaks
from tests.docker.daemon import Daemon, eventually
from tests.images import debian, native

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Pairs:
    """Runs a workload natively and in a container by turns."""

    def __init__(self, docker: Daemon, image: str, programs: Path) -> None:
        self.docker = docker
        self.image = image
        self.programs = programs

    def _native(self, bar: Bar) -> str:
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            Path(scratch).chmod(0o1777)
            machine = native.Native(
                debian.tree(), Path(scratch), binds=[(self.programs, "/mnt/bench")]
            )
            run = machine.run([f"/mnt/bench/{bar.program}", bar.name], timeout=300)
        if run.status:
            raise RuntimeError(f"{bar.name} natively: {run}")
        return run.stdout.decode()

    def _ours(self, bar: Bar) -> str:
        words = ["run", "--rm", "-v", f"{self.programs}:/mnt/bench:ro", self.image]
        run = self.docker(*words, f"/mnt/bench/{bar.program}", bar.name, timeout=300)
        if run.status:
            raise RuntimeError(f"{bar.name} in a container: {run}")
        return run.stdout

    def times(self, bar: Bar, runs: int) -> tuple[float, float]:
        """Return the medians in nanoseconds: native, ours. Raises RuntimeError on a failed run."""
        here: list[float] = []
        there: list[float] = []
        checks = set()
        for _ in range(runs):
            for line, into in ((self._native(bar), here), (self._ours(bar), there)):
                _, nanoseconds, check = line.split()
                into.append(float(nanoseconds))
                checks.add(check)
        if len(checks) > 1:
            raise RuntimeError(f"{bar.name}: different results {checks}")
        return statistics.median(here), statistics.median(there)


def start_seconds(docker: Daemon, runs: int) -> float:
    """The median wall time of `docker run --rm busybox true`."""
    taken = []
    for _ in range(runs + 1):
        started = time.monotonic()
        done = docker("run --rm busybox true")
        taken.append(time.monotonic() - started)
        if done.status:
            raise RuntimeError(f"docker run: {done}")
    return statistics.median(taken[1:])


def pss_bytes(pids: Iterable[int]) -> int:
    """The processes' proportional share of memory."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        match = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
        total += int(match[1]) * 1024 if match else 0
    return total


def everyone(docker: Daemon) -> set[int]:
    """The daemon and all below it."""
    return {docker.pid} | leaks.descendants(docker.pid)


def sleepers(docker: Daemon, count: int) -> list[str]:
    """Start containers that sleep; return their ids once all do."""
    started = [docker("run -d busybox sleep 100000").stdout.strip() for _ in range(count)]
    eventually(lambda: len(docker("ps -q").stdout.split()) >= count)
    return started


def settled_pss(docker: Daemon) -> int:
    """The PSS once it stops changing."""
    last = -1

    def settled() -> int:
        nonlocal last
        previous, last = last, pss_bytes(everyone(docker))
        time.sleep(0.3)
        return last if abs(last - previous) < 1 << 18 else 0

    return int(eventually(settled, "memory use settles"))


def processor_seconds(pids: Iterable[int]) -> float:
    """User and system time the processes have used so far."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_SECOND


def idle_share(docker: Daemon, seconds: float) -> float:
    """The share of one core that daemon, kernels and guests use while nothing happens."""
    pids = everyone(docker)
    before, started = processor_seconds(pids), time.monotonic()
    time.sleep(seconds)
    return (processor_seconds(pids) - before) / (time.monotonic() - started)


def calls(docker: Daemon) -> tuple[int, int]:
    """System calls of all ended containers so far: how many entered, how many of them trapped."""
    path = docker.home / "run" / "calls.json"
    figures = json.loads(path.read_text()) if path.exists() else {}
    return figures.get("entered", 0), figures.get("trapped", 0)


def patched_share(docker: Daemon, image: str, script: str) -> float:
    """The share of executed calls that entered through a patched site, in the second run."""
    words = ["run", "--rm", image, "sh", "-c", script]
    for _ in range(2):
        entered, trapped = calls(docker)
        done = docker(*words)
        if done.status:
            raise RuntimeError(f"{script}: {done}")
    now_entered, now_trapped = calls(docker)
    if now_entered == entered:
        raise RuntimeError("no call was counted")
    return 1 - (now_trapped - trapped) / (now_entered - entered)
