"""`index.msgpack`: what a read-only image layer says about its files beyond the host's attributes.

Every row has both the path and the inode it had when it was unpacked. Inodes make the lookup O(1);
should the layer have been copied to another place (the root's inode differs), paths give them anew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgpack

from kernel.fs.owners import VERSION, Owners, Record


class Layer:
    """One unpacked image layer: `root` (its tree) and `owners` (its index)."""

    __slots__ = ("device", "directory", "owners", "root", "root_ino")

    def __init__(self, directory: bytes) -> None:
        """Open the layer at `directory`. Raises OSError (absent) or ValueError (bad index)."""
        self.directory = directory
        self.root = directory + b"/root"
        status = os.stat(self.root)
        self.device = status.st_dev
        self.root_ino = status.st_ino
        self.owners = load(directory + b"/index.msgpack", self.root, status.st_ino)


def load(index: bytes, root: bytes, root_ino: int) -> Owners:
    """Read an index; a layer without one has only plain files."""
    owners = Owners()
    try:
        data = Path(os.fsdecode(index)).read_bytes()
    except FileNotFoundError:
        return owners
    try:
        content: dict[bytes, Any] = msgpack.unpackb(data, raw=True, strict_map_key=False)
        moved = content[b"root"] != root_ino
        for path, known, *fields in content[b"owners"]:
            ino = _inode(root, path) if moved else known
            owners.records[ino] = Record(*fields)
        for path, known, names in content[b"whiteouts"]:
            owners.whiteouts[_inode(root, path) if moved else known] = set(names)
        for path, known in content[b"opaque"]:
            owners.opaque.add(_inode(root, path) if moved else known)
    except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"{os.fsdecode(index)}: not a layer index: {error}") from error
    return owners


def save(
    index: bytes,
    root_ino: int,
    owners: list[tuple[bytes, int, Record]],
    whiteouts: list[tuple[bytes, int, list[bytes]]],
    opaque: list[tuple[bytes, int]],
) -> None:
    """Write an index; paths are relative to the layer's root, without a leading slash."""
    content = {
        "version": VERSION,
        "root": root_ino,
        "owners": [(path, ino, *record) for path, ino, record in owners],
        "whiteouts": whiteouts,
        "opaque": opaque,
    }
    Path(os.fsdecode(index)).write_bytes(msgpack.packb(content))


def _inode(root: bytes, path: bytes) -> int:
    try:
        return os.lstat(root + b"/" + path if path else root).st_ino
    except FileNotFoundError:
        return -1
