"""Linux file calls that Python's `os` does not offer, or offers too slowly for the stat path.

Everything takes host paths as bytes. Functions raise OSError, except `lstat_raw`, whose failure is
an ordinary answer on the lookup path. One static buffer is shared: the kernel is single-threaded.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from typing import Final

from kernel import isa
from kernel.host.engines import host_isa

_libc = ctypes.CDLL(None, use_errno=True)

STAT_SIZE: Final = 144  # no layout is longer
_from_host: Final = isa.of(host_isa()).host_stat  # from its own layout to the canonical one
_IS_CANONICAL: Final = _from_host is isa.canonical
AT_FDCWD: Final = -100
AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_SYMLINK_FOLLOW: Final = 0x400
AT_EMPTY_PATH: Final = 0x1000
RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10
RESOLVE_CACHED: Final = 0x20
RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
RENAME_WHITEOUT: Final = 4
FICLONE: Final = 0x40049409

_SYS_OPENAT2 = 437  # the same number on every architecture (asm-generic)
_OPEN_HOW = struct.Struct("<QQQ")

_stat_buffer = ctypes.create_string_buffer(STAT_SIZE)
_stat_address = ctypes.addressof(_stat_buffer)

_lstat = _libc.lstat
_lstat.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
_lstat.restype = ctypes.c_int
_fstat = _libc.fstat
_fstat.argtypes = [ctypes.c_int, ctypes.c_void_p]
_fstat.restype = ctypes.c_int
_stat = _libc.stat
_stat.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
_stat.restype = ctypes.c_int
_statfs = _libc.statfs
_statfs.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
_renameat2 = getattr(_libc, "renameat2", None)
if _renameat2 is not None:
    _renameat2.argtypes = [
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_uint,
    ]
_linkat = _libc.linkat
_linkat.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
_tee = _libc.tee
_tee.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint]
_tee.restype = ctypes.c_ssize_t
_inotify_init1 = _libc.inotify_init1
_inotify_add_watch = _libc.inotify_add_watch
_inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
_inotify_rm_watch = _libc.inotify_rm_watch
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def _fail() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _canonical() -> bytes:
    return _from_host(_stat_buffer.raw)


def lstat_raw(path: bytes) -> bytes | int:
    """Attributes (kernel.fs.metadata) of `path` (not following it), or the positive errno."""
    if _lstat(path, _stat_address):
        return ctypes.get_errno()
    return _stat_buffer.raw if _IS_CANONICAL else _canonical()


def fstat_raw(fd: int) -> bytes:
    """Attributes of a descriptor."""
    if _fstat(fd, _stat_address):
        raise _fail()
    return _stat_buffer.raw if _IS_CANONICAL else _canonical()


def stat_raw(path: bytes) -> bytes:
    """Attributes of `path`, following it (for /proc/PID/fd/N magic links)."""
    if _stat(path, _stat_address):
        raise _fail()
    return _stat_buffer.raw if _IS_CANONICAL else _canonical()


def unused(path: bytes) -> bool:
    """Whether nobody has this regular file of ours open, or mapped; False if that is unknown.

    Only then the host grants a write lease (fcntl(2), F_SETLEASE); it is given back at once.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def statfs_raw(path: bytes) -> bytes:
    """The host's `struct statfs` (120 bytes)."""
    buffer = ctypes.create_string_buffer(120)
    if _statfs(path, ctypes.addressof(buffer)):
        raise _fail()
    return buffer.raw


def openat2(dir_fd: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    """openat2(2). ENOSYS where the host has none (Linux before 5.6)."""
    how = _OPEN_HOW.pack(flags, mode, resolve)
    while True:
        fd = _syscall(_SYS_OPENAT2, dir_fd, path, how, len(how))
        if fd >= 0:
            return int(fd)
        if ctypes.get_errno() != errno.EAGAIN:
            raise _fail()


def _probe_openat2() -> bool:
    try:
        fd = openat2(AT_FDCWD, b"/", os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_NO_MAGICLINKS)
    except OSError:
        return False
    os.close(fd)
    return True


HAVE_OPENAT2: Final = _probe_openat2()


def rename_flags(source: bytes, target: bytes, flags: int) -> None:
    """renameat2(2) on two absolute paths."""
    rename_flags_at(AT_FDCWD, source, AT_FDCWD, target, flags)


def rename_flags_at(
    source_fd: int, source: bytes, target_fd: int, target: bytes, flags: int
) -> None:
    """renameat2(2)."""
    if _renameat2 is None:
        raise OSError(errno.EINVAL, "no renameat2")
    if _renameat2(source_fd, source, target_fd, target, flags):
        raise _fail()


def link_followed(source: bytes, target_fd: int, target: bytes) -> None:
    """linkat(2) with AT_SYMLINK_FOLLOW; os.link never passes that flag for absolute paths."""
    if _linkat(AT_FDCWD, source, target_fd, target, AT_SYMLINK_FOLLOW):
        raise _fail()


def copy_data(source: int, target: int, size: int) -> None:
    """Copy `size` bytes between two fresh descriptors: reflink, in-kernel copy, then sendfile.

    Holes survive a reflink only; a shrinking source ends the copy early.
    """
    try:
        fcntl.ioctl(target, FICLONE, source)
        return
    except OSError:
        pass
    left = size
    try:
        while left > 0:
            done = os.copy_file_range(source, target, left)
            if done == 0:
                return
            left -= done
        return
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    while left > 0:
        done = os.sendfile(target, source, None, min(left, 1 << 30))
        if done == 0:
            return
        left -= done


def has_writer(fifo_fd: int) -> bool:
    """Whether a FIFO has a writer or unread data; `fifo_fd` is its (non-blocking) read end.

    tee(2) does not consume: 0 means no writer and no data, EAGAIN means writers but no data.
    """
    scratch = os.pipe()
    try:
        got = _tee(fifo_fd, scratch[1], 1, 2)  # SPLICE_F_NONBLOCK
        if got < 0 and ctypes.get_errno() != errno.EAGAIN:
            raise _fail()
        return bool(got)
    finally:
        os.close(scratch[0])
        os.close(scratch[1])


def inotify_init1(flags: int) -> int:
    """inotify_init1(2)."""
    fd = _inotify_init1(flags)
    if fd < 0:
        raise _fail()
    return int(fd)


def inotify_add_watch(fd: int, path: bytes, mask: int) -> int:
    """inotify_add_watch(2)."""
    watch = _inotify_add_watch(fd, path, mask)
    if watch < 0:
        raise _fail()
    return int(watch)


def inotify_rm_watch(fd: int, watch: int) -> None:
    """inotify_rm_watch(2)."""
    if _inotify_rm_watch(fd, watch):
        raise _fail()
