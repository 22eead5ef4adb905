"""Resource limits of a process (getrlimit(2)), as the guest sees them.

The host enforces the soft ones where it counts what Linux would count. Its hard limits stay, so
that the container's root may raise a limit again. The stub needs descriptors of its own while it
makes a thread or process and executes a program: for so long the limit is lifted.
"""

from __future__ import annotations

import contextlib
import functools
import resource
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernel.process import Process
    from kernel.spec import ContainerSpec

INFINITY = (1 << 64) - 1
COUNT = 16
NOFILE, NPROC, STACK, CORE, DATA, AS, FSIZE, CPU, SIGPENDING = 7, 6, 3, 4, 2, 9, 1, 0, 11
_NOT_THE_HOSTS = (CORE, NPROC, SIGPENDING)  # no core is written; the others count a whole user's
_RLIMIT = struct.Struct("<QQ")


class Limits:
    """(soft, hard) for each RLIMIT number. Limits the host enforces are the host's own."""

    __slots__ = ("values",)

    def __init__(self, values: list[tuple[int, int]] | None = None) -> None:
        if values is None:
            values = [_host_limit(number) for number in range(COUNT)]
        self.values = values

    def copy(self) -> Limits:
        """For a child."""
        return Limits(list(self.values))

    def __getitem__(self, number: int) -> tuple[int, int]:
        return self.values[number]

    def __setitem__(self, number: int, pair: tuple[int, int]) -> None:
        self.values[number] = pair


_NAMES = (
    "cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks",
    "sigpending", "msgqueue", "nice", "rtprio", "rttime",
)  # fmt: skip


def container_limits(spec: ContainerSpec) -> Limits:
    """What the first process of a container starts with: the host's limits, then `--ulimit`."""
    limits = Limits()
    hard = limits[NOFILE][1]
    limits[NOFILE] = (hard, hard)
    for entry in spec.ulimits:
        if entry["name"] in _NAMES:
            soft, most = (INFINITY if v < 0 else v for v in (entry["soft"], entry["hard"]))
            limits[_NAMES.index(entry["name"])] = (soft, most)
    if spec.nofile is not None:
        limits[NOFILE] = (spec.nofile[0], spec.nofile[1])
    return limits


def _host_limit(number: int) -> tuple[int, int]:
    soft, hard = resource.getrlimit(number)
    return (INFINITY if soft < 0 else soft, INFINITY if hard < 0 else hard)


def enforce(process: Process, number: int) -> None:
    """Let the host enforce a soft limit, as far as it can."""
    if number in _NOT_THE_HOSTS or not process.host_pid:
        return
    soft = process.limits[number][0]
    if number == CPU:
        soft = max(soft, 1)
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.prlimit(process.host_pid, number)
        ceiling = INFINITY if hard == resource.RLIM_INFINITY else hard
        soft = min(soft, ceiling)
        value = resource.RLIM_INFINITY if soft == INFINITY else soft
        resource.prlimit(process.host_pid, number, (value, hard))


def lift(process: Process) -> None:
    """Let the stub of a process have as many descriptors as it needs, until `enforce`."""
    if descriptor_limits(process) is not None:
        with contextlib.suppress(OSError, ValueError):
            _, hard = resource.prlimit(process.host_pid, NOFILE)
            resource.prlimit(process.host_pid, NOFILE, (hard, hard))


@functools.cache
def _most_descriptors() -> int:
    return _host_limit(NOFILE)[1]


def descriptor_limits(process: Process) -> tuple[bytes, bytes] | None:
    """(lifted, enforced) struct rlimit for RLIMIT_NOFILE; None if it is as high as can be."""
    soft, hard = process.limits[NOFILE][0], _most_descriptors()
    return (_RLIMIT.pack(hard, hard), _RLIMIT.pack(soft, hard)) if soft < hard else None
