"""Names in the container's tree: a node is a directory entry together with its file.

Nodes of the container's own trees (overlay, tmpfs) are cached exactly: there is one node a name, it
is negative (`kind` 0) while nothing has that name, and it is `gone` for ever once removed or
renamed away (`moved` then says where to). Whoever holds a node - a working directory, an open
directory, a process's executable - keeps identity across renames.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from kernel.errors import LinuxError
from kernel.fs.metadata import DIRECTORY, Attributes, head, unpack

if TYPE_CHECKING:
    from kernel.credentials import Credentials
    from kernel.fs.answers import Answers
    from kernel.fs.openfile import OpenFile
    from kernel.task import Task


NO_CHILDREN: Final[Mapping[bytes, Node]] = MappingProxyType({})  # until there is one


class Entry(NamedTuple):
    """One name of a directory listing. `type` is a DT_ constant."""

    name: bytes
    ino: int
    type: int


class FileSystem:
    """One mounted tree. `mountpoint` is the node it covers (None: the container's root)."""

    type: bytes = b"none"
    magic: int = 0
    cached: bool = True  # may whole paths through it be remembered?

    def __init__(self) -> None:
        self.root: Node
        self.device = 0
        self.id = 0
        self.readonly = False
        self.source = b"none"
        self.options: list[bytes] = []
        self.mountpoint: Node | None = None
        self.nested = False  # something is mounted inside
        self.on_change: Callable[[], None] = lambda: None  # set when it is mounted
        self.answers: Answers  # set when it is mounted

    def visited(self, task: Task) -> None:
        """A walk has come to this tree (told only by trees that are not `cached`)."""

    def shortcut(self, node: Node, names: list[bytes]) -> Node | None:
        """The directory `names` below `node`, if it is there and no link is on the way."""
        return None

    def forget_paths(self) -> None:
        """Drop remembered whole paths: a directory or a symbolic link is not where it was."""
        self.on_change()

    def statfs(self) -> tuple[int, int, int, int, int, int, int]:
        """(block size, blocks, free, available, files, free files, name limit)."""
        return (4096, 0, 0, 0, 0, 0, 255)

    def close(self) -> None:
        """Give back host resources; the container has ended or the tree was unmounted."""


class Node:
    """A name and its file. Subclasses say where the file is; the base refuses everything."""

    __slots__ = (
        "__weakref__",
        "_packed",
        "children",
        "fs",
        "gid",
        "gone",
        "kind",
        "learned",
        "mode",
        "mounted",
        "moved",
        "name",
        "parent",
        "uid",
    )

    def __init__(self, fs: FileSystem, parent: Node | None, name: bytes) -> None:
        self.fs = fs
        self.parent = parent
        self.name = name
        self.kind = 0  # S_IFMT bits; 0: nothing has this name
        self.mode = 0
        self.uid = 0
        self.gid = 0
        self.gone = False
        self.moved: Node | None = None
        self.mounted: FileSystem | None = None
        self._packed: bytes | None = None
        # Answers about it (kernel.fs.answers): (walks, path) -> (where, what is answered).
        self.learned: dict[tuple[int, bytes], tuple[int, int]] | None = None
        self.children: Mapping[bytes, Node] = NO_CHILDREN

    @property
    def packed(self) -> bytes | None:
        """Canonical stat, while it cannot change behind our back.

        Whatever changes what is to be known of this name assigns it last, be it the same.
        """
        return self._packed

    @packed.setter
    def packed(self, value: bytes | None) -> None:
        self._packed = value
        if self.learned is not None:
            self.fs.answers.forget(self)

    def vanish(self) -> None:
        """This node is `gone`: its name is another node's."""
        self.gone = True
        if self.learned is not None:
            self.fs.answers.forget(self)

    # -- reading -------------------------------------------------------------------------------

    def lookup(self, name: bytes) -> Node:
        """The node called `name` in this directory, perhaps a negative one."""
        raise LinuxError(errno.ENOTDIR)

    def stat(self) -> bytes:
        """Canonical `struct stat` bytes. ENOENT for a negative node."""
        raise LinuxError(errno.ENOENT)

    def refresh(self) -> None:
        """Make `mode`, `uid` and `gid` current."""

    def hold(self) -> None:
        """Somebody keeps this node: later questions about it are asked anew."""

    def attributes(self) -> Attributes:
        """`stat` as a named tuple."""
        return unpack(self.packed or self.stat())

    def inode(self) -> int:
        """The inode number the guest sees."""
        return head(self.packed or self.stat())[1]

    def readlink(self, task: Task) -> bytes:
        """A symbolic link's text."""
        raise LinuxError(errno.EINVAL)

    def link_text(self) -> bytes | None:
        """A symbolic link's text where it is the same for everybody and known already."""
        return None

    def plain_file(self) -> bytes | None:
        """The host path of a regular file which need only be opened there to be read; or None."""
        return None

    def jump(self, task: Task) -> Node | None:
        """What a magic link (/proc/PID/cwd) leads to; None for an ordinary one."""
        return None

    def entries(self, task: Task) -> list[Entry]:
        """The directory's names, without `.` and `..`."""
        raise LinuxError(errno.ENOTDIR)

    def content(self, task: Task) -> bytes:
        """A synthetic file's content, made now."""
        raise LinuxError(errno.EINVAL)

    def store(self, task: Task, data: bytes) -> None:
        """Write to a synthetic file: one write(2) is one command."""
        raise LinuxError(errno.EACCES)

    def host_path(self) -> bytes | None:
        """Where the file is on the host, if it is anywhere."""
        return None

    # -- opening -------------------------------------------------------------------------------

    def open(self, task: Task, flags: int) -> tuple[int, OpenFile | None]:
        """A host descriptor for the guest, and the kernel's side of it when it is a flagged one."""
        raise LinuxError(errno.ENXIO)

    def prepare_fifo(self) -> None:
        """Before a FIFO is opened by its host path."""

    def prepare_watch(self) -> None:
        """Before the host watches this file by its host path."""

    # -- changing (on a directory, unless said otherwise) ----------------------------------------

    def create(self, child: Node, mode: int, owner: tuple[int, int], flags: int) -> int:
        """Make `child` (negative) a regular file and open it with `flags`; the host descriptor."""
        raise LinuxError(errno.EACCES)

    def make_directory(self, child: Node, mode: int, owner: tuple[int, int]) -> None:
        """Make `child` (negative) a directory."""
        raise LinuxError(errno.EPERM)

    def make_symlink(self, child: Node, target: bytes, owner: tuple[int, int]) -> None:
        """Make `child` (negative) a symbolic link."""
        raise LinuxError(errno.EPERM)

    def make_node(self, child: Node, mode: int, rdev: int, owner: tuple[int, int]) -> None:
        """Make `child` (negative) a FIFO, socket or device, by the type bits of `mode`."""
        raise LinuxError(errno.EPERM)

    def make_link(self, child: Node, source: Node) -> None:
        """Make `child` (negative) another name of `source`'s file."""
        raise LinuxError(errno.EPERM)

    def unlink(self, child: Node) -> None:
        """Remove a name that is not a directory."""
        raise LinuxError(errno.EPERM)

    def remove_directory(self, child: Node) -> None:
        """Remove an empty directory; ENOTEMPTY otherwise."""
        raise LinuxError(errno.EPERM)

    def rename(self, child: Node, directory: Node, target: Node, exchange: bool) -> None:
        """Rename `child` of this directory to the name `target` (of `directory`, same tree)."""
        raise LinuxError(errno.EPERM)

    def link_open_file(self, child: Node, source: bytes) -> None:
        """Give the open file behind the host's magic link `source` the name `child` (negative)."""
        raise LinuxError(errno.EXDEV)

    def open_unnamed(self, mode: int, owner: tuple[int, int], flags: int) -> int:
        """O_TMPFILE: a host descriptor of a file that has no name."""
        raise LinuxError(errno.EOPNOTSUPP)

    def change_mode(self, mode: int) -> None:
        """Set the permission bits (07777) of this node."""
        raise LinuxError(errno.EPERM)

    def change_owner(self, uid: int, gid: int, mode: int) -> None:
        """Set owner, group and permission bits of this node."""
        raise LinuxError(errno.EPERM)

    def set_times(self, atime_ns: int, mtime_ns: int) -> None:
        """Set both times of this node."""
        raise LinuxError(errno.EPERM)

    def truncate(self, size: int) -> None:
        """Set this regular file's size."""
        raise LinuxError(errno.EINVAL)

    def xattrs(self) -> dict[bytes, bytes]:
        """This node's extended attributes (do not modify)."""
        return {}

    def file_capabilities(self) -> bytes | None:
        """The attribute security.capability (capabilities(7), "File capabilities")."""
        return self.xattrs().get(b"security.capability")

    def set_xattrs(self, values: dict[bytes, bytes]) -> None:
        """Replace this node's extended attributes."""
        raise LinuxError(errno.EOPNOTSUPP)

    # -- names ---------------------------------------------------------------------------------

    def path(self, root: Node) -> bytes:
        """The absolute path as seen from `root`; outside of it, with the `(unreachable)` prefix."""
        names: list[bytes] = []
        node: Node = self
        while node is not root:
            if node.parent is not None:
                names.append(node.name)
                node = node.parent
            elif node.fs.mountpoint is not None:
                node = node.fs.mountpoint
            else:
                names.append(b"(unreachable)")
                return b"/".join(reversed(names))
        return b"/" + b"/".join(reversed(names))

    def is_below(self, ancestor: Node) -> bool:
        """Whether `ancestor` is this node or one of its parents in the same tree."""
        node: Node | None = self
        while node is not None:
            if node is ancestor:
                return True
            node = node.parent
        return False

    def new_child(self, name: bytes) -> Node:
        """A negative node for `name`, entered among the children."""
        raise LinuxError(errno.ENOTDIR)

    def owner_of_new(self, who: Credentials, mode: int) -> tuple[tuple[int, int], int]:
        """((uid, gid), mode) of a file `who` makes in this directory, which may be setgid."""
        if not self.mode & 0o2000:
            return (who.fsuid, who.fsgid), mode
        if mode & 0o170000 == DIRECTORY:
            mode |= 0o2000
        return (who.fsuid, self.gid), mode
