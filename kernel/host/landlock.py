"""Which Landlock the host has (landlock(7))."""

from __future__ import annotations

import ctypes
from functools import cache

_CREATE_RULESET = 444
_VERSION_FLAG = 1


@cache
def landlock_version() -> int:
    """The Landlock ABI version; 0 where there is none or it is disabled."""
    libc = ctypes.CDLL(None, use_errno=True)
    version: int = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG)
    return max(version, 0)
