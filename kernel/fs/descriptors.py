"""From a descriptor to a node.

The kernel forgets the files it hands out; when a call names one of them again (fchmod, linkat with
AT_EMPTY_PATH, /proc/self/fd/N) the host's /proc says what it is. A file that still has its name is
that name's node. Others get a node of their own that acts through the guest's descriptor.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from kernel.errors import LinuxError
from kernel.fs.bind import BindNode
from kernel.fs.hosterrors import linux_errors
from kernel.fs.metadata import REGULAR, S_IFMT, SOCKET, head
from kernel.fs.node import FileSystem, Node
from kernel.fs.openfile import OpenFile
from kernel.fs.overlay import HOST_FLAGS, OverlayFs, OverlayNode
from kernel.host.linux_fs import AT_FDCWD, stat_raw

if TYPE_CHECKING:
    from kernel.task import Task

_DELETED = b" (deleted)"


def start_of(task: Task, dirfd: int, path: bytes) -> Node:
    """Where a relative `path` begins. EBADF for no descriptor, ENOTDIR is left to the walk."""
    if dirfd == AT_FDCWD or path[:1] == b"/":
        return task.fs.cwd
    file = task.process.files.get(dirfd)
    if file is not None:
        return file.node
    return node_of(task, dirfd)


def link_of(task: Task, fd: int) -> bytes:
    """The host's magic link of a guest's descriptor."""
    return b"/proc/%d/fd/%d" % (task.process.host_pid, fd)


def host_stat(task: Task, fd: int) -> bytes:
    """The host's stat of an unflagged descriptor. EBADF if the guest has no such descriptor."""
    try:
        return stat_raw(link_of(task, fd))
    except OSError:
        raise LinuxError(errno.EBADF) from None


def stat_descriptor(task: Task, fd: int) -> bytes:
    """fstat(2) of any descriptor, without the stub's help."""
    file = task.process.files.get(fd)
    if file is not None:
        return file.stat()
    return task.process.container.mounts.present(task, fd, host_stat(task, fd))


def node_of(task: Task, fd: int) -> Node:
    """The node behind any descriptor of the guest. EBADF if there is none."""
    file = task.process.files.get(fd)
    if file is not None:
        return file.node
    if fd < 0:
        raise LinuxError(errno.EBADF)
    raw = host_stat(task, fd)
    link = link_of(task, fd)
    try:
        host = os.readlink(link)
    except OSError:
        raise LinuxError(errno.EBADF) from None
    found = task.process.container.mounts.locate(host)
    if found is None:
        return DescriptorNode(task, fd, raw)
    fs, path = found
    node = _named(fs, path.removesuffix(_DELETED))
    ino = head(raw)[1]
    if isinstance(node, OverlayNode) and ino in {node.host_ino, node.ino}:
        return node
    if isinstance(node, BindNode) and node.kind and head(node.raw)[1] == ino:
        return node
    if isinstance(fs, OverlayFs):
        return UnnamedNode(fs, raw, link, host.startswith(fs.upper))
    return DescriptorNode(task, fd, raw)


def _named(fs: FileSystem, path: bytes) -> Node | None:
    node = fs.root
    try:
        for name in path.split(b"/"):
            if name:
                node = node.lookup(name)
    except LinuxError:
        return None
    return node


@linux_errors
class UnnamedNode(OverlayNode):
    """An open overlay file without a name: unlinked, or made by O_TMPFILE."""

    __slots__ = ()

    def __init__(self, fs: OverlayFs, raw: bytes, link: bytes, upper: bool) -> None:
        super().__init__(fs, None, b"")
        owners = fs.owners
        if not upper:
            ino = head(raw)[1]
            for layer in fs.layers:
                if ino in layer.owners.records:
                    owners = layer.owners
        self.adopt(raw, link, owners, upper)
        self.dynamic = True
        self.packed = None
        self.gone = True

    def stat(self) -> bytes:
        try:
            return self.adopt(stat_raw(self.host), self.host, self.owners, self.upper)
        except OSError as error:
            raise LinuxError(error.errno or errno.EBADF) from error

    def copy_up(self, data: bool = True) -> None:
        if not self.upper:
            raise LinuxError(errno.EROFS)  # the name it was opened by is gone; Linux would copy it

    def open(self, task: Task, flags: int) -> tuple[int, OpenFile | None]:
        if flags & os.O_ACCMODE:
            self.copy_up()
        return os.open(self.host, (flags & HOST_FLAGS) | os.O_CLOEXEC), None

    def set_times(self, atime_ns: int, mtime_ns: int) -> None:
        self.copy_up()
        os.utime(self.host, ns=(atime_ns, mtime_ns))


@linux_errors
class DescriptorNode(Node):
    """An open file that is not in the container's tree: a pipe, a terminal ..."""

    __slots__ = ("_fd", "_task")

    def __init__(self, task: Task, fd: int, raw: bytes) -> None:
        mounts = task.process.container.mounts
        super().__init__(mounts.terminals, None, b"")
        packed = mounts.present(task, fd, raw)
        _, _, _, self.mode, self.uid, self.gid, _, _ = head(packed)
        self.kind = self.mode & S_IFMT
        self._task = task
        self._fd = fd
        self.gone = True

    def stat(self) -> bytes:
        return stat_descriptor(self._task, self._fd)

    def host_path(self) -> bytes | None:
        return link_of(self._task, self._fd)

    def path(self, root: Node) -> bytes:
        return descriptor_name(self._task, self._fd, root)

    def open(self, task: Task, flags: int) -> tuple[int, OpenFile | None]:
        if self.kind == SOCKET:
            raise LinuxError(errno.ENXIO)
        flags = (flags & HOST_FLAGS) | os.O_CLOEXEC | os.O_NOCTTY
        return os.open(link_of(self._task, self._fd), flags), None

    def change_mode(self, mode: int) -> None:
        self.change_owner(self.uid, self.gid, mode)

    def change_owner(self, uid: int, gid: int, mode: int) -> None:
        mounts = self._task.process.container.mounts
        raw = host_stat(self._task, self._fd)
        mounts.foreign[head(raw)[:2]] = (uid, gid, self.kind | mode)

    def truncate(self, size: int) -> None:
        if self.kind != REGULAR:
            raise LinuxError(errno.EINVAL)
        os.truncate(link_of(self._task, self._fd), size)


def descriptor_name(task: Task, fd: int, root: Node) -> bytes:
    """What readlink("/proc/PID/fd/N") says: the guest's path, or `pipe:[N]` and the like."""
    file = task.process.files.get(fd)
    if file is not None:
        path = file.node.path(root)
        return path + _DELETED if file.node.gone else path
    try:
        host = os.readlink(link_of(task, fd))
    except OSError:
        raise LinuxError(errno.ENOENT) from None
    if not host.startswith(b"/") or host.startswith(b"/memfd:"):
        return host
    path_or_none = task.process.container.mounts.guest_path(host, root)
    return path_or_none if path_or_none is not None else b"anon_inode:[file]"
