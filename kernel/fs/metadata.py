"""File attributes as the kernel carries them: x86_64's `struct stat`, packed.

A node keeps the 144 bytes a guest's stat(2) copies out, so the hot path packs nothing. Other
layouts (arm64's, `struct statx`) are derived from these bytes when asked for.
"""

from __future__ import annotations

import os
import stat as st
import struct
from typing import Final, NamedTuple

# asm/stat.h, x86_64: dev ino nlink mode uid gid pad rdev | size blksize blocks times unused
_HEAD = struct.Struct("<QQQIIIIQ")
_TAIL: Final = _HEAD.size  # 56
_ALL = struct.Struct("<QQQIIIIQqqqqqqqqq24x")
_ARM64 = struct.Struct("<QQIIIIQQqiiqqqqqqqII")
_TIMES = struct.Struct("<qqq")  # seconds and nanoseconds of atime, seconds of mtime
_TIMES_AT: Final = 72
_STATX = struct.Struct("<IIQIIIH2xQQQQqI4xqI4xqI4xqI4xIIIIQII96x")

STATX_BASIC_STATS: Final = 0x7FF
STATX_MNT_ID: Final = 0x1000
STATX_ATTR_MOUNT_ROOT: Final = 0x2000

S_IFMT: Final = 0o170000
DIRECTORY: Final = st.S_IFDIR
REGULAR: Final = st.S_IFREG
SYMLINK: Final = st.S_IFLNK
FIFO: Final = st.S_IFIFO
SOCKET: Final = st.S_IFSOCK
CHARACTER: Final = st.S_IFCHR
BLOCK: Final = st.S_IFBLK


class Attributes(NamedTuple):
    """The fields of `struct stat`, in its order; times in nanoseconds."""

    dev: int
    ino: int
    nlink: int
    mode: int
    uid: int
    gid: int
    rdev: int
    size: int
    blksize: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int


def pack(a: Attributes) -> bytes:
    """`Attributes` to canonical bytes."""
    return _ALL.pack(
        a.dev, a.ino, a.nlink, a.mode, a.uid, a.gid, 0, a.rdev, a.size, a.blksize, a.blocks,
        *divmod(a.atime_ns, 10**9), *divmod(a.mtime_ns, 10**9), *divmod(a.ctime_ns, 10**9),
    )  # fmt: skip


def unpack(packed: bytes) -> Attributes:
    """Canonical bytes to `Attributes`."""
    (dev, ino, nlink, mode, uid, gid, _, rdev, size, blksize, blocks, at, an, mt, mn, ct, cn) = (
        _ALL.unpack(packed)
    )
    return Attributes(
        dev, ino, nlink, mode, uid, gid, rdev, size, blksize, blocks,
        at * 10**9 + an, mt * 10**9 + mn, ct * 10**9 + cn,
    )  # fmt: skip


def head(packed: bytes) -> tuple[int, int, int, int, int, int, int, int]:
    """(dev, ino, nlink, mode, uid, gid, 0, rdev) of canonical bytes."""
    return _HEAD.unpack_from(packed)


def with_head(
    raw: bytes, dev: int, ino: int, nlink: int, mode: int, uid: int, gid: int, rdev: int
) -> bytes:
    """`raw` with identity and ownership replaced: size, blocks and times stay the host's."""
    return _HEAD.pack(dev, ino, nlink, mode, uid, gid, 0, rdev) + raw[_TAIL:]


def access_time_is_due(packed: bytes) -> bool:
    """Whether the next read will set the access time (mount(8), relatime)."""
    accessed, _, modified = _TIMES.unpack_from(packed, _TIMES_AT)
    return bool(accessed <= modified)


def to_arm64(packed: bytes) -> bytes:
    """The asm-generic `struct stat` (128 bytes) that arm64 guests expect."""
    (dev, ino, nlink, mode, uid, gid, _, rdev, size, blksize, blocks, at, an, mt, mn, ct, cn) = (
        _ALL.unpack(packed)
    )
    return _ARM64.pack(
        dev, ino, mode, nlink, uid, gid, rdev, 0, size, blksize, 0, blocks,
        at, an, mt, mn, ct, cn, 0, 0,
    )  # fmt: skip


def from_arm64(raw: bytes) -> bytes:
    """The reverse of `to_arm64`, for what a stub's fstat brought; b"" (it failed) stays so."""
    if not raw:
        return raw
    (dev, ino, mode, nlink, uid, gid, rdev, _, size, blksize, _, blocks, *times, _, _) = (
        _ARM64.unpack_from(raw)
    )
    return _ALL.pack(dev, ino, nlink, mode, uid, gid, 0, rdev, size, blksize, blocks, *times)


def to_statx(packed: bytes, mount_id: int, is_mount_root: bool) -> bytes:
    """`struct statx` (256 bytes) with the basic fields and the mount id."""
    (dev, ino, nlink, mode, uid, gid, _, rdev, size, blksize, blocks, at, an, mt, mn, ct, cn) = (
        _ALL.unpack(packed)
    )
    return _STATX.pack(
        STATX_BASIC_STATS | STATX_MNT_ID, blksize, STATX_ATTR_MOUNT_ROOT if is_mount_root else 0,
        nlink, uid, gid, mode, ino, size, blocks, STATX_ATTR_MOUNT_ROOT,
        at, an, 0, 0, ct, cn, mt, mn,
        os.major(rdev), os.minor(rdev), os.major(dev), os.minor(dev), mount_id, 0, 0,
    )  # fmt: skip


def dirent_type(mode: int) -> int:
    """The `d_type` of a directory entry with this mode (DT_DIR = S_IFDIR >> 12 and so on)."""
    return (mode & S_IFMT) >> 12
