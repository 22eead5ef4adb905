"""What a container changed (`docker diff`): the upper directory against the layers below it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from kernel.fs.metadata import DIRECTORY, REGULAR
from kernel.fs.overlay import OverlayFs, OverlayNode

if TYPE_CHECKING:
    from collections.abc import Iterator

MODIFIED: Final = 0
ADDED: Final = 1
DELETED: Final = 2

# What the kernel itself puts in a new container (dockerd's init layer): not a change while
# untouched.
PLACEHOLDERS: Final = frozenset(
    (
        b"/.dockerenv", b"/dev", b"/dev/pts", b"/dev/shm", b"/dev/mqueue", b"/proc", b"/sys",
        b"/etc", b"/etc/hostname", b"/etc/hosts", b"/etc/resolv.conf",
    )
)  # fmt: skip


class Change(NamedTuple):
    """`kind` is MODIFIED, ADDED or DELETED; `opaque`: a directory that hides all it had below."""

    kind: int
    path: bytes
    opaque: bool = False


def changes(overlay: OverlayFs) -> list[Change]:
    """All changes, sorted by path. A directory is modified if it or something in it is."""
    root = overlay.root
    return sorted(_below(root, _lower(root), b""), key=lambda change: change.path)


def _lower(node: OverlayNode) -> OverlayNode:
    """The directory as the layers alone show it."""
    ghost = OverlayNode(node.fs, None, node.name)
    ghost.kind = DIRECTORY
    ghost.lowers = node.lowers
    return ghost


def _below(node: OverlayNode, lower: OverlayNode | None, path: bytes) -> Iterator[Change]:
    """The changes inside the upper directory `node`, whose lower version is `lower`."""
    opaque = node.host_ino in node.fs.owners.opaque
    for name in sorted(os.listdir(node.host)):
        child = node.lookup(name)
        here = path + b"/" + name
        below = _found(lower, name)
        if child.kind != DIRECTORY:
            if not _is_placeholder(child, here, below):
                yield Change(ADDED if below is None else MODIFIED, here)
            continue
        if below is not None and below.kind != DIRECTORY:
            yield Change(MODIFIED, here)
            yield from _below(child, None, here)
            continue
        inside = list(_below(child, below, here))
        hides = child.host_ino in node.fs.owners.opaque and below is not None
        if below is None:
            if inside or here not in PLACEHOLDERS:
                yield Change(ADDED, here)
        elif inside or hides or not _same(child, below):
            yield Change(MODIFIED, here, hides)
        yield from inside
    if lower is None:
        return
    names = node.fs.owners.whiteouts.get(node.host_ino, set())
    if opaque:
        names = {entry.name for entry in lower.list_entries()}
    for name in sorted(names):
        if not node.lookup(name).kind and _found(lower, name) is not None:
            yield Change(DELETED, path + b"/" + name)


def _found(lower: OverlayNode | None, name: bytes) -> OverlayNode | None:
    child = lower.lookup(name) if lower is not None else None
    return child if child is not None and child.kind else None


def _is_placeholder(child: OverlayNode, path: bytes, below: OverlayNode | None) -> bool:
    if path not in PLACEHOLDERS or below is not None:
        return False
    return child.kind == REGULAR and child.attributes().size == 0


def _same(one: OverlayNode, other: OverlayNode) -> bool:
    a, b = one.attributes(), other.attributes()
    return (a.mode, a.uid, a.gid, a.mtime_ns) == (b.mode, b.uid, b.gid, b.mtime_ns) and (
        one.xattrs() == other.xattrs()
    )
