"""Who owns what: the attributes a host without root cannot hold, keyed by host inode.

A file without a record belongs to root and has the host's mode. Image layers carry a read-only
`index.msgpack`; a container's upper directory has an append-only `index.journal` of msgpack
records, folded into one when it has grown. Whiteouts and opaque marks live here too, keyed by the
host inode of their directory, so renaming a directory moves them with it.

Invariant: whoever creates a host file calls `settle`, so a re-used inode never inherits a record.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import msgpack

VERSION = 1
_FOLD_BYTES = 256 << 10


class Record(NamedTuple):
    """One file's attributes. `mode` -1: the host's mode; with type bits it overrides the type too.

    `origin`: the inode number the guest has seen before a copy-up gave the file a new one (0:
    none).
    """

    uid: int = 0
    gid: int = 0
    mode: int = -1
    rdev: int = 0
    xattrs: dict[bytes, bytes] | None = None
    origin: int = 0


PLAIN = Record()


class Owners:
    """Records, whiteouts and opaque marks of one tree, in memory."""

    __slots__ = ("changed", "opaque", "records", "whiteouts")

    def __init__(self) -> None:
        self.changed: Callable[[int], None] = lambda _ino: None  # told of each changed record
        self.records: dict[int, Record] = {}
        self.whiteouts: dict[int, set[bytes]] = {}
        self.opaque: set[int] = set()

    def set(self, ino: int, record: Record) -> None:
        """Give `ino` this record (a plain one is the same as none)."""
        if record == PLAIN:
            self.records.pop(ino, None)
        else:
            self.records[ino] = record
        self.changed(ino)

    def forget(self, ino: int) -> None:
        """Drop everything known about `ino`: its file is gone, or it is a new file."""
        self.records.pop(ino, None)
        self.whiteouts.pop(ino, None)
        self.opaque.discard(ino)
        self.changed(ino)

    def settle(self, ino: int, record: Record) -> None:
        """Declare the attributes of the file just created as `ino`."""
        if ino in self.records or ino in self.whiteouts or ino in self.opaque:
            self.forget(ino)
        if record != PLAIN:
            self.set(ino, record)

    def whiteout(self, directory: int, name: bytes) -> None:
        """Hide `name` of the layers below `directory`."""
        self.whiteouts.setdefault(directory, set()).add(name)

    def reveal(self, directory: int, name: bytes) -> None:
        """Take a whiteout back (the name exists again)."""
        names = self.whiteouts.get(directory)
        if names is not None:
            names.discard(name)

    def set_opaque(self, directory: int) -> None:
        """Hide everything the layers below have in `directory`."""
        self.opaque.add(directory)

    def sync(self) -> None:
        """Make what was recorded durable."""

    def close(self) -> None:
        """Release what the index holds open."""


class Journal(Owners):
    """`Owners` of a writable tree, every change appended to a file before it is relied upon.

    Only one process writes it. A torn last record (a killed kernel) is dropped when it is read.
    """

    __slots__ = ("_fd", "_path")

    def __init__(self, path: bytes, root_ino: int) -> None:
        super().__init__()
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._fd).st_size
        data = os.pread(self._fd, size, 0)
        good = self._replay(data, root_ino)
        if size and good < size:
            os.ftruncate(self._fd, good)
        if not good:
            os.ftruncate(self._fd, 0)
            self._append("v", VERSION, root_ino)
        elif good > _FOLD_BYTES:
            self._fold(root_ino)

    def set(self, ino: int, record: Record) -> None:
        super().set(ino, record)
        self._append("o", ino, *record)

    def forget(self, ino: int) -> None:
        super().forget(ino)
        self._append("-", ino)

    def whiteout(self, directory: int, name: bytes) -> None:
        super().whiteout(directory, name)
        self._append("w", directory, name)

    def reveal(self, directory: int, name: bytes) -> None:
        if name in self.whiteouts.get(directory, ()):
            super().reveal(directory, name)
            self._append("W", directory, name)

    def set_opaque(self, directory: int) -> None:
        super().set_opaque(directory)
        self._append("q", directory)

    def sync(self) -> None:
        os.fsync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _append(self, *record: object) -> None:
        os.write(self._fd, msgpack.packb(record))

    def _replay(self, data: bytes, root_ino: int) -> int:
        """Apply the records of `data`; the offset after the last whole one."""
        good = 0
        unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=0)
        unpacker.feed(data)
        while True:
            try:
                record = unpacker.unpack()
            except msgpack.OutOfData:
                break
            except (ValueError, msgpack.UnpackException):
                break
            if not isinstance(record, list) or not self._apply(record, root_ino):
                break
            good = unpacker.tell()
        return good

    def _apply(self, record: list[Any], root_ino: int) -> bool:
        match record:
            case [b"v", version, ino]:
                # Another root inode: the tree was copied and inode keys mean nothing any more.
                return bool(version == VERSION and ino == root_ino)
            case [b"o", ino, *fields]:
                Owners.set(self, ino, Record(*fields))
            case [b"-", ino]:
                Owners.forget(self, ino)
            case [b"w", ino, name]:
                Owners.whiteout(self, ino, name)
            case [b"W", ino, name]:
                Owners.reveal(self, ino, name)
            case [b"q", ino]:
                Owners.set_opaque(self, ino)
            case _:
                return False
        return True

    def _fold(self, root_ino: int) -> None:
        """Rewrite the journal as the shortest one with the same meaning."""
        out = [msgpack.packb(("v", VERSION, root_ino))]
        out += [msgpack.packb(("o", ino, *record)) for ino, record in self.records.items()]
        out += [
            msgpack.packb(("w", ino, name))
            for ino, names in self.whiteouts.items()
            for name in names
        ]
        out += [msgpack.packb(("q", ino)) for ino in self.opaque]
        temporary = self._path + b".new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(b"".join(out))
        os.rename(temporary, self._path)
        self.close()
        self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
