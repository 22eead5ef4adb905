"""Trees that exist only in the kernel: the nodes of /proc, /sys and /dev/pts.

A directory is a function from the task to names; a file's content is made when it is read. Nothing
here is remembered between two lookups unless it is always the same, since it depends on who asks.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from kernel.errors import LinuxError
from kernel.fs.metadata import (
    DIRECTORY,
    REGULAR,
    S_IFMT,
    SYMLINK,
    Attributes,
    dirent_type,
    pack,
)
from kernel.fs.node import Entry, FileSystem, Node
from kernel.fs.openfile import ContentFile, DirectoryFile, OpenFile

if TYPE_CHECKING:
    from kernel.task import Task

_BOOT_NS = time.time_ns()
_F_ADD_SEALS = 1033
_ALL_SEALS = 0xF  # seal, shrink, grow, write


class SyntheticFs(FileSystem):
    """A tree of synthetic nodes."""

    cached = False

    def __init__(self, kind: bytes, magic: int, device: int) -> None:
        super().__init__()
        self.type = kind
        self.magic = magic
        self.device = device
        self.source = kind


class SyntheticNode(Node):
    """A node without a host file. Its inode number is a hash of its path, so it is stable."""

    __slots__ = ("links", "rdev", "size")

    def __init__(self, fs: FileSystem, parent: Node | None, name: bytes, mode: int) -> None:
        super().__init__(fs, parent, name)
        self.mode = mode
        self.kind = mode & S_IFMT
        self.links = 2 if self.kind == DIRECTORY else 1
        self.size = 0
        self.rdev = 0

    def inode(self) -> int:
        names = []
        node: Node | None = self
        while node is not None:
            names.append(node.name)
            node = node.parent
        return zlib.crc32(b"/".join(names)) | 1 << 32

    def stat(self) -> bytes:
        if not self.kind:
            raise LinuxError(errno.ENOENT)
        t = self.time_ns()
        attributes = Attributes(
            self.fs.device, self.inode(), self.links, self.mode, self.uid, self.gid, self.rdev,
            self.size, 1024, 0, t, t, t,
        )  # fmt: skip
        return pack(attributes)

    def time_ns(self) -> int:
        """All three times of the node."""
        return _BOOT_NS

    def lookup(self, name: bytes) -> Node:
        raise LinuxError(errno.ENOTDIR)

    def create(self, child: Node, mode: int, owner: tuple[int, int], flags: int) -> int:
        raise LinuxError(errno.ENOENT)  # procfs has no negative names either

    def make_directory(self, child: Node, mode: int, owner: tuple[int, int]) -> None:
        raise LinuxError(errno.ENOENT)

    def make_symlink(self, child: Node, target: bytes, owner: tuple[int, int]) -> None:
        raise LinuxError(errno.ENOENT)

    def make_node(self, child: Node, mode: int, rdev: int, owner: tuple[int, int]) -> None:
        raise LinuxError(errno.ENOENT)

    def negative(self, name: bytes) -> Node:
        """A child that does not exist."""
        return SyntheticNode(self.fs, self, name, 0)


class Directory(SyntheticNode):
    """A directory whose children are nodes made once."""

    __slots__ = ()

    def __init__(self, fs: FileSystem, parent: Node | None, name: bytes, mode: int = 0o555) -> None:
        super().__init__(fs, parent, name, DIRECTORY | mode)

    def lookup(self, name: bytes) -> Node:
        return self.children.get(name) or self.negative(name)

    def entries(self, task: Task) -> list[Entry]:
        return [Entry(n.name, n.inode(), dirent_type(n.mode)) for n in self.children.values()]

    def open(self, task: Task, flags: int) -> tuple[int, OpenFile | None]:
        return placeholder(), DirectoryFile(self, flags)

    def add(self, node: Node) -> Node:
        """Enter `node`, made with this directory as its parent."""
        if not isinstance(self.children, dict):
            self.children = {}
        self.children[node.name] = node
        return node


class File(SyntheticNode):
    """A file whose content is `make(task)`; writable if there is a `store`."""

    __slots__ = ("_live", "_make", "_store")

    def __init__(
        self,
        parent: Node,
        name: bytes,
        make: Callable[[Task], bytes],
        store: Callable[[Task, bytes], None] | None = None,
        mode: int = 0,
        live: bool = False,
    ) -> None:
        """`live`: readers rewind it to see changes, so its reads come to the kernel."""
        if not mode:
            mode = 0o644 if store else 0o444
        super().__init__(parent.fs, parent, name, REGULAR | mode)
        self._make = make
        self._store = store
        self._live = live or store is not None

    def content(self, task: Task) -> bytes:
        return self._make(task)

    def store(self, task: Task, data: bytes) -> None:
        if self._store is None:
            raise LinuxError(errno.EACCES)
        self._store(task, data)

    def open(self, task: Task, flags: int) -> tuple[int, OpenFile | None]:
        if flags & os.O_ACCMODE and self._store is None:
            raise LinuxError(errno.EACCES)
        if self._live:
            return placeholder(), ContentFile(self, flags)
        return sealed(self.name, self._make(task)), None


class Link(SyntheticNode):
    """A symbolic link: `text(task)`, or a magic one that jumps to a node."""

    __slots__ = ("_jump", "_text")

    def __init__(
        self,
        parent: Node,
        name: bytes,
        text: Callable[[Task], bytes],
        jump: Callable[[Task], Node | None] | None = None,
    ) -> None:
        super().__init__(parent.fs, parent, name, SYMLINK | 0o777)
        self._text = text
        self._jump = jump

    def readlink(self, task: Task) -> bytes:
        return self._text(task)

    def jump(self, task: Task) -> Node | None:
        return self._jump(task) if self._jump else None


class Table(SyntheticNode):
    """A directory whose names depend on the moment: `names()` lists and `make(name)` finds."""

    __slots__ = ("_make", "_names")

    def __init__(
        self,
        parent: Node,
        name: bytes,
        names: Callable[[Task], Iterable[bytes]],
        make: Callable[[Node, bytes], Node | None],
        mode: int = 0o555,
    ) -> None:
        super().__init__(parent.fs, parent, name, DIRECTORY | mode)
        self._names = names
        self._make = make

    def lookup(self, name: bytes) -> Node:
        return self._make(self, name) or self.negative(name)

    def entries(self, task: Task) -> list[Entry]:
        found = []
        for name in self._names(task):
            node = self._make(self, name)
            if node is not None:
                found.append(Entry(name, node.inode(), dirent_type(node.mode)))
        return found

    def open(self, task: Task, flags: int) -> tuple[int, OpenFile | None]:
        return placeholder(), DirectoryFile(self, flags)


def fill(
    directory: Directory, files: Mapping[str, Callable[[Task], bytes]], live: bool = False
) -> None:
    """Add read-only files by relative path, making directories on the way."""
    for path, make in files.items():
        node: Node = directory
        *above, last = path.encode().split(b"/")
        for name in above:
            existing = node.children.get(name)
            node = existing or cast_directory(node).add(Directory(node.fs, node, name))
        cast_directory(node).add(File(node, last, make, live=live))


def cast_directory(node: Node) -> Directory:
    """`node`, known to be a fixed directory."""
    assert isinstance(node, Directory)
    return node


def placeholder() -> int:
    """A host descriptor that stands for a synthetic file: empty, and nothing's name."""
    return os.memfd_create("synthetic", os.MFD_CLOEXEC)


def sealed(name: bytes, data: bytes) -> int:
    """A read-only host descriptor of an unchangeable file holding `data`, at its start."""
    fd = os.memfd_create(os.fsdecode(name), os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        while data:
            data = data[os.write(fd, data) :]
        fcntl.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
        return os.open(b"/proc/self/fd/%d" % fd, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(fd)
