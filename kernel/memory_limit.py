"""`docker run --memory` without a cgroup: sum up what guests hold, and kill the largest when over.

Only containers with a limit are watched, each `_INTERVAL_S`. What is counted is the proportional
share of each process's memory without file pages, as a cgroup would charge anonymous memory; a
guest may overshoot between two looks.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from kernel.host.profiles import HOST_PAGE

if TYPE_CHECKING:
    from kernel.container import Container
    from kernel.process import Process

_INTERVAL_S = 0.05
_SIGKILL = 9


class MemoryLimit:
    """Watches `container` while there is a limit (`set`, in bytes; 0: none)."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._limit = 0
        self._timer: asyncio.TimerHandle | None = None

    def set(self, limit_bytes: int) -> None:
        """Begin, change or end watching."""
        self._limit = limit_bytes
        if self._timer is None and limit_bytes:
            self._look()

    def _look(self) -> None:
        self._timer = None
        if self._container.ended or not self._limit:
            return
        processes = [p for p in self._container.pids.values() if not p.zombie and not p.ending]
        held = [(_resident_bytes(process), process) for process in processes]
        # Cheap first: resident pages count shared ones again and again. Look closer when near.
        if sum(size for size, _ in held) > self._limit:
            held = [(_anonymous_bytes(process), process) for process in processes]
            if held and sum(size for size, _ in held) > self._limit:
                _, largest = max(held, key=lambda item: item[0])
                self._kill(largest)
        self._timer = asyncio.get_running_loop().call_later(_INTERVAL_S, self._look)

    def _kill(self, process: Process) -> None:
        self._container.oom_killed = True
        self._container.kill(process, _SIGKILL)


def _resident_bytes(process: Process) -> int:
    with (
        contextlib.suppress(OSError, ValueError, IndexError),
        open(f"/proc/{process.host_pid}/statm", "rb") as file,
    ):
        return int(file.read().split()[1]) * HOST_PAGE
    return 0


def _anonymous_bytes(process: Process) -> int:
    total = 0
    with (
        contextlib.suppress(OSError, ValueError, IndexError),
        open(f"/proc/{process.host_pid}/smaps_rollup", "rb") as file,
    ):
        for line in file:
            if line.startswith((b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:")):
                total += int(line.split()[1]) * 1024
    return total
