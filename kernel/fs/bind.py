"""A host directory or file inside the container: `docker run -v`, and volumes.

Others write here too, perhaps another container that wants out through us: nothing is cached, and
every host call goes through openat2(2) beneath the mounted directory with no symbolic link
followed, so a name that turns into a link between our check and our use cannot lead elsewhere.

Owners: our own host user is the container's root, other ids are shown as they are. What chown(2)
and the like set beyond that is kept in the file's `user.ddock` attribute, which travels with the
file and is seen by all containers that share a volume; where the host file system has no user
attributes it is remembered until the container ends.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

import msgpack

from kernel.errors import LinuxError
from kernel.fs.devices import open_device
from kernel.fs.hosterrors import linux_errors
from kernel.fs.metadata import (
    CHARACTER,
    DIRECTORY,
    FIFO,
    REGULAR,
    S_IFMT,
    SYMLINK,
    head,
    with_head,
)
from kernel.fs.node import Entry, FileSystem, Node
from kernel.fs.openfile import DirectoryFile, OpenFile
from kernel.fs.overlay import HOST_FLAGS
from kernel.fs.owners import PLAIN, Record
from kernel.host import linux_fs
from kernel.host.linux_fs import fstat_raw, openat2

if TYPE_CHECKING:
    from kernel.task import Task

ATTRIBUTE: Final = b"user.ddock"
_RESOLVE = linux_fs.RESOLVE_BENEATH | linux_fs.RESOLVE_NO_SYMLINKS
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_ATTRIBUTE = (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.ENOSYS)


class BindFs(FileSystem):
    """The tree at a host path. `volume`: expect attributes that other containers set."""

    type = b"ext4"
    magic = 0xEF53
    cached = False

    def __init__(self, source: bytes, readonly: bool = False, volume: bool = False) -> None:
        """Open `source`, following links: it is the user's word. Raises OSError."""
        super().__init__()
        self.root_fd = os.open(source, os.O_PATH | os.O_CLOEXEC)
        self.host_source = os.path.realpath(source)
        self.readonly = readonly
        self.source = b"/dev/root"
        self.user, self.group = os.geteuid(), os.getegid()
        self.attributes = volume or self._marked()
        self.memory: dict[tuple[int, int], Record] = {}  # where attributes do not work
        self.fresh: BindNode | None = None  # the node whose `packed` was read by the last lookup
        self.root: BindNode = BindNode(self, None, b"")
        self.root.reread()
        self.device = head(self.root.raw)[0]

    def open_at(self, path: bytes, flags: int, mode: int = 0) -> int:
        """Open `path` beneath the root ("" is the root itself)."""
        flags |= os.O_CLOEXEC
        if not path:
            if flags & os.O_PATH:
                return os.dup(self.root_fd)
            return os.open(b"/proc/self/fd/%d" % self.root_fd, flags & ~os.O_NOFOLLOW)
        if linux_fs.HAVE_OPENAT2:
            return openat2(self.root_fd, path, flags, mode, _RESOLVE)
        return self._open_stepwise(path, flags | os.O_NOFOLLOW, mode)

    def _open_stepwise(self, path: bytes, flags: int, mode: int) -> int:
        """Without openat2: one name at a time, each held open and none followed."""
        *above, last = path.split(b"/")
        fd = os.dup(self.root_fd)
        try:
            for name in above:
                below = os.open(name, _PATH | os.O_DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = below
            return os.open(last, flags, mode, dir_fd=fd)
        finally:
            os.close(fd)

    def shortcut(self, node: Node, names: list[bytes]) -> Node | None:
        if self.nested or not isinstance(node, BindNode):
            return None
        below = b"/".join(names)
        above = node.relative()
        try:
            fd = self.open_at(above + b"/" + below if above else below, _PATH | os.O_DIRECTORY)
        except OSError:
            return None
        try:
            for name in names:
                child = node.known(name)
                if child.kind != DIRECTORY:
                    # Mode 0 makes whoever needs its permissions ask for them.
                    child.kind, child.mode = DIRECTORY, 0
                node = child
            node.adopt(fd)
            return node
        finally:
            os.close(fd)

    def statfs(self) -> tuple[int, int, int, int, int, int, int]:
        v = os.statvfs(b"/proc/self/fd/%d" % self.root_fd)
        return (v.f_bsize, v.f_blocks, v.f_bfree, v.f_bavail, v.f_files, v.f_ffree, v.f_namemax)

    def close(self) -> None:
        if self.root_fd >= 0:
            os.close(self.root_fd)
            self.root_fd = -1

    def _marked(self) -> bool:
        try:
            os.getxattr(b"/proc/self/fd/%d" % self.root_fd, ATTRIBUTE)
        except OSError:
            return False
        return True

    def record(self, fd: int, raw: bytes) -> Record:
        """What is remembered about the file open (O_PATH) as `fd`."""
        return self.record_at(b"/proc/self/fd/%d" % fd, raw)

    def record_at(self, link: bytes, raw: bytes) -> Record:
        """What is remembered about the file that the magic link `link` leads to."""
        if self.memory:
            found = self.memory.get(head(raw)[:2])
            if found is not None:
                return found
        if not self.attributes:
            return PLAIN
        try:
            data = os.getxattr(link, ATTRIBUTE)
            fields: list[Any] = msgpack.unpackb(data, raw=True, strict_map_key=False)
            return Record(*fields)
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTE:
                raise
        except (ValueError, TypeError, msgpack.UnpackException):
            pass  # not ours: somebody else's attribute of that name
        return PLAIN

    def save(self, fd: int, record: Record) -> None:
        """Remember `record` for the file open (O_PATH) as `fd`."""
        raw = fstat_raw(fd)
        try:
            if not self.attributes:
                os.setxattr(b"/proc/self/fd/%d" % self.root_fd, ATTRIBUTE, msgpack.packb(PLAIN))
                self.attributes = True
            os.setxattr(b"/proc/self/fd/%d" % fd, ATTRIBUTE, msgpack.packb(record))
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTE:
                raise
            self.memory[head(raw)[:2]] = record


@linux_errors
class BindNode(Node):
    """A name below a bind mount, as the last lookup found it."""

    __slots__ = ("found", "raw", "rdev")

    fs: BindFs
    parent: BindNode | None

    def __init__(self, fs: BindFs, parent: BindNode | None, name: bytes) -> None:
        super().__init__(fs, parent, name)
        self.raw = b""
        self.rdev = 0
        # Nodes somebody holds (working directories, mountpoints) keep their identity.
        self.found: WeakValueDictionary[bytes, BindNode] | None = None

    def relative(self) -> bytes:
        """The path beneath the mount's root."""
        if self.parent is None:
            return b""
        above = self.parent.relative()
        return above + b"/" + self.name if above else self.name

    @contextmanager
    def opened(self, flags: int = _PATH) -> Iterator[int]:
        """An O_PATH descriptor of this very file."""
        fd = self.fs.open_at(self.relative(), flags)
        try:
            yield fd
        finally:
            os.close(fd)

    # -- finding and reading ---------------------------------------------------------------------

    def lookup(self, name: bytes) -> Node:
        if len(name) > 255:
            raise LinuxError(errno.ENAMETOOLONG)
        child = self.known(name)
        child.reread()
        return child

    def known(self, name: bytes) -> BindNode:
        """The node somebody holds for `name`, or a new one; it is not looked up."""
        if self.found is None:
            self.found = WeakValueDictionary()
        child = self.found.get(name)
        if child is None or child.gone:
            child = self.found[name] = BindNode(self.fs, self, name)
        return child

    def reread(self) -> None:
        """Ask the host; the node becomes negative if nothing is there."""
        try:
            fd = self.fs.open_at(self.relative(), _PATH)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV):
                raise LinuxError(error.errno or errno.EIO) from error
            self.kind = 0
            self.mode = 0
            return
        try:
            self.adopt(fd)
        finally:
            os.close(fd)

    def adopt(self, fd: int) -> None:
        """Take the attributes of the file open as `fd`."""
        raw = fstat_raw(fd)
        dev, ino, nlink, mode, uid, gid, _, rdev = head(raw)
        record = self.fs.record(fd, raw)
        if record is PLAIN:
            fs = self.fs
            uid = 0 if uid == fs.user else uid
            gid = 0 if gid == fs.group else gid
        else:
            uid, gid = record.uid, record.gid
            if record.mode >= 0:
                mode, rdev = record.mode, record.rdev
        self.mode, self.uid, self.gid, self.rdev = mode, uid, gid, rdev
        self.kind = mode & S_IFMT
        self.raw = with_head(raw, dev, ino, nlink, mode, uid, gid, rdev)
        self.fs.fresh = self

    def stat(self) -> bytes:
        if self.fs.fresh is self:
            self.fs.fresh = None  # once: the next answer is asked for again
        elif not self.gone:
            self.reread()
            self.fs.fresh = None
        if not self.kind:
            raise LinuxError(errno.ENOENT)
        return self.raw

    def refresh(self) -> None:
        if self.fs.fresh is not self and not self.gone:
            self.reread()

    def hold(self) -> None:
        self.fs.fresh = None

    def host_path(self) -> bytes | None:
        below = self.relative()
        return self.fs.host_source + b"/" + below if below else self.fs.host_source

    def readlink(self, task: Task) -> bytes:
        if self.kind != SYMLINK:
            raise LinuxError(errno.EINVAL)
        with self.opened() as fd:
            return os.readlink(b"", dir_fd=fd)

    def entries(self, task: Task) -> list[Entry]:
        found = []
        with self.opened(os.O_RDONLY | os.O_DIRECTORY) as fd, os.scandir(fd) as items:
            for item in items:
                kind = 8 if item.is_file(follow_symlinks=False) else 0
                if item.is_dir(follow_symlinks=False):
                    kind = 4
                elif item.is_symlink():
                    kind = 10
                found.append(Entry(os.fsencode(item.name), item.inode(), kind))
        return found

    def xattrs(self) -> dict[bytes, bytes]:
        with self.opened() as fd:
            path = b"/proc/self/fd/%d" % fd
            record = self.fs.record(fd, fstat_raw(fd))
            values = dict(record.xattrs or {})
            if self.kind in (REGULAR, DIRECTORY):
                for name in os.listxattr(path):
                    raw_name = os.fsencode(name)
                    if raw_name.startswith(b"user.") and raw_name != ATTRIBUTE:
                        values[raw_name] = os.getxattr(path, raw_name)
        return values

    def file_capabilities(self) -> bytes | None:
        if not self.fs.attributes and not self.fs.memory:
            return None  # the host's own do not count
        return super().file_capabilities()

    # -- opening -----------------------------------------------------------------------------------

    def open(self, task: Task, flags: int) -> tuple[int, OpenFile | None]:
        if self.kind == REGULAR:
            flags = (flags & HOST_FLAGS) | os.O_NOFOLLOW
            return self._open_regular(flags), None
        if self.kind == DIRECTORY:
            fd = self.fs.open_at(self.relative(), os.O_RDONLY | os.O_DIRECTORY)
            return fd, DirectoryFile(self, flags)
        if self.kind == CHARACTER:
            return open_device(task, self, self.rdev, flags)
        raise LinuxError(errno.ENXIO)

    def _open_regular(self, flags: int) -> int:
        try:
            return self.fs.open_at(self.relative(), flags)
        except PermissionError:
            # The container's root may read what has mode 0200; its host user must ask the mode
            # first.
            with self.opened() as fd:
                host = os.fstat(fd)
                if host.st_uid != os.geteuid():
                    raise
                path = b"/proc/self/fd/%d" % fd
                os.chmod(path, host.st_mode & 0o7777 | 0o600)
                try:
                    return os.open(path, (flags & ~os.O_NOFOLLOW) | os.O_CLOEXEC)
                finally:
                    os.chmod(path, host.st_mode & 0o7777)

    # -- changing this file ------------------------------------------------------------------------

    def change_mode(self, mode: int) -> None:
        self.change_owner(self.uid, self.gid, mode)

    def change_owner(self, uid: int, gid: int, mode: int) -> None:
        with self.opened() as fd:
            if self.kind in (REGULAR, DIRECTORY, FIFO) and not _is_emulated(self, fd):
                os.chmod(b"/proc/self/fd/%d" % fd, mode & 0o777)
            self._save(fd, uid, gid, self.kind | mode)

    def _save(self, fd: int, uid: int, gid: int, mode: int, rdev: int = 0) -> None:
        host = os.fstat(fd)
        shown = (
            0 if host.st_uid == os.geteuid() else host.st_uid,
            0 if host.st_gid == os.getegid() else host.st_gid,
        )
        old = self.fs.record(fd, fstat_raw(fd))
        keep = -1 if host.st_mode == mode else mode
        record = Record(uid, gid, keep, rdev or self.rdev if keep >= 0 else 0, old.xattrs)
        if old is not PLAIN or keep >= 0 or (uid, gid) != shown:
            self.fs.save(fd, record)
        self.fs.fresh = None

    def set_times(self, atime_ns: int, mtime_ns: int) -> None:
        times = (atime_ns, mtime_ns)
        if self.kind == SYMLINK:
            with self.directory() as fd:
                os.utime(self.name, ns=times, dir_fd=fd, follow_symlinks=False)
        else:
            with self.opened() as fd:
                os.utime(b"/proc/self/fd/%d" % fd, ns=times)
        self.fs.fresh = None

    def truncate(self, size: int) -> None:
        fd = self._open_regular(os.O_WRONLY | os.O_NOFOLLOW)
        try:
            os.ftruncate(fd, size)
        finally:
            os.close(fd)
        self.fs.fresh = None

    def set_xattrs(self, values: dict[bytes, bytes]) -> None:
        with self.opened() as fd:
            path = b"/proc/self/fd/%d" % fd
            kept = {}
            for name, value in values.items():
                try:
                    if not name.startswith(b"user."):
                        raise OSError(errno.EOPNOTSUPP, "kept in our own attribute")
                    os.setxattr(path, name, value)
                except OSError:
                    kept[name] = value
            if self.kind in (REGULAR, DIRECTORY):
                for old in os.listxattr(path):
                    name = os.fsencode(old)
                    if name.startswith(b"user.") and name != ATTRIBUTE and name not in values:
                        os.removexattr(path, name)
            record = self.fs.record(fd, fstat_raw(fd))
            if kept or record.xattrs:
                if record is PLAIN:
                    record = Record(self.uid, self.gid)
                self.fs.save(fd, record._replace(xattrs=kept or None))

    # -- changing this directory -------------------------------------------------------------------

    @contextmanager
    def directory(self) -> Iterator[int]:
        """An O_PATH descriptor of the directory this name is in."""
        assert self.parent is not None
        with self.parent.opened(_PATH | os.O_DIRECTORY) as fd:
            yield fd

    def create(self, child: Node, mode: int, owner: tuple[int, int], flags: int) -> int:
        assert isinstance(child, BindNode)
        flags = (flags & HOST_FLAGS) | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        fd = self.fs.open_at(child.relative(), flags, mode & 0o777)
        child.made(mode | REGULAR, owner)
        return fd

    def made(self, mode: int, owner: tuple[int, int], rdev: int = 0) -> None:
        """Give the file just made its owner and what the host cannot hold."""
        with self.opened() as fd:
            self.kind = mode & S_IFMT
            self._save(fd, *owner, mode, rdev)
        self.reread()
        self.fs.fresh = None

    def make_directory(self, child: Node, mode: int, owner: tuple[int, int]) -> None:
        assert isinstance(child, BindNode)
        with child.directory() as fd:
            os.mkdir(child.name, mode & 0o777, dir_fd=fd)
        child.made(mode | DIRECTORY, owner)

    def make_symlink(self, child: Node, target: bytes, owner: tuple[int, int]) -> None:
        assert isinstance(child, BindNode)
        with child.directory() as fd:
            os.symlink(target, child.name, dir_fd=fd)
        child.made(SYMLINK | 0o777, owner)

    def make_node(self, child: Node, mode: int, rdev: int, owner: tuple[int, int]) -> None:
        assert isinstance(child, BindNode)
        if mode & S_IFMT == FIFO:
            with child.directory() as fd:
                os.mkfifo(child.name, mode & 0o777, dir_fd=fd)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            os.close(self.fs.open_at(child.relative(), flags, mode & 0o777))
        child.made(mode, owner, rdev)

    def make_link(self, child: Node, source: Node) -> None:
        assert isinstance(source, BindNode)
        assert isinstance(child, BindNode)
        with source.directory() as old, child.directory() as new:
            os.link(source.name, child.name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
        child.reread()

    def link_open_file(self, child: Node, source: bytes) -> None:
        """linkat(2) of an unnamed file: `source` is its /proc/.../fd/N magic link on the host."""
        assert isinstance(child, BindNode)
        with child.directory() as fd:
            linux_fs.link_followed(source, fd, child.name)
        child.reread()

    def open_unnamed(self, mode: int, owner: tuple[int, int], flags: int) -> int:
        flags = (flags & HOST_FLAGS) | os.O_TMPFILE
        return self.fs.open_at(self.relative(), flags, mode & 0o777)

    def unlink(self, child: Node) -> None:
        assert isinstance(child, BindNode)
        with child.directory() as fd:
            os.unlink(child.name, dir_fd=fd)
        self._drop(child)

    def remove_directory(self, child: Node) -> None:
        assert isinstance(child, BindNode)
        with child.directory() as fd:
            os.rmdir(child.name, dir_fd=fd)
        self._drop(child)

    def _drop(self, child: BindNode) -> None:
        child.gone = True
        self.fs.fresh = None
        if self.found is not None:
            self.found.pop(child.name, None)

    def rename(self, child: Node, directory: Node, target: Node, exchange: bool) -> None:
        assert isinstance(child, BindNode)
        assert isinstance(target, BindNode)
        assert isinstance(directory, BindNode)
        flags = linux_fs.RENAME_EXCHANGE if exchange else 0
        with child.directory() as old, target.directory() as new:
            linux_fs.rename_flags_at(old, child.name, new, target.name, flags)
        old_name = child.name
        self._drop(child)
        directory._drop(target)
        if child.kind == DIRECTORY:
            child.gone = False
            child.parent, child.name = directory, target.name
            directory.lookup(child.name)
            assert directory.found is not None
            directory.found[child.name] = child
        if exchange and target.kind == DIRECTORY:
            target.gone = False
            target.parent, target.name = self, old_name
            self.lookup(old_name)
            assert self.found is not None
            self.found[old_name] = target


def _is_emulated(node: BindNode, fd: int) -> bool:
    return bool(node.kind != os.fstat(fd).st_mode & S_IFMT)
