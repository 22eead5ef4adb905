"""Host system calls that Python does not wrap, through ctypes.

Calls release the GIL for nothing here (one thread), so PyDLL is used: it is faster. All return the
call's result or a negative errno.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os

from kernel.host.engines import host_numbers

_libc = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_sched_getcpu = _libc.sched_getcpu
_mmap = _libc.mmap
_mmap.restype = ctypes.c_size_t
_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_MAP_FAILED = ctypes.c_size_t(-1).value

_FUTEX, _TGKILL, _PROCESS_VM_READV, _WAITID = (
    host_numbers()[name] for name in ("futex", "tgkill", "process_vm_readv", "waitid")
)
_FUTEX_WAKE = 1
_PR_SET_CHILD_SUBREAPER = 36
_ONE = ctypes.c_ulong(1)
_WNOHANG_WEXITED_WNOWAIT = 1 | 4 | 0x0100_0000
_CLD_EXITED, _CLD_DUMPED = 1, 3


def _checked(result: int) -> int:
    return result if result >= 0 else -ctypes.get_errno()


def futex_wake(address: int) -> int:
    """Wake every waiter of the shared futex at `address` (in this process)."""
    return _checked(_syscall(_FUTEX, ctypes.c_void_p(address), _FUTEX_WAKE, 1 << 30, None, None, 0))


def tgkill(pid: int, tid: int, signal: int) -> int:
    """Signal one host thread."""
    return _checked(_syscall(_TGKILL, pid, tid, signal))


def current_cpu() -> int:
    """The CPU this thread runs on, as of now (getcpu(2))."""
    return int(_sched_getcpu())


def change_cpu() -> None:
    """Move this thread to the next CPU it may use, for now: the host may move it again."""
    usable = sorted(os.sched_getaffinity(0))
    here = current_cpu()
    others = [cpu for cpu in usable if cpu > here] or usable
    if others[0] != here:
        os.sched_setaffinity(0, others[:1])
        os.sched_setaffinity(0, usable)


def become_subreaper() -> None:
    """Orphans among our descendants become our children (prctl(2))."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0)


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def read_memory(pid: int, address: int, length: int) -> bytes | None:
    """Memory of another process; empty if it has none there, None if the host refuses to say."""
    buffer = ctypes.create_string_buffer(length)
    ours = _Iovec(ctypes.addressof(buffer), length)
    theirs = _Iovec(address, length)
    arguments = (ctypes.byref(ours), _ONE, ctypes.byref(theirs), _ONE, ctypes.c_ulong(0))
    got = _checked(_syscall(_PROCESS_VM_READV, pid, *arguments))
    if got == length:
        return buffer.raw
    return b"" if got >= 0 or got == -errno.EFAULT else None


def wait_noreap(pid: int) -> tuple[int, int, tuple[float, float, int]] | None:
    """waitid(2) of child `pid` (0: any) that has ended; it stays a zombie. None: none has.

    (pid, wait status, (user seconds, system seconds, peak KiB)).
    """
    info, usage = (ctypes.c_int * 32)(), (ctypes.c_long * 18)()
    which = os.P_PID if pid else os.P_ALL
    result = _syscall(_WAITID, which, pid, info, _WNOHANG_WEXITED_WNOWAIT, usage)
    code, found, number = info[2], info[4], info[6]
    if result < 0 or not found:
        return None
    status = number << 8 if code == _CLD_EXITED else number | (code == _CLD_DUMPED) << 7
    times = usage[0] + usage[1] / 1e6, usage[2] + usage[3] / 1e6
    return found, status, (*times, usage[4])


def map_code(fd: int, length: int) -> int:
    """Map a file's beginning to be executed, for as long as this process lives. OSError."""
    address = _mmap(None, length, mmap.PROT_READ | mmap.PROT_EXEC, mmap.MAP_PRIVATE, fd, 0)
    if address == _MAP_FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(address)


def address_of(buffer: object) -> int:
    """Where a writable buffer lies in this process's memory."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))  # type: ignore[arg-type]
