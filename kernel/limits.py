"""Resource limits of a process (getrlimit(2)), as the guest sees them."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kernel.spec import ContainerSpec

INFINITY = (1 << 64) - 1
COUNT = 16
NOFILE, NPROC, STACK, CORE, DATA, AS, FSIZE = 7, 6, 3, 4, 2, 9, 1


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
