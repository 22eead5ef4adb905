"""What a test may not leave behind: processes, shared memory, descriptors, temporary files.

Other daemons may live on the machine; only what belongs to the one under test counts.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from tests.docker.daemon import Daemon, eventually

SHARED = Path("/dev/shm")
SLOT = re.compile(r"ddock-(\d+)-[0-9a-f]+")
OURS = re.compile(rf"{SLOT.pattern}|ddock-[0-9a-f]{{64}}.*")


def children() -> dict[int, list[int]]:
    """Every process's children."""
    found: dict[int, list[int]] = defaultdict(list)
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            found[int(stat.rpartition(")")[2].split()[1])].append(int(entry))
    return found


def descendants(pid: int) -> set[int]:
    """All processes below `pid`."""
    table = children()
    found: set[int] = set()
    waiting = list(table[pid])
    while waiting:
        child = waiting.pop()
        found.add(child)
        waiting += table[child]
    return found


def describe(pid: int) -> str:
    """A process's number, state and command line."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return f"{pid} (gone)"
    return f"{pid} [{state}] {line}"


def users_of(home: Path) -> set[int]:
    """Processes that run or map a file of the home: guests that nobody has as a descendant."""
    found = set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            target = os.readlink(f"/proc/{entry}/exe")
        except OSError:
            continue
        if target.startswith(f"{home}/"):
            found.add(int(entry))
    return found


def shared_objects() -> set[str]:
    """Our kind of shared-memory objects."""
    return {name for name in os.listdir(SHARED) if OURS.fullmatch(name)}


def _other_homes(own: Path) -> list[Path]:
    homes = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"--home" in words[:-1]:
            homes.append(Path(os.fsdecode(words[words.index(b"--home") + 1])))
    return [home for home in homes if home != own]


def _belongs_to_another(name: str, ours: set[int], homes: list[Path]) -> bool:
    match = SLOT.fullmatch(name)
    if match:
        pid = int(match[1])
        return pid not in ours and Path(f"/proc/{pid}").exists()
    identity = name.removeprefix("ddock-").partition("-")[0]
    for home in homes:
        try:
            if (home / "containers" / identity).exists():
                return True
        except PermissionError:  # another user's
            if (SHARED / name).stat().st_uid != os.geteuid():
                return True
    return False


@dataclass
class State:
    """What exists before a test."""

    daemon_pid: int
    processes: set[int]
    objects: set[str]
    descriptors: int
    scratch: set[str]

    @classmethod
    def of(cls, daemon: Daemon) -> State:
        """Look at the daemon and the machine."""
        pid = daemon.pid
        return cls(
            pid,
            descendants(pid) | users_of(daemon.home),
            shared_objects(),
            len(os.listdir(f"/proc/{pid}/fd")),
            set(os.listdir(daemon.home / "tmp")),
        )


def _link(pid: int, fd: object) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}")
    except FileNotFoundError:
        return "closed meanwhile"


def complaints(before: State, daemon: Daemon) -> list[str]:
    """What is there now and was not before."""
    now = State.of(daemon)
    found = [f"process {describe(pid)}" for pid in sorted(now.processes - before.processes)]
    homes = _other_homes(daemon.home)
    found += [
        f"shared memory {name}"
        for name in sorted(now.objects - before.objects)
        if not _belongs_to_another(name, now.processes, homes)
    ]
    if now.descriptors > before.descriptors:
        links = [_link(now.daemon_pid, fd) for fd in _descriptors(now)]
        found.append(f"descriptors {before.descriptors} -> {now.descriptors}: {links}")
    found += [f"scratch {name}" for name in sorted(now.scratch - before.scratch)]
    found += [f"container {path.name}" for path in (daemon.home / "containers").iterdir()]
    return found


def _descriptors(state: State) -> list[str]:
    return os.listdir(f"/proc/{state.daemon_pid}/fd")


def check(before: State, daemon: Daemon, deadline_seconds: float = 3.0) -> None:
    """Fail unless all that the test made is gone, soon."""
    remaining: list[str] = []

    def clean() -> bool:
        remaining[:] = complaints(before, daemon)
        return not remaining

    try:
        eventually(clean, deadline_seconds=deadline_seconds)
    except AssertionError:
        listing = "\n  ".join(remaining)
        raise AssertionError(f"left behind:\n  {listing}\n{daemon.log_tail(15)}") from None
