"""Host system calls that Python does not wrap, through ctypes.

Calls release the GIL for nothing here (one thread), so PyDLL is used: it is faster. All return the
call's result or a negative errno.
"""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long

_FUTEX, _TGKILL, _PIDFD_OPEN = 202, 234, 434
if os.uname().machine == "aarch64":
    _FUTEX, _TGKILL = 98, 131
_FUTEX_WAKE = 1


def _checked(result: int) -> int:
    return result if result >= 0 else -ctypes.get_errno()


def futex_wake(address: int) -> int:
    """Wake every waiter of the shared futex at `address` (in this process)."""
    return _checked(_syscall(_FUTEX, ctypes.c_void_p(address), _FUTEX_WAKE, 1 << 30, None, None, 0))


def tgkill(pid: int, tid: int, signal: int) -> int:
    """Signal one host thread."""
    return _checked(_syscall(_TGKILL, pid, tid, signal))


def address_of(buffer: object) -> int:
    """Where a writable buffer lies in this process's memory."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))  # type: ignore[arg-type]
