"""Collecting host processes that have ended.

The last member of a process group stays a host zombie until the guest has waited for it: on Linux a
zombie keeps its group, and a shell may join it (`true | cat`) or put it in front after its first
process has ended. So the host calls about it must find the group.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from kernel.host.linux import wait_noreap
from kernel.signals.state import SA_NOCLDWAIT, SIG_IGN, SIGCHLD

if TYPE_CHECKING:
    from kernel.container import Container
    from kernel.process import Process


class Ended(NamedTuple):
    """A host process that has ended: its wait status; user and system seconds, peak KiB."""

    process: Process | None
    status: int
    usage: tuple[float, float, int]


class Reaper:
    """Finds ended host processes of one container."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._kept: set[Process] = set()  # guest zombies that are host zombies too

    def next(self) -> Ended | None:
        """One more that has ended. None: no more at present."""
        container = self._container
        if len(container.host_groups) > 1 or container.pidfd_users:
            return self._look_first()
        try:
            host_pid, status, usage = os.wait3(os.WNOHANG)
        except ChildProcessError:
            return None
        if not host_pid:
            return None
        process = self._forget(host_pid)
        return Ended(process, status, (usage.ru_utime, usage.ru_stime, usage.ru_maxrss))

    def _look_first(self) -> Ended | None:
        """As `next`, where a host process may have to stay, or its pidfds to be learnt."""
        container = self._container
        found = None
        if not self._kept:
            found = wait_noreap(0)
        else:  # those kept would be found again and again
            for process in container.pids.values():
                if not process.zombie and process.host_pid:
                    found = wait_noreap(process.host_pid)
                    if found is not None:
                        break
        if found is None:
            return None
        host_pid, status, usage = found
        ended = container.by_host_pid.get(host_pid)
        if ended is not None and container.pidfd_users:
            container.learn_pidfd(ended)
        ended = self._forget(host_pid)
        if ended is not None and self._keeps_group(ended):
            self._kept.add(ended)
        else:
            os.waitpid(host_pid, 0)
        return Ended(ended, status, usage)

    def _forget(self, host_pid: int) -> Process | None:
        container = self._container
        process = container.by_host_pid.pop(host_pid, None)
        if process is None:
            process = next((p for p in container.pids.values() if p.host_pid == host_pid), None)
            container.by_host_pid.pop(host_pid, None)
        return process

    def _keeps_group(self, process: Process) -> bool:
        """Somebody will wait for `process`, and nobody who lives is in its group."""
        parent = process.parent
        if process.pid == 1 or parent is None:
            return False
        action = parent.signals.actions[SIGCHLD]
        if action.handler == SIG_IGN or action.flags & SA_NOCLDWAIT:
            return False
        return not any(
            p.group == process.group and p is not process and not p.zombie
            for p in self._container.pids.values()
        )

    def release(self, process: Process) -> None:
        """The guest's zombie is gone: so is the host's."""
        if process in self._kept:
            self._kept.remove(process)
            os.waitpid(process.host_pid, 0)
