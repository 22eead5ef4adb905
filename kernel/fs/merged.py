"""What a name in an overlay is: found in the layers, and read.

A directory is the union of its parts (the upper one first); a file is in the topmost layer that has
it. Whiteouts and opaque marks come from each layer's index. `kernel.fs.overlay` adds the changes.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Self, cast

from kernel.errors import LinuxError
from kernel.fs.hosterrors import linux_errors
from kernel.fs.metadata import DIRECTORY, REGULAR, S_IFMT, SYMLINK, head, with_head
from kernel.fs.node import Entry, Node
from kernel.fs.owners import PLAIN, Owners
from kernel.host.linux_fs import lstat_raw

if TYPE_CHECKING:
    from kernel.fs.overlay import OverlayFs
    from kernel.task import Task


# After so many questions about a file we see whether it is still in use; that costs as much as two.
_ASKED_FIRST, _ASKED_AGAIN = 4, 32


class Part:
    """One layer's directory: where it is and what its layer's index knows."""

    __slots__ = ("ino", "owners", "path")

    def __init__(self, owners: Owners, path: bytes, ino: int) -> None:
        self.owners = owners
        self.path = path
        self.ino = ino


@linux_errors
class MergedNode(Node):
    """A name in an overlay, as it is found and read.

    `host` is where the file is (for a directory: its topmost part), `upper` whether that is in the
    writable tree, `lowers` a directory's parts below.
    """

    __slots__ = (
        "asked",
        "dynamic",
        "host",
        "host_ino",
        "ino",
        "lowers",
        "owners",
        "rdev",
        "shared",
        "target",
        "upper",
    )

    fs: OverlayFs
    parent: MergedNode | None

    def __init__(self, fs: OverlayFs, parent: MergedNode | None, name: bytes) -> None:
        super().__init__(fs, parent, name)
        self.host = b""
        self.upper = False
        self.lowers: tuple[Part, ...] = ()
        self.dynamic = False  # its size and times change behind our back
        self.asked = 0  # how often the host was asked since then
        self.shared = False  # it has other names, through which its attributes may change
        self.ino = 0
        self.host_ino = 0
        self.rdev = 0
        self.owners: Owners = fs.owners
        self.target: bytes | None = None

    # -- finding -------------------------------------------------------------------------------

    def lookup(self, name: bytes) -> Self:
        child = self.children.get(name)
        if child is None:
            if len(name) > 255:
                raise LinuxError(errno.ENAMETOOLONG)
            child = self.new_child(name)
            if not self.gone:
                child.load(self)
        return cast(Self, child)

    def new_child(self, name: bytes) -> Self:
        child = type(self)(self.fs, self, name)
        self.fs.enter(self, child)
        return child

    def load(self, parent: MergedNode) -> None:
        """Find this name in the parent's parts, topmost first."""
        name = self.name
        if parent.upper:
            path = parent.host + b"/" + name
            raw = lstat_raw(path)
            if isinstance(raw, bytes):
                owners = parent.fs.owners
                self.adopt(raw, path, owners, upper=True)
                if self.kind != DIRECTORY or self.host_ino in owners.opaque:
                    return
            elif raw != errno.ENOENT:
                raise LinuxError(raw)
            elif name in parent.fs.owners.whiteouts.get(parent.host_ino, ()):
                return
        self._load_lowers(parent)

    def _load_lowers(self, parent: MergedNode) -> None:
        name = self.name
        lowers: list[Part] = []
        for part in parent.lowers:
            path = part.path + b"/" + name
            raw = lstat_raw(path)
            if isinstance(raw, int):
                if raw != errno.ENOENT:
                    raise LinuxError(raw)
                if name in part.owners.whiteouts.get(part.ino, ()):
                    break
                continue
            _, ino, _, mode, *_ = head(raw)
            if not self.host:
                self.adopt(raw, path, part.owners, upper=False)
                if self.kind != DIRECTORY:
                    return
            elif mode & S_IFMT != DIRECTORY:
                break
            lowers.append(Part(part.owners, path, ino))
            if ino in part.owners.opaque:
                break
        if lowers:
            self.lowers = tuple(lowers)
            self.merge()

    def adopt(self, raw: bytes, path: bytes, owners: Owners, upper: bool) -> bytes:
        """Become the host file at `path` whose host stat is `raw`; the guest's view of that."""
        _, ino, nlink, mode, _, _, _, rdev = head(raw)
        record = owners.records.get(ino)
        self.host = path
        self.host_ino = ino_on_host = ino
        self.owners = owners
        self.upper = upper
        if record is None:
            uid = gid = 0
            if mode & S_IFMT == SYMLINK:
                mode = SYMLINK | 0o777
        else:
            uid, gid, own_mode, own_rdev, _, origin = record
            if own_mode >= 0:
                mode = own_mode
                rdev = own_rdev
            if origin:
                ino = origin
        self.mode, self.uid, self.gid, self.rdev, self.ino = mode, uid, gid, rdev, ino
        self.kind = kind = mode & S_IFMT
        if self.lowers and (upper or len(self.lowers) > 1):
            nlink = 1  # a merged directory's subdirectories are not counted (as overlayfs does)
        packed = with_head(raw, self.fs.device, ino, nlink, mode, uid, gid, rdev)
        if upper and nlink > 1 and kind != DIRECTORY:
            self.dynamic = self.shared = True
        elif upper and ino_on_host in self.fs.written and kind == REGULAR:
            self.dynamic = True
        self.packed = None if self.dynamic else packed
        return packed

    def merge(self) -> None:
        """Present a directory of several parts with a link count of 1."""
        if len(self.lowers) + self.upper > 1 and self.packed is not None:
            dev, ino, _, mode, uid, gid, _, rdev = head(self.packed)
            self.packed = with_head(self.packed, dev, ino, 1, mode, uid, gid, rdev)

    # -- reading -------------------------------------------------------------------------------

    def stat(self) -> bytes:
        packed = self.packed
        if packed is not None:
            return packed
        if not self.kind:
            raise LinuxError(errno.ENOENT)
        raw = lstat_raw(self.host)
        if isinstance(raw, int):
            raise LinuxError(raw)
        if self.dynamic and not self.shared:
            self.asked += 1
            if self.asked == _ASKED_FIRST or not self.asked % _ASKED_AGAIN:
                settled = self.settle()
                if settled is not None:
                    return settled
            device = self.fs.device
            return with_head(raw, device, self.ino, 1, self.mode, self.uid, self.gid, self.rdev)
        return self.adopt(raw, self.host, self.owners, self.upper)

    def settle(self) -> bytes | None:
        """The attributes, kept from now on, if nobody has the file open any more."""
        return None

    def refresh(self) -> None:
        if self.shared and not self.gone:
            self.stat()

    def inode(self) -> int:
        return self.ino

    def host_path(self) -> bytes | None:
        return self.host or None

    def readlink(self, task: Task) -> bytes:
        if self.target is None:
            if self.kind != SYMLINK:
                raise LinuxError(errno.EINVAL)
            self.target = os.readlink(self.host)
        return self.target

    def link_text(self) -> bytes | None:
        return self.target

    def parts(self) -> list[Part]:
        """This directory's parts, topmost first."""
        if not self.upper:
            return list(self.lowers)
        return [Part(self.fs.owners, self.host, self.host_ino), *self.lowers]

    def entries(self, task: Task) -> list[Entry]:
        return self.list_entries()

    def list_entries(self) -> list[Entry]:
        """The union of the parts' names, minus what whiteouts hide."""
        if self.gone:
            return []
        found: dict[bytes, Entry] = {}
        hidden: set[bytes] = set()
        for part in self.parts():
            records = part.owners.records
            for item in os.scandir(part.path):
                name = item.name
                if name in found or name in hidden:
                    continue
                ino = item.inode()
                record = records.get(ino)
                if record is not None and record.mode >= 0:
                    kind = record.mode >> 12
                elif item.is_file(follow_symlinks=False):
                    kind = 8
                elif item.is_dir(follow_symlinks=False):
                    kind = 4
                else:
                    kind = (
                        10 if item.is_symlink() else item.stat(follow_symlinks=False).st_mode >> 12
                    )
                if record is not None and record.origin:
                    ino = record.origin
                found[name] = Entry(name, ino, kind)
            hidden |= part.owners.whiteouts.get(part.ino, set())
        return list(found.values())

    def xattrs(self) -> dict[bytes, bytes]:
        return self.owners.records.get(self.host_ino, PLAIN).xattrs or {}

    def entries_exist(self) -> bool:
        """Whether this directory has any entry."""
        parts = self.parts()
        if len(parts) == 1 and not parts[0].owners.whiteouts.get(parts[0].ino):
            with os.scandir(parts[0].path) as names:
                return next(iter(names), None) is not None
        hidden: set[bytes] = set()
        for part in parts:
            with os.scandir(part.path) as names:
                if any(item.name not in hidden for item in names):
                    return True
            hidden |= part.owners.whiteouts.get(part.ino, set())
        return False

    def lower_has(self, name: bytes) -> bool:
        """Whether a layer below shows `name` in this directory."""
        for part in self.lowers:
            if isinstance(lstat_raw(part.path + b"/" + name), bytes):
                return True
            if name in part.owners.whiteouts.get(part.ino, ()):
                return False
        return False
