"""Figures of a running container: `docker stats` and `docker top`."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernel.container import Container
    from kernel.process import Process

_TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")


def stats(container: Container) -> dict[str, int]:
    """cpu_user_ns, cpu_system_ns, memory_bytes, pids of all guests."""
    user = system = memory = pids = 0
    for process in container.pids.values():
        if process.zombie or not process.host_pid:
            continue
        pids += len(process.tasks)
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{process.host_pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            user += int(fields[11]) * _TICK_NS
            system += int(fields[12]) * _TICK_NS
            memory += int(fields[21]) * os.sysconf("SC_PAGESIZE")
    init = container.pids.get(1)
    if init is not None:
        user += int(init.children_rusage[0] * 1e9)
        system += int(init.children_rusage[1] * 1e9)
    return {"cpu_user_ns": user, "cpu_system_ns": system, "memory_bytes": memory, "pids": pids}


def top(container: Container) -> dict[str, Any]:
    """ps -ef of the container, with guest pids."""
    titles = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    rows = [_row(process) for process in sorted(container.pids.values(), key=lambda p: p.pid)]
    return {"titles": titles, "processes": rows}


def _row(process: Process) -> list[str]:
    leader = process.leader
    uid = leader.credentials.uid if leader is not None else 0
    command = b" ".join(process.argv) if not process.zombie else b"[%s] <defunct>" % process.comm
    seconds = int(process.rusage[0] + process.rusage[1])
    time = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    parent = process.parent.pid if process.parent is not None else 0
    user = "root" if uid == 0 else str(uid)
    text = command.decode("utf-8", "replace")
    return [user, str(process.pid), str(parent), "0", "?", "?", time, text]
