"""Image layers below, one writable directory above: what every container's root is.

A directory is the union of its parts (the upper one first); a file is in the topmost layer that has
it. Lower layers never change and only this process writes the upper one, so nodes are cached
exactly and stat answers come from memory - except for upper files that a guest may be writing
through a descriptor (`dynamic`), which are asked for each time.

Host layout invariant: whatever is in the upper tree has real directories of the upper tree above
it, so joining a node's name to its parent's host path never crosses a symbolic link.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, cast

from kernel.errors import LinuxError
from kernel.fs import copyup
from kernel.fs.devices import open_device
from kernel.fs.hosterrors import linux_errors
from kernel.fs.merged import MergedNode, Part
from kernel.fs.metadata import (
    DIRECTORY,
    FIFO,
    REGULAR,
    S_IFMT,
    SYMLINK,
    access_time_is_due,
    head,
    with_head,
)
from kernel.fs.node import FileSystem, Node
from kernel.fs.openfile import DirectoryFile, OpenFile
from kernel.fs.owners import PLAIN, Owners, Record
from kernel.host.linux_fs import (
    AT_FDCWD,
    RENAME_EXCHANGE,
    fstat_raw,
    link_followed,
    lstat_raw,
    rename_flags,
    unused,
)

if TYPE_CHECKING:
    from kernel.fs.layerindex import Layer
    from kernel.task import Task

# What survives of open(2)'s flags when the host file is opened; the path was resolved already.
HOST_FLAGS = (
    os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_SYNC | os.O_DSYNC | os.O_DIRECT
    | os.O_NOATIME | os.O_TRUNC | os.O_LARGEFILE | os.O_ASYNC
)  # fmt: skip


MOST_NODES = 40_000  # more are pruned: about 0.8 KB each


class OverlayFs(FileSystem):
    """The union of `layers` (topmost first) and the writable `upper` directory."""

    type = b"overlay"
    magic = 0x794C7630

    def __init__(
        self, layers: list[Layer], upper: bytes, owners: Owners, work: bytes, device: int
    ) -> None:
        """`upper`: an existing directory; `work`: scratch on the same host file system."""
        super().__init__()
        self.device = device
        self.owners = owners
        self.upper = upper
        self.work = work
        self.layers = layers
        self.source = b"overlay"
        self.written: set[int] = set()  # upper files that were opened for writing, by inode
        self._serial = 0
        self._count = 0
        self._most = MOST_NODES
        root = OverlayNode(self, None, b"")
        raw = lstat_raw(upper)
        if isinstance(raw, int):
            raise OSError(raw, os.strerror(raw), os.fsdecode(upper))
        root.adopt(raw, upper, owners, upper=True)
        root.lowers = tuple(Part(layer.owners, layer.root, layer.root_ino) for layer in layers)
        if layers and owners.records.get(root.host_ino, PLAIN) == PLAIN:
            # The root directory's own attributes come from the image.
            below = OverlayNode(self, None, b"")
            bottom = lstat_raw(layers[0].root)
            assert isinstance(bottom, bytes)
            below.adopt(bottom, layers[0].root, layers[0].owners, upper=False)
            root.mode, root.uid, root.gid = below.mode, below.uid, below.gid
            root.save_attributes()
        root.merge()
        self.root: OverlayNode = root

    def enter(self, directory: MergedNode, child: MergedNode) -> None:
        """Make `child` known as an entry of `directory`."""
        children = directory.children
        if not isinstance(children, dict):
            directory.children = children = {}
        children[child.name] = child
        self._count += 1
        if self._count > self._most:
            self.on_change()  # remembered walks hold nodes, too
            self._count = prune(self.root)
            self._most = max(MOST_NODES, 2 * self._count)

    def scratch(self) -> bytes:
        """A fresh name in the work directory."""
        self._serial += 1
        return b"%s/%d" % (self.work, self._serial)

    def statfs(self) -> tuple[int, int, int, int, int, int, int]:
        v = os.statvfs(self.upper)
        return (v.f_bsize, v.f_blocks, v.f_bfree, v.f_bavail, v.f_files, v.f_ffree, 255)

    def close(self) -> None:
        self.owners.close()


@linux_errors
class OverlayNode(MergedNode):
    """A name in an overlay, with all that can be done to it."""

    __slots__ = ()

    parent: OverlayNode | None

    # -- opening -------------------------------------------------------------------------------

    def open(self, task: Task, flags: int) -> tuple[int, OpenFile | None]:
        kind = self.kind
        if kind == REGULAR:
            if flags & (os.O_ACCMODE | os.O_TRUNC):
                self.copy_up(data=not flags & os.O_TRUNC)
                self.set_written()
            elif self.upper:
                self.will_be_read()
            return os.open(self.host, (flags & HOST_FLAGS) | os.O_CLOEXEC), None
        if kind == DIRECTORY:
            fd = os.open(self.host, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            return fd, DirectoryFile(self, flags)
        if kind == FIFO:
            raise LinuxError(errno.ENXIO)  # opening it may sleep: kernel.fs.fifo
        return open_device(task, self, self.rdev, flags)

    def plain_file(self) -> bytes | None:
        if self.upper and self.packed is not None and access_time_is_due(self.packed):
            return None  # see will_be_read
        return self.host

    def prepare_fifo(self) -> None:
        self.copy_up()  # a lower FIFO would connect containers to each other

    def prepare_watch(self) -> None:
        if not self.fs.readonly:
            self.copy_up()

    # -- changing this node ----------------------------------------------------------------------

    def copy_up(self, data: bool = True) -> None:
        """Make sure this file is in the upper tree (`data` False: without its content)."""
        if not self.upper:
            copyup.copy_up(self, data)

    def set_written(self) -> None:
        """From here on guests may change this file behind our back; see `settle`."""
        self.dynamic = True
        self.asked = 0
        self.packed = None
        self.fs.written.add(self.host_ino)

    def will_be_read(self) -> None:
        """An upper file is opened for reading, which may set its access time."""
        if self.packed is not None and access_time_is_due(self.packed):
            self.set_written()

    def settle(self) -> bytes | None:
        if self.kind != REGULAR or not unused(self.host):
            return None
        raw = lstat_raw(self.host)
        if isinstance(raw, int):
            return None
        self.dynamic = False
        self.fs.written.discard(self.host_ino)
        return self.adopt(raw, self.host, self.owners, self.upper)

    def record(self) -> Record:
        """This node's index record as it must be to present the current attributes."""
        old = self.owners.records.get(self.host_ino, PLAIN)
        return old._replace(uid=self.uid, gid=self.gid)

    def save_attributes(self) -> None:
        """Record `mode`, `uid`, `gid` in the index; host bits follow as far as they may."""
        assert self.upper
        host = self.mode
        if self.kind != SYMLINK:
            emulated = self.kind not in (DIRECTORY, REGULAR, FIFO)
            bits = host_bits(self.mode)
            os.chmod(self.host, bits)  # changes ctime even when the bits stay
            host = (REGULAR if emulated else self.kind) | bits
        else:
            os.utime(self.host, ns=self._times(), follow_symlinks=False)
        mode = -1 if host == self.mode else self.mode
        self.owners.set(self.host_ino, self.record()._replace(mode=mode))
        self.packed = None
        if self.kind == DIRECTORY:
            self.fs.forget_paths()  # who may search it may have changed

    def _times(self) -> tuple[int, int]:
        a = self.attributes()
        return (a.atime_ns, a.mtime_ns)

    def change_mode(self, mode: int) -> None:
        self.copy_up()
        self.mode = self.kind | mode
        self.save_attributes()

    def change_owner(self, uid: int, gid: int, mode: int) -> None:
        self.copy_up()
        self.uid, self.gid, self.mode = uid, gid, self.kind | mode
        self.save_attributes()

    def set_times(self, atime_ns: int, mtime_ns: int) -> None:
        self.copy_up()
        os.utime(self.host, ns=(atime_ns, mtime_ns), follow_symlinks=False)
        self.packed = None

    def truncate(self, size: int) -> None:
        self.copy_up(data=size != 0)
        os.truncate(self.host, size)
        self.packed = None

    def set_xattrs(self, values: dict[bytes, bytes]) -> None:
        self.copy_up()
        self.owners.set(self.host_ino, self.record()._replace(xattrs=values or None))
        self.packed = None

    # -- changing this directory -----------------------------------------------------------------

    def create(self, child: Node, mode: int, owner: tuple[int, int], flags: int) -> int:
        path = self._place(child)
        mode |= REGULAR
        flags = (flags & HOST_FLAGS) | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(path, flags, host_bits(mode))
        self.born(cast(OverlayNode, child), path, mode, owner, raw=fstat_raw(fd))
        if flags & os.O_ACCMODE:
            cast(OverlayNode, child).set_written()
        return fd

    def make_directory(self, child: Node, mode: int, owner: tuple[int, int]) -> None:
        path = self._place(child)
        mode |= DIRECTORY
        os.mkdir(path, host_bits(mode))
        self.born(cast(OverlayNode, child), path, mode, owner)
        self._cover_lower(cast(OverlayNode, child))

    def make_symlink(self, child: Node, target: bytes, owner: tuple[int, int]) -> None:
        path = self._place(child)
        os.symlink(target, path)
        # Whole-path caches may hold the negative node, and must not take a link for a file.
        child.vanish()
        fresh = self.new_child(child.name)
        fresh.target = target
        self.born(fresh, path, SYMLINK | 0o777, owner)

    def make_node(self, child: Node, mode: int, rdev: int, owner: tuple[int, int]) -> None:
        path = self._place(child)
        if mode & S_IFMT == FIFO:
            os.mkfifo(path, host_bits(mode))
        else:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, host_bits(mode)))
        self.born(cast(OverlayNode, child), path, mode, owner, rdev)

    def make_link(self, child: Node, source: Node) -> None:
        assert isinstance(source, OverlayNode)
        source.copy_up()
        path = self._place(child)
        os.link(source.host, path, follow_symlinks=False)
        source.dynamic = source.shared = True
        source.packed = None
        if source.kind == SYMLINK:
            child.vanish()
            child = self.new_child(child.name)
        self._named(cast(OverlayNode, child), path)

    def link_open_file(self, child: Node, source: bytes) -> None:
        """linkat(2) of an unnamed file: `source` is its /proc/.../fd/N magic link on the host."""
        path = self._place(child)
        link_followed(source, AT_FDCWD, path)
        self._named(cast(OverlayNode, child), path)
        cast(OverlayNode, child).set_written()

    def open_unnamed(self, mode: int, owner: tuple[int, int], flags: int) -> int:
        self.copy_up()
        mode |= REGULAR
        bits = host_bits(mode)
        fd = os.open(self.host, (flags & HOST_FLAGS) | os.O_TMPFILE | os.O_CLOEXEC, bits)
        self.fs.owners.settle(os.fstat(fd).st_ino, fresh_record(mode, owner, 0))
        return fd

    def unlink(self, child: Node) -> None:
        assert isinstance(child, OverlayNode)
        self.copy_up()
        self._hide(child.name)
        if child.upper:
            os.unlink(child.host)
            if not child.shared:
                self.fs.written.discard(child.host_ino)
        self._vanished(child)

    def remove_directory(self, child: Node) -> None:
        assert isinstance(child, OverlayNode)
        if child.entries_exist():
            raise LinuxError(errno.ENOTEMPTY)
        packed = child.stat()
        self.copy_up()
        self._hide(child.name)
        if child.upper:
            os.rmdir(child.host)
        self._vanished(child)
        dev, ino, _, mode, uid, gid, _, rdev = head(packed)
        child.packed = with_head(packed, dev, ino, 0, mode, uid, gid, rdev)
        self.fs.forget_paths()

    def rename(self, child: Node, directory: Node, target: Node, exchange: bool) -> None:
        assert isinstance(child, OverlayNode)
        assert isinstance(directory, OverlayNode)
        assert isinstance(target, OverlayNode)
        if target.kind == DIRECTORY and not exchange and target.entries_exist():
            raise LinuxError(errno.ENOTEMPTY)
        copyup.copy_up_tree(child)
        if exchange:
            copyup.copy_up_tree(target)
        self.copy_up()
        path = directory._place(target)
        if exchange:
            rename_flags(child.host, path, RENAME_EXCHANGE)
            old_name = child.name
            moved, other = child.move(directory, target.name), target.move(self, old_name)
            directory._cover_lower(moved)
            self._cover_lower(other)
        else:
            self._hide(child.name)
            os.rename(child.host, path)
            directory.fs.owners.reveal(directory.host_ino, target.name)
            target.vanish()
            if target.kind == SYMLINK:
                self.fs.forget_paths()
            old_name = child.name
            moved = child.move(directory, target.name)
            self.new_child(old_name)
            directory._cover_lower(moved)
        self.packed = directory.packed = None

    def move(self, directory: OverlayNode, name: bytes) -> OverlayNode:
        """Take another place after the host rename; a directory keeps its node, a file gets one."""
        node = self
        if self.kind == DIRECTORY:
            self.parent, self.name = directory, name
            self.fs.enter(directory, self)
            self.relocate()
            self.fs.forget_paths()
        else:
            node = directory.new_child(name)
            node.adopt_from(self, directory.host + b"/" + name)
            self.vanish()
            self.moved = node
            if self.kind == SYMLINK:
                self.fs.forget_paths()
        node.packed = None  # ctime
        return node

    def adopt_from(self, other: OverlayNode, host: bytes) -> None:
        """Become the file `other` was, at its new place."""
        self.host, self.upper, self.owners = host, other.upper, other.owners
        self.kind, self.mode, self.uid, self.gid = other.kind, other.mode, other.uid, other.gid
        self.ino, self.host_ino, self.rdev = other.ino, other.host_ino, other.rdev
        self.dynamic, self.shared, self.target = other.dynamic, other.shared, other.target

    def relocate(self) -> None:
        """Recompute the host paths of this directory and of all known upper nodes below it."""
        assert self.parent is not None
        self.host = self.parent.host + b"/" + self.name
        for child in self.children.values():
            below = cast(OverlayNode, child)
            if below.kind == DIRECTORY and below.upper:
                below.relocate()
            elif below.upper:
                below.host = self.host + b"/" + below.name

    # -- bookkeeping -----------------------------------------------------------------------------

    def _place(self, child: Node) -> bytes:
        """The upper path where `child` is to appear; this directory is copied up for it."""
        if self.gone:
            raise LinuxError(errno.ENOENT)
        self.copy_up()
        return self.host + b"/" + child.name

    def born(
        self,
        child: OverlayNode,
        path: bytes,
        mode: int,
        owner: tuple[int, int],
        rdev: int = 0,
        raw: bytes | int = 0,
    ) -> None:
        """Enter the file just made at `path`; `raw`: its host stat, if known."""
        if isinstance(raw, int):
            raw = lstat_raw(path)
            assert isinstance(raw, bytes)
        self.fs.owners.settle(head(raw)[1], fresh_record(mode, owner, rdev))
        self._named(child, path, raw)

    def _named(self, child: OverlayNode, path: bytes, raw: bytes | int = 0) -> None:
        owners = self.fs.owners
        if owners.whiteouts:
            owners.reveal(self.host_ino, child.name)
        if isinstance(raw, int):
            raw = lstat_raw(path)
            assert isinstance(raw, bytes)
        child.dynamic = child.shared = False
        if head(raw)[2] == 1:
            self.fs.written.discard(head(raw)[1])
        child.adopt(raw, path, owners, upper=True)
        self.packed = None

    def _hide(self, name: bytes) -> None:
        """Before a name goes away: let no layer below show it again."""
        if self.lowers and self.lower_has(name):
            self.fs.owners.whiteout(self.host_ino, name)
            os.utime(self.host)

    def _cover_lower(self, child: OverlayNode) -> None:
        """A directory that appears over a lower name must not merge with it."""
        if child.kind == DIRECTORY and self.lowers and self.lower_has(child.name):
            self.fs.owners.set_opaque(child.host_ino)

    def _vanished(self, child: OverlayNode) -> None:
        child.vanish()
        if child.kind == SYMLINK:
            self.fs.forget_paths()
        self.new_child(child.name)
        self.packed = None


def prune(directory: OverlayNode) -> int:
    """Drop the nodes below `directory` that nobody holds; the number of those that stay."""
    children = cast(dict[bytes, OverlayNode], directory.children)
    kept = 0
    for name in list(children):
        child = children[name]
        if child.children:
            kept += prune(child)
        # Three references: the dictionary's, ours, and the call's argument.
        if not child.children and child.mounted is None and sys.getrefcount(child) <= 3:
            del children[name]
        else:
            kept += 1
    return kept


def host_bits(mode: int) -> int:
    """The permission bits the host file gets: the guest's, and always enough for ourselves."""
    return (mode & 0o777) | (0o700 if mode & S_IFMT == DIRECTORY else 0o600)


def fresh_record(mode: int, owner: tuple[int, int], rdev: int) -> Record:
    """The record of a new file with these attributes; PLAIN if the host's own say it all."""
    kind = mode & S_IFMT
    if kind == SYMLINK or (kind in (DIRECTORY, REGULAR, FIFO) and mode & 0o7777 == host_bits(mode)):
        mode = -1
    elif kind in (DIRECTORY, REGULAR, FIFO):
        rdev = 0
    return Record(owner[0], owner[1], mode, rdev)
