"""Flags of open(2) whose values differ between instruction sets.

The kernel opens on the host, so inside it flags have the host's values (os.O_*). A guest's are
translated where they come in and where F_GETFL and /proc show them.
"""

from __future__ import annotations

from functools import cache

import tables
from kernel.host.engines import host_isa

# asm/fcntl.h: all that an architecture redefines among those we serve.
_NAMES = ("O_DIRECT", "O_DIRECTORY", "O_LARGEFILE", "O_NOFOLLOW")
O_LARGEFILE = tables.load(host_isa()).constants["O_LARGEFILE"]  # 0 in os, where open64 sets it


class Translation:
    """Between the flags of a guest and those of the host."""

    def __init__(self, isa: str) -> None:
        guest, host = tables.load(isa).constants, tables.load(host_isa()).constants
        pairs = [(guest[name], host[name]) for name in _NAMES if guest[name] != host[name]]
        self.differs = bool(pairs)
        self._guest_bits = sum(of_guest for of_guest, _ in pairs)
        self._host_bits = sum(of_host for _, of_host in pairs)
        self._pairs = pairs

    def to_host(self, flags: int) -> int:
        """A guest's flags as the host's."""
        result = flags & ~self._guest_bits
        for of_guest, of_host in self._pairs:
            if flags & of_guest:
                result |= of_host
        return result

    def to_guest(self, flags: int) -> int:
        """The host's flags as a guest's."""
        result = flags & ~self._host_bits
        for of_guest, of_host in self._pairs:
            if flags & of_host:
                result |= of_guest
        return result


@cache
def translation(isa: str) -> Translation:
    """The translation for guests of `isa`."""
    return Translation(isa)
