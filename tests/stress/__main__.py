"""`python -m tests.stress --containers N --processes M --seconds S`.

N containers run at once, each a storm of M worker processes for S seconds (tests/stress/storm.c);
meanwhile short-lived containers come and go. Every result is checked; at the end nothing may be
left. `--native` runs the storm on the machine's own kernel instead, to check the storm itself.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.docker import leaks
from tests.docker.daemon import Daemon
from tests.guests import cross
from tests.images import arm64, cache, debian, native

SOURCE = Path(__file__).with_name("storm.c")
HEADER = Path(__file__).parents[1] / "guests" / "guest.h"
SLACK_SECONDS = 90
IMAGES = {
    "x86_64": ["busybox"],
    "arm64": ["--platform", "linux/arm64", "busybox:arm64"],
}


def program(isa: str) -> Path:
    """Compile the storm, statically; return its directory."""
    texts = SOURCE.read_bytes(), HEADER.read_bytes()
    if isa == "arm64":
        return cache.made("storm-arm64", cache.digest(*texts), _cross_compile)
    return cache.made("storm", cache.digest(*texts, *debian.PACKAGES), _compile)


def _compile(target: Path) -> None:
    native.build(
        debian.tree(),
        "gcc -O2 -w -pthread -static -o /mnt/out/storm /mnt/tests/stress/storm.c",
        [(SOURCE.parents[1], "/mnt/tests"), (target, "/mnt/out")],
    )


def _cross_compile(target: Path) -> None:
    cross.compile_one(SOURCE, target / "storm", "-static")


@dataclass
class Storm:
    """One container's storm as seen from outside."""

    number: int
    rounds: int = 0
    lines: list[str] = field(default_factory=list)
    status: int | None = None
    finished: bool = False

    def follow(self, client: subprocess.Popen[bytes], deadline: float) -> None:
        """Read what it prints until it ends."""
        assert client.stdout
        with client:
            timer = threading.Timer(max(deadline - time.monotonic(), 0.1), client.kill)
            timer.start()
            for raw in client.stdout:
                line = raw.decode(errors="replace").rstrip()
                word, _, number = line.partition(" ")
                if word in {"tick", "done"} and number.isdigit():
                    self.rounds = int(number)
                    self.finished = self.finished or word == "done"
                else:
                    self.lines.append(line)
            self.status = client.wait()
            timer.cancel()

    @property
    def failure(self) -> str:
        """What went wrong, empty when nothing did."""
        if self.status == 0 and self.finished and not self.lines:
            return ""
        text = "; ".join(self.lines[-5:])
        return f"storm {self.number}: status {self.status}, {self.rounds} rounds: {text}"


class Visitors:
    """Short-lived containers beside the storms, each with an answer that is checked."""

    def __init__(self, docker: Daemon, until: float, image: Sequence[str]) -> None:
        self.docker = docker
        self.image = image
        self.until = until
        self.count = 0
        self.failures: list[str] = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while time.monotonic() < self.until:
            number = self.count % 100
            script = f"echo visitor {number} | cat; exit {number}"
            try:
                done = self.docker("run", "--rm", *self.image, "sh", "-c", script, timeout=60)
            except subprocess.TimeoutExpired:
                self.failures.append(f"visitor {self.count} did not end")
                continue
            if done != (f"visitor {number}\n", "", number):
                self.failures.append(f"visitor {self.count}: {done}")
            self.count += 1


def storm(
    docker: Daemon, containers: int, processes: int, seconds: float, seed: int, isa: str = "x86_64"
) -> list[str]:
    """Run it all; return what went wrong."""
    directory = program(isa)
    image = IMAGES[isa]
    started = time.monotonic()
    deadline = started + seconds + SLACK_SECONDS
    storms, threads = [], []
    for number in range(containers):
        client = docker.popen(
            "run", "--rm", "-v", f"{directory}:/storm:ro", *image, "/storm/storm",
            str(processes), str(seconds), str(seed + number),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        storms.append(Storm(number))
        threads.append(threading.Thread(target=storms[-1].follow, args=(client, deadline)))
        threads[-1].start()
    visitors = Visitors(docker, started + seconds, image)
    while alive := [thread for thread in threads if thread.is_alive()]:
        alive[0].join(1.0)
        rounds = sum(one.rounds for one in storms)
        running = sum(thread.is_alive() for thread in threads)
        elapsed = time.monotonic() - started
        guests = len(leaks.descendants(docker.pid))
        progress = f"{elapsed:5.0f} s  {running} storms  {rounds} rounds  {guests} processes"
        print(f"{progress}  {visitors.count} visitors", flush=True)
    visitors.thread.join()
    failures = [one.failure for one in storms if one.failure] + visitors.failures
    rounds = sum(one.rounds for one in storms)
    elapsed = time.monotonic() - started
    verdict = f"{len(failures)} FAILED" if failures else "all right"
    print(
        f"summary: {containers} containers x {processes} processes, {elapsed:.0f} s, {rounds}"
        f" rounds ({rounds / elapsed:.0f}/s), {visitors.count} visitors, {verdict}"
    )
    return failures


def natively(processes: int, seconds: float, seed: int) -> int:
    """Run one storm in the chroot."""
    directory = program("x86_64")
    scratch = directory.with_suffix(".tmp")
    scratch.mkdir(exist_ok=True)
    scratch.chmod(0o1777)
    machine = native.Native(debian.tree(), scratch, binds=[(directory, "/mnt/storm")])
    command = ["/mnt/storm/storm", str(processes), str(seconds), str(seed)]
    return subprocess.run(machine.command(command), check=False).returncode


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="tests.stress", description=__doc__)
    parser.add_argument("--containers", type=int, default=4)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--native", action="store_true")
    parser.add_argument("--isa", choices=IMAGES, default="x86_64", help="of the guests")
    options = parser.parse_args(arguments)
    if options.native:
        return natively(options.processes, options.seconds, options.seed)
    docker = Daemon()
    docker.start()
    try:
        made = docker.ddock("image", "bootstrap", "busybox", "--offline")
        if made.status:
            print(made.stderr, file=sys.stderr)
            return 1
        if options.isa == "arm64":
            words = ("import", "--platform", "linux/arm64", str(arm64.busybox()), "busybox:arm64")
            docker(*words)
        before = leaks.State.of(docker)
        failures = storm(
            docker,
            options.containers,
            options.processes,
            options.seconds,
            options.seed,
            options.isa,
        )
        for failure in failures:
            print(failure)
        try:
            leaks.check(before, docker)
        except AssertionError as error:
            print(error)
            return 1
        return int(bool(failures))
    finally:
        docker.remove()


if __name__ == "__main__":
    sys.exit(main())
