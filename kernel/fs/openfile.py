"""Flagged descriptors: open files whose calls come to the kernel.

A directory has no host descriptor that lists it as the container sees it; a live /proc file is made
afresh by each read from its beginning; an O_PATH descriptor only names something. All other open
files are host descriptors the kernel has forgotten. Like Linux's `struct file`, an OpenFile is
shared by the descriptors that dup(2) and fork(2) made of it: one position, one set of status flags.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, Final

from kernel.errors import LinuxError
from kernel.fs.metadata import DIRECTORY

if TYPE_CHECKING:
    from kernel.fs.node import Node
    from kernel.task import Task

_DIRENT64 = struct.Struct("<QqHB")
_DIRENT = struct.Struct("<QQH")
DT_DIR: Final = 4
_MAX_OFFSET: Final = (1 << 63) - 1


class OpenFile:
    """An open file description. The base is what O_PATH gives: a name, and no content."""

    __slots__ = ("flags", "node", "position", "references")

    def __init__(self, node: Node, flags: int) -> None:
        self.node = node
        self.flags = flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_CLOEXEC)
        self.position = 0
        self.references = 0  # descriptors in all tables; kept by FileTable

    @property
    def is_path(self) -> bool:
        """Whether it was opened with O_PATH."""
        return bool(self.flags & os.O_PATH)

    def stat(self) -> bytes:
        """fstat(2)."""
        return self.node.stat()

    def read(self, task: Task, size: int, offset: int | None) -> bytes:
        """read(2), or pread(2) when `offset` is given."""
        raise LinuxError(errno.EBADF)

    def write(self, task: Task, data: bytes, offset: int | None) -> int:
        """write(2), or pwrite(2) when `offset` is given."""
        raise LinuxError(errno.EBADF)

    def seek(self, task: Task, offset: int, whence: int) -> int:
        """lseek(2)."""
        raise LinuxError(errno.EBADF)

    def getdents(self, task: Task, size: int, wide: bool) -> bytes:
        """getdents64(2) (`wide`) or getdents(2): packed entries, b"" at the end."""
        raise LinuxError(errno.EBADF if self.is_path else errno.ENOTDIR)

    def closed(self) -> None:
        """The last descriptor is gone."""


class DirectoryFile(OpenFile):
    """An open directory: a snapshot of the names, taken by the first getdents after a rewind."""

    __slots__ = ("_entries",)

    def __init__(self, node: Node, flags: int) -> None:
        super().__init__(node, flags)
        self._entries: list[tuple[bytes, int, int]] | None = None

    def read(self, task: Task, size: int, offset: int | None) -> bytes:
        raise LinuxError(errno.EISDIR)

    def seek(self, task: Task, offset: int, whence: int) -> int:
        if whence == os.SEEK_CUR:
            offset += self.position
        elif whence != os.SEEK_SET:
            raise LinuxError(errno.EINVAL)
        if offset < 0:
            raise LinuxError(errno.EINVAL)
        self.position = offset
        if offset == 0:
            self._entries = None
        return offset

    def getdents(self, task: Task, size: int, wide: bool) -> bytes:
        if self.node.kind != DIRECTORY:
            raise LinuxError(errno.ENOTDIR)
        if self.node.gone:
            raise LinuxError(errno.ENOENT)
        if self._entries is None:
            self._entries = self._snapshot(task)
        out = bytearray()
        head = _DIRENT64 if wide else _DIRENT
        for name, ino, kind in self._entries[self.position :]:
            # getdents puts d_type in the record's last byte, getdents64 before the name.
            used = head.size + len(name) + (1 if wide else 2)
            length = (used + 7) & ~7
            if len(out) + length > size:
                break
            self.position += 1
            if wide:
                out += head.pack(ino, self.position, length, kind)
                out += name + bytes(length - used + 1)
            else:
                out += head.pack(ino, self.position, length)
                out += name + bytes(length - used + 1) + bytes((kind,))
        if not out and self.position < len(self._entries):
            raise LinuxError(errno.EINVAL)  # the buffer is too small for one entry
        return bytes(out)

    def _snapshot(self, task: Task) -> list[tuple[bytes, int, int]]:
        node = self.node
        above = node.parent
        if above is None:
            above = node.fs.mountpoint.parent if node.fs.mountpoint else node
        assert above is not None
        names: list[tuple[bytes, int, int]] = [
            (b".", node.inode(), DT_DIR),
            (b"..", above.inode(), DT_DIR),
        ]
        names += node.entries(task)
        return names


class ContentFile(OpenFile):
    """A synthetic file: reading from offset 0 makes its content anew (as /proc's seq_files do)."""

    __slots__ = ("_content",)

    def __init__(self, node: Node, flags: int, content: bytes | None = None) -> None:
        super().__init__(node, flags)
        self._content = content

    def read(self, task: Task, size: int, offset: int | None) -> bytes:
        if self.flags & os.O_ACCMODE == os.O_WRONLY:
            raise LinuxError(errno.EBADF)
        at = self.position if offset is None else offset
        if at < 0:
            raise LinuxError(errno.EINVAL)
        if at == 0 or self._content is None:
            self._content = self.node.content(task)
        data = self._content[at : at + size]
        if offset is None:
            self.position = at + len(data)
        return data

    def write(self, task: Task, data: bytes, offset: int | None) -> int:
        if self.flags & os.O_ACCMODE == os.O_RDONLY:
            raise LinuxError(errno.EBADF)
        self.node.store(task, data)
        self._content = None
        if offset is None:
            self.position += len(data)
        return len(data)

    def seek(self, task: Task, offset: int, whence: int) -> int:
        if whence == os.SEEK_CUR:
            offset += self.position
        elif whence != os.SEEK_SET:
            raise LinuxError(errno.EINVAL)
        if not 0 <= offset <= _MAX_OFFSET:
            raise LinuxError(errno.EINVAL)
        self.position = offset
        return offset
