"""/proc/PID/{mounts,mountinfo,mountstats}: the mount table as text, without a host path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kernel.fs.bind import BindFs

if TYPE_CHECKING:
    from kernel.fs.node import FileSystem
    from kernel.task import Task

_FLAGS = (b"nosuid", b"nodev", b"noexec")


def _escaped(path: bytes) -> bytes:
    for character in b"\\ \t\n#":
        path = path.replace(bytes((character,)), b"\\%03o" % character)
    return path


def _seen(owner: Task) -> Iterator[tuple[FileSystem, bytes]]:
    """(mount, mountpoint) of the mounts below the root directory of `owner`."""
    root = owner.fs.root
    for fs in owner.process.container.mounts.mounts:
        path = fs.root.path(root)
        if path[:1] == b"/" and not path.startswith(b"/(unreachable)"):
            yield fs, _escaped(path)


def _options(fs: FileSystem) -> tuple[bytes, bytes]:
    """(per-mount options, the file system's own)."""
    access = b"ro" if fs.readonly else b"rw"
    flags = [access, *(word for word in fs.options if word in _FLAGS), b"relatime"]
    own = [access, *(word for word in fs.options if word not in _FLAGS)]
    if fs.type == b"overlay":
        own += [b"lowerdir=/lower", b"upperdir=/upper", b"workdir=/work"]
    return b",".join(flags), b",".join(own)


def mounts(_task: Task, owner: Task) -> bytes:
    """/proc/PID/mounts, fstab(5)."""
    lines = []
    for fs, path in _seen(owner):
        flags, own = _options(fs)
        words = flags.split(b",") + [w for w in own.split(b",") if w not in (b"rw", b"ro")]
        lines.append(b"%s %s %s %s 0 0\n" % (fs.source, path, fs.type, b",".join(words)))
    return b"".join(lines)


def mountinfo(_task: Task, owner: Task) -> bytes:
    """/proc/PID/mountinfo, proc_pid_mountinfo(5)."""
    lines = []
    for fs, path in _seen(owner):
        point = fs.mountpoint
        above = point.fs.id if point is not None else 1
        inside = b"/" if not isinstance(fs, BindFs) else _escaped(path)
        flags, own = _options(fs)
        device = b"%d:%d" % (os.major(fs.device), os.minor(fs.device))
        lines.append(
            b"%d %d %s %s %s %s - %s %s %s\n"
            % (fs.id, above, device, inside, path, flags, fs.type, fs.source, own)
        )
    return b"".join(lines)


def mountstats(_task: Task, owner: Task) -> bytes:
    """/proc/PID/mountstats."""
    return b"".join(
        b"device %s mounted on %s with fstype %s\n" % (fs.source, path, fs.type)
        for fs, path in _seen(owner)
    )
