"""Host profiles: what hosts differ in that guests and generated code notice.

A host has its own. `DDOCK_HOST_PROFILE` makes an emulated engine behave like another's, so that
tests on one machine see what guests meet on others.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

HOST_PAGE: Final = os.sysconf("SC_PAGE_SIZE")  # bytes, whatever the guests see
_VARIABLE = "DDOCK_HOST_PROFILE"


@dataclass(frozen=True)
class HostProfile:
    """One kind of host."""

    name: str
    page_size: int  # bytes: AT_PAGESZ, and what mappings are aligned to
    reserved_x18: bool  # arm64: the host may change x18 whenever a thread enters it


def own() -> HostProfile:
    """This host."""
    return HostProfile("linux", HOST_PAGE, False)


_EMULATED = {
    profile.name: profile
    for profile in (
        HostProfile("linux-16k", 16 << 10, False),
        HostProfile("linux-64k", 64 << 10, False),
        HostProfile("darwin-like", 16 << 10, True),  # no seccomp, W^X: as every emulated engine
    )
}


def emulated() -> HostProfile:
    """What an emulated engine is to look like. ValueError for an unknown name."""
    name = os.environ.get(_VARIABLE)
    if not name:
        return own()
    if name not in _EMULATED:
        raise ValueError(f"{_VARIABLE}: {name!r} is none of {', '.join(_EMULATED)}")
    return _EMULATED[name]
