"""/proc/cpuinfo as an arm64 kernel writes it (arch/arm64/kernel/cpuinfo.c), for an emulated CPU."""

from __future__ import annotations

import struct
from functools import cache

from tables import load

_AT_HWCAP, _AT_HWCAP2 = 16, 26
# The identity QEMU gives its own CPU model: implementer, variant, part, revision.
_IDENTITY = b"""\
CPU implementer\t: 0x00
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0x051
CPU revision\t: 0
"""


@cache
def _names() -> dict[int, list[tuple[int, bytes]]]:
    """The features' bits and names, lowest bit first, by the auxiliary vector's entry."""
    constants = load("arm64").constants
    return {
        entry: [
            (bit, name.removeprefix(prefix).replace("_", "").lower().encode())
            for name, bit in sorted(constants.items(), key=lambda item: item[1])
            if name.startswith(prefix)
        ]
        for entry, prefix in ((_AT_HWCAP, "HWCAP_"), (_AT_HWCAP2, "HWCAP2_"))
    }


def cpuinfo(count: int, auxv: bytes) -> bytes:
    """The file for `count` CPUs with the features that a process's auxiliary vector tells."""
    has = dict(struct.iter_unpack("<QQ", auxv[: len(auxv) & -16]))
    features = [
        name for entry, known in _names().items() for bit, name in known if has.get(entry, 0) & bit
    ]
    rest = b"BogoMIPS\t: 100.00\nFeatures\t: " + b" ".join(features) + b"\n" + _IDENTITY
    return b"".join(b"processor\t: %d\n%s\n" % (number, rest) for number in range(count))
