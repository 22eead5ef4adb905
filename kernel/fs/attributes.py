"""Calls that change a file's attributes: chmod(2), chown(2), utimensat(2), truncate(2), access(2).

After setattr_prepare in fs/attr.c and the system calls' own checks in fs/open.c and fs/utimes.c.
"""

from __future__ import annotations

import errno
import struct
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from kernel.errors import LinuxError
from kernel.fs.metadata import DIRECTORY, REGULAR, SYMLINK
from kernel.fs.permissions import (
    CAP_CHOWN,
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_FSETID,
    MAY_WRITE,
    check,
    owns,
    permitted,
)

if TYPE_CHECKING:
    from kernel.credentials import Credentials
    from kernel.fs.node import Node
    from kernel.task import Task

KEEP: Final = 0xFFFFFFFF
UTIME_NOW: Final = (1 << 30) - 1
UTIME_OMIT: Final = (1 << 30) - 2
_TIMES = struct.Struct("<qqqq")


def _writable(node: Node) -> None:
    if node.fs.readonly:
        raise LinuxError(errno.EROFS)


def change_mode(task: Task, node: Node, mode: int) -> None:
    """chmod(2)."""
    _writable(node)
    if node.kind == SYMLINK:
        raise LinuxError(errno.EOPNOTSUPP)
    node.refresh()
    who = task.credentials
    if not owns(node, who):
        raise LinuxError(errno.EPERM)
    mode &= 0o7777
    if mode & 0o2000 and not who.can(CAP_FSETID) and not who.in_group(node.gid):
        mode &= ~0o2000
    node.change_mode(mode)


def change_owner(task: Task, node: Node, owner: int, group: int) -> None:
    """chown(2); 0xFFFFFFFF leaves an id as it is."""
    _writable(node)
    node.refresh()
    who = task.credentials
    uid = node.uid if owner == KEEP else owner
    gid = node.gid if group == KEEP else group
    if not who.can(CAP_CHOWN):
        if owner != KEEP and (who.fsuid != node.uid or uid != node.uid):
            raise LinuxError(errno.EPERM)
        if group != KEEP and (who.fsuid != node.uid or not (gid == node.gid or who.in_group(gid))):
            raise LinuxError(errno.EPERM)
    mode = node.mode & 0o7777
    if node.kind != DIRECTORY and (owner != KEEP or group != KEEP):
        mode &= ~0o4000
        if mode & 0o010:
            mode &= ~0o2000
        if mode != node.mode & 0o7777 and b"security.capability" in node.xattrs():
            values = dict(node.xattrs())
            del values[b"security.capability"]
            node.set_xattrs(values)
    node.change_owner(uid, gid, mode)


def parse_times(packed: bytes | None, scale: int) -> tuple[int | None, int | None, bool]:
    """(atime_ns, mtime_ns, both "now") of two (seconds, fraction) pairs; None: leave it.

    `scale` is the nanoseconds of one unit of the fraction. EINVAL for a fraction out of range.
    """
    now = time.time_ns()
    if packed is None:
        return now, now, True
    values = _TIMES.unpack(packed)
    times: list[int | None] = []
    for seconds, fraction in (values[:2], values[2:]):
        if scale == 1 and fraction == UTIME_NOW:
            times.append(now)
        elif scale == 1 and fraction == UTIME_OMIT:
            times.append(None)
        elif not 0 <= fraction * scale < 10**9:
            raise LinuxError(errno.EINVAL)
        else:
            times.append(seconds * 10**9 + fraction * scale)
    is_now = scale == 1 and values[1] == UTIME_NOW and values[3] == UTIME_NOW
    return times[0], times[1], is_now


def set_times(task: Task, node: Node, times: tuple[int | None, int | None, bool]) -> None:
    """utimensat(2)."""
    atime, mtime, now = times
    if atime is None and mtime is None:
        return
    _writable(node)
    node.refresh()
    who = task.credentials
    if not owns(node, who):
        if not now:
            raise LinuxError(errno.EPERM)
        check(node, who, MAY_WRITE)
    old = node.attributes()
    node.set_times(
        old.atime_ns if atime is None else atime, old.mtime_ns if mtime is None else mtime
    )


def truncate(task: Task, node: Node, length: int) -> None:
    """truncate(2)."""
    if length < 0:
        raise LinuxError(errno.EINVAL)
    if node.kind != REGULAR:
        raise LinuxError(errno.EISDIR if node.kind == DIRECTORY else errno.EINVAL)
    node.refresh()
    check(node, task.credentials, MAY_WRITE)
    _writable(node)
    node.truncate(length)


def access(task: Task, node: Node, mode: int, effective: bool) -> None:
    """access(2) of a node: with the real ids, or the effective ones (AT_EACCESS)."""
    if not mode:
        return
    node.refresh()
    who = task.credentials
    if not effective:
        who = real_credentials(task)
    if mode & MAY_WRITE and node.fs.readonly and node.kind in (REGULAR, DIRECTORY, SYMLINK):
        raise LinuxError(errno.EROFS)
    if mode & 1 and node.kind == REGULAR and b"noexec" in node.fs.options:
        raise LinuxError(errno.EACCES)
    if not permitted(node, who, mode):
        raise LinuxError(errno.EACCES)


def real_credentials(task: Task) -> Credentials:
    """The task's identity with the real ids in the file system's place (access_override_creds)."""
    who = task.credentials
    if who.fsuid == who.uid and who.fsgid == who.gid:
        return who
    overriding = (1 << CAP_DAC_OVERRIDE) | (1 << CAP_DAC_READ_SEARCH)
    effective = who.permitted if who.uid == 0 else who.effective & ~overriding
    return replace(who, fsuid=who.uid, fsgid=who.gid, effective=effective)
