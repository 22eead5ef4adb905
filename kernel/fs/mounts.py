"""What is mounted where in one container, and how host paths and inodes translate back.

`MountTable` also owns what all processes with the same root directory share: the memory of walks.
Mounting never asks the host: a mount is a tree whose root is seen in place of a node.
"""

from __future__ import annotations

import errno
import functools
import itertools
import os
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from kernel.errors import LinuxError
from kernel.fs.answers import Answers
from kernel.fs.bind import BindFs
from kernel.fs.context import FsContext
from kernel.fs.devices import TerminalFs, is_terminal, slave_index, slave_number
from kernel.fs.metadata import CHARACTER, S_IFMT, head, with_head
from kernel.fs.node import FileSystem, Node
from kernel.fs.overlay import OverlayFs
from kernel.fs.owners import PLAIN
from kernel.fs.resolver import Memory
from kernel.fs.tmpfs import TmpFs, remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel.fs.proc.tree import ProcFs
    from kernel.task import Task

_FIRST_DEVICE = 0x100


class MountTable:
    """The mounts of one container (its mount namespace)."""

    def __init__(self, root: FileSystem, to_guest: Callable[[bytes], bytes]) -> None:
        """`to_guest`: see Answers."""
        self.answers = Answers(to_guest)
        self._ids = itertools.count(100)
        self.memories: WeakKeyDictionary[Node, Memory] = WeakKeyDictionary()
        self.root = root
        self.mounts: list[FileSystem] = []
        self.terminals = TerminalFs(self.new_device())
        # Owners given to what is not in the container's tree (fchown of a pipe or a terminal).
        self.foreign: dict[tuple[int, int], tuple[int, int, int]] = {}
        self.device_nodes: dict[int, Node] = {}  # device number -> its node in /dev
        self.private = b""  # the host directory for tmpfs trees, see kernel.fs.tmpfs
        self._tmpfs_serial = 0
        self.proc: ProcFs | None = None
        # fcntl(F_SETOWN): (pid, descriptor) -> process or group.
        self.signal_owners: dict[tuple[int, int], int] = {}
        self._prefixes: list[tuple[bytes, FileSystem]] = []
        self._devices: dict[int, FileSystem | None] = {}  # host device -> tree; None: several
        self._enter(root)

    # -- mounting ------------------------------------------------------------------------------

    def mount(self, fs: FileSystem, point: Node) -> None:
        """Let `fs` be seen at `point`."""
        while point.mounted is not None:
            point = point.mounted.root
        fs.mountpoint = point
        point.mounted = fs
        point.hold()
        self._enter(fs)
        self.forget_paths()

    def new_tmpfs(self, mode: int, size: int = 0) -> TmpFs:
        """A fresh tmpfs, to be mounted."""
        self._tmpfs_serial += 1
        return TmpFs(self.private, self._tmpfs_serial, self.new_device(), mode, size)

    def unmount(self, fs: FileSystem) -> None:
        """Undo `mount`. EBUSY while something is mounted below."""
        if any(other.mountpoint is not None and other.mountpoint.fs is fs for other in self.mounts):
            raise LinuxError(errno.EBUSY)
        if fs.mountpoint is None:
            raise LinuxError(errno.EINVAL)
        fs.mountpoint.mounted = None
        self.mounts.remove(fs)
        self._index()
        self.forget_paths()

    def is_mountpoint(self, node: Node) -> bool:
        """Whether something is mounted on `node`, or it is the root of a mount."""
        return node.mounted is not None or node is node.fs.root

    def close(self) -> None:
        """The container has ended: give back everything, the latest mounts first."""
        for fs in reversed(self.mounts):
            fs.close()
        self.terminals.close()
        self.mounts.clear()
        if self.private:
            remove_tree(self.private)

    def new_device(self) -> int:
        """A device number for a tree without a device (st_dev)."""
        number = next(self._ids) - 100 + _FIRST_DEVICE
        return os.makedev(0, number)

    def _enter(self, fs: FileSystem) -> None:
        fs.id = next(self._ids)
        fs.on_change = self.forget_paths
        fs.answers = self.answers
        self.mounts.append(fs)
        self._index()

    def _index(self) -> None:
        """Recompute the ways back from host paths and host devices to mounts."""
        prefixes: list[tuple[bytes, FileSystem]] = []
        devices: dict[int, FileSystem | None] = {}
        for fs in self.mounts:
            if isinstance(fs, OverlayFs):
                hosts = {os.stat(fs.upper).st_dev, *(layer.device for layer in fs.layers)}
                device = os.stat(fs.upper).st_dev
                fs.owners.changed = functools.partial(self.answers.forget_file, device)
                prefixes += [(fs.upper, fs), *((layer.root, fs) for layer in fs.layers)]
            elif isinstance(fs, BindFs):
                hosts = {head(fs.root.raw)[0]}
                prefixes.append((fs.host_source, fs))
            else:
                continue
            for device in hosts:
                devices[device] = None if device in devices else fs
        covering = {fs.mountpoint.fs for fs in self.mounts if fs.mountpoint is not None}
        for fs in self.mounts:
            fs.nested = fs in covering
        prefixes.sort(key=lambda item: -len(item[0]))
        self._prefixes = prefixes
        self._devices = devices

    # -- contexts ------------------------------------------------------------------------------

    def memory(self, root: Node) -> Memory:
        """The remembered walks of processes whose root directory is `root`."""
        memory = self.memories.get(root)
        if memory is None:
            memory = self.memories[root] = Memory(self.answers)
        return memory

    def forget_paths(self) -> None:
        """A path may lead elsewhere now: forget all walks."""
        for memory in self.memories.values():
            memory.clear()

    def context(self) -> FsContext:
        """The container's first context: root and working directory at `/`."""
        root = self.root.root
        return FsContext(root, root, self.memory(root))

    # -- the way back --------------------------------------------------------------------------

    def locate(self, host: bytes) -> tuple[FileSystem, bytes] | None:
        """(mount, path in it with leading slash or empty) of a host path of ours; else None."""
        for prefix, fs in self._prefixes:
            if host.startswith(prefix):
                rest = host[len(prefix) :]
                if not rest or rest[:1] == b"/":
                    return fs, rest
        return None

    def guest_path(self, host: bytes, root: Node | None = None) -> bytes | None:
        """The container's path of a host path, None for what is not in the container.

        A suffix such as ` (deleted)` stays.
        """
        if host.startswith(b"/dev/pts/"):
            return self._terminal_path(host)
        if host.startswith((b"/dev/null", b"/dev/zero", b"/dev/full", b"/dev/random")):
            return host
        if host in (b"/dev/urandom", b"/dev/tty", b"/dev/ptmx"):
            return host
        found = self.locate(host)
        if found is None:
            return None
        fs, rest = found
        base = fs.root.path(root or self.root.root)
        if not rest:
            return base
        return rest if base == b"/" else base + rest

    def _terminal_path(self, host: bytes) -> bytes:
        number, space, rest = host[9:].partition(b" ")
        index = self.terminals.number_of(int(number)) if number.isdigit() else None
        return host if index is None else b"/dev/pts/%d" % index + space + rest

    def present(self, task: Task, fd: int, raw: bytes) -> bytes:
        """The guest's view of the host's `raw` stat of the unflagged descriptor `fd`."""
        device, ino, nlink, mode, _, _, _, rdev = head(raw)
        try:
            fs = self._devices[device]
        except KeyError:
            return self._foreign(raw)
        if fs is None:
            link = b"/proc/%d/fd/%d" % (task.process.host_pid, fd)
            found = self.locate(os.readlink(link))
            fs = found[0] if found else None
        if isinstance(fs, OverlayFs):
            record = fs.owners.records.get(ino)
            if record is None:
                for layer in fs.layers:
                    record = layer.owners.records.get(ino)
                    if record is not None:
                        break
                else:
                    packed = with_head(raw, fs.device, ino, nlink, mode, 0, 0, rdev)
                    self.answers.learn_file(device, ino, packed, True)
                    return packed
            if record.mode >= 0:
                mode, rdev = record.mode, record.rdev
            own = record.origin or ino
            packed = with_head(raw, fs.device, own, nlink, mode, record.uid, record.gid, rdev)
            self.answers.learn_file(device, ino, packed, record.mode < 0)
            return packed
        if isinstance(fs, BindFs):
            return self._bound(task, fd, raw, fs)
        return self._foreign(raw)

    def _bound(self, task: Task, fd: int, raw: bytes, fs: BindFs) -> bytes:
        device, ino, nlink, mode, uid, gid, _, rdev = head(raw)
        record = PLAIN
        if fs.attributes or fs.memory:
            link = b"/proc/%d/fd/%d" % (task.process.host_pid, fd)
            record = fs.record_at(link, raw)
        if record is PLAIN:
            uid = 0 if uid == os.geteuid() else uid
            gid = 0 if gid == os.getegid() else gid
        else:
            uid, gid = record.uid, record.gid
            if record.mode >= 0:
                mode, rdev = record.mode, record.rdev
        return with_head(raw, device, ino, nlink, mode, uid, gid, rdev)

    def _foreign(self, raw: bytes) -> bytes:
        """Pipes, sockets, memfds, host devices: ours belong to root, terminals to group tty."""
        device, ino, nlink, mode, uid, gid, _, rdev = head(raw)
        if (device, ino) in self.foreign:
            uid, gid, mode = self.foreign[device, ino]
            return with_head(raw, device, ino, nlink, mode, uid, gid, rdev)
        if mode & S_IFMT == CHARACTER and is_terminal(rdev):
            index = self.terminals.number_of(slave_index(rdev))
            if index is not None:
                ino, rdev = 3 + index, slave_number(index)
            return with_head(raw, self.terminals.device, ino, nlink, CHARACTER | 0o620, 0, 5, rdev)
        node = self.device_nodes.get(rdev) if mode & S_IFMT == CHARACTER else None
        if node is not None and not node.gone:  # install(1) compares what it opened with the name
            return node.stat()
        uid = 0 if uid == os.geteuid() else uid
        gid = 0 if gid == os.getegid() else gid
        return with_head(raw, device, ino, nlink, mode, uid, gid, rdev)
