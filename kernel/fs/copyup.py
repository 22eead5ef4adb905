"""Copy-up: a lower file moves to the upper tree the moment it is about to change.

The copy is made in the work directory, its index record is journalled, and a rename puts it in
place: a kernel that dies in between leaves either the lower file or the whole copy. As in overlayfs
without `index`, a copy-up breaks hard links between lower names.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kernel.fs.metadata import DIRECTORY, FIFO, REGULAR, SYMLINK, head
from kernel.fs.owners import PLAIN
from kernel.host.linux_fs import copy_data, lstat_raw

if TYPE_CHECKING:
    from kernel.fs.overlay import OverlayNode


def copy_up(node: OverlayNode, data: bool) -> None:
    """Give the lower `node` (and first the directories above it) a place in the upper tree."""
    parent = node.parent
    assert parent is not None
    if not parent.upper:
        copy_up(parent, data=True)
    fs = node.fs
    place = parent.host + b"/" + node.name
    times = _times(node)
    parent_times = _times(parent)
    temporary = fs.scratch()
    mode = _make(node, temporary, data)
    os.utime(temporary, ns=times, follow_symlinks=False)
    raw = lstat_raw(temporary)
    assert isinstance(raw, bytes)
    record = node.owners.records.get(node.host_ino, PLAIN)
    kept = -1 if mode == node.mode or node.kind == SYMLINK else node.mode
    fs.owners.settle(
        head(raw)[1],
        record._replace(uid=node.uid, gid=node.gid, mode=kept, rdev=node.rdev, origin=node.ino),
    )
    os.rename(temporary, place)
    os.utime(parent.host, ns=parent_times)  # the guest has changed nothing in there yet
    node.adopt(raw, place, fs.owners, upper=True)
    node.packed = None


def copy_up_tree(node: OverlayNode) -> None:
    """Copy up `node` and everything below it; afterwards no lower layer shows through."""
    node.copy_up()
    if node.kind != DIRECTORY:
        return
    for entry in node.list_entries():
        copy_up_tree(node.lookup(entry.name))
    if node.lowers:
        node.fs.owners.set_opaque(node.host_ino)
        node.lowers = ()
        node.packed = None


def _times(node: OverlayNode) -> tuple[int, int]:
    a = node.attributes()
    return (a.atime_ns, a.mtime_ns)


def _make(node: OverlayNode, place: bytes, data: bool) -> int:
    """Create the copy at `place`; the type and mode the host shows for it."""
    bits = (node.mode & 0o777) | (0o700 if node.kind == DIRECTORY else 0o600)
    if node.kind == DIRECTORY:
        os.mkdir(place, bits)
        os.chmod(place, bits)
        return DIRECTORY | bits
    if node.kind == SYMLINK:
        os.symlink(os.readlink(node.host), place)
        return SYMLINK | 0o777
    if node.kind == FIFO:
        os.mkfifo(place, bits)
        return FIFO | bits
    target = os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, bits)
    try:
        if data and node.kind == REGULAR:
            source = os.open(node.host, os.O_RDONLY | os.O_CLOEXEC)
            try:
                copy_data(source, target, os.fstat(source).st_size)
            finally:
                os.close(source)
    except OSError:
        os.unlink(place)
        raise
    finally:
        os.close(target)
    return REGULAR | bits
