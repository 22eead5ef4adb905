"""Resource limits of a process (getrlimit(2)), as the guest sees them."""

from __future__ import annotations

import resource

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


def _host_limit(number: int) -> tuple[int, int]:
    soft, hard = resource.getrlimit(number)
    return (INFINITY if soft < 0 else soft, INFINITY if hard < 0 else hard)
