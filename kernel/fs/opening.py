"""open(2): flags, permissions, creation; then the node opens itself.

The rules are those of do_open and may_open in fs/namei.c. Only a FIFO can make an open sleep.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from kernel.errors import LinuxError
from kernel.fs.fifo import open_fifo
from kernel.fs.metadata import BLOCK, CHARACTER, DIRECTORY, FIFO, REGULAR, SYMLINK
from kernel.fs.openfile import OpenFile
from kernel.fs.permissions import MAY_EXEC, MAY_READ, MAY_WRITE, check, owns
from kernel.fs.resolver import Walk, resolve, walk
from kernel.fs.synthetic import placeholder

if TYPE_CHECKING:
    from kernel.fs.node import Node
    from kernel.task import Task

_WANT: Final = {
    os.O_RDONLY: MAY_READ,
    os.O_WRONLY: MAY_WRITE,
    os.O_RDWR: MAY_READ | MAY_WRITE,
    3: MAY_READ | MAY_WRITE,
}
_O_TMPFILE: Final = os.O_TMPFILE
_PATH_FLAGS = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_PATH | os.O_CLOEXEC

Opened = tuple[int, "OpenFile | None"]


async def open_path(
    task: Task, start: Node, path: bytes, flags: int, mode: int, scope: int = 0
) -> Opened:
    """Open `path`: (host descriptor for the guest, the kernel's side if it is a flagged one).

    `scope`: RESOLVE_* flags of openat2(2).
    """
    if flags & os.O_PATH:
        flags &= _PATH_FLAGS
    elif flags & _O_TMPFILE == _O_TMPFILE:
        return _open_unnamed(task, start, path, flags, mode)
    if flags & os.O_CREAT:
        if flags & os.O_DIRECTORY:
            raise LinuxError(errno.EINVAL)
        node = _find_to_create(task, start, path, flags, scope)
        if not node.kind:
            return _create(task, node, flags, mode), None
        if flags & os.O_EXCL:
            raise LinuxError(errno.EEXIST)
        if node.kind == DIRECTORY:
            raise LinuxError(errno.EISDIR)
    else:
        node = _walk(task, start, path, not flags & os.O_NOFOLLOW, scope)
        if not node.kind:
            raise LinuxError(errno.ENOENT)
    return await open_node(task, node, flags)


async def open_node(task: Task, node: Node, flags: int) -> Opened:
    """Open an existing node, after the checks of may_open."""
    kind = node.kind
    if flags & os.O_DIRECTORY and kind != DIRECTORY:
        raise LinuxError(errno.ENOTDIR)
    if flags & os.O_PATH:
        return _open_as_path(node), OpenFile(node, flags)
    if kind == SYMLINK:
        raise LinuxError(errno.ELOOP)
    want = _WANT[flags & os.O_ACCMODE]
    if flags & os.O_TRUNC:
        want |= MAY_WRITE
    if kind == DIRECTORY and want & MAY_WRITE:
        raise LinuxError(errno.EISDIR)
    node.refresh()
    check(node, task.credentials, want)
    if want & MAY_WRITE and node.fs.readonly and kind == REGULAR:
        raise LinuxError(errno.EROFS)
    if flags & os.O_NOATIME and not owns(node, task.credentials):
        raise LinuxError(errno.EPERM)
    if kind == FIFO:
        return await _open_fifo(task, node, flags), None
    if kind in (CHARACTER, BLOCK) and b"nodev" in node.fs.options:
        raise LinuxError(errno.EACCES)
    if kind == DIRECTORY:
        node.hold()
    elif want & MAY_WRITE and node.mode & 0o6000:
        _drop_set_id(task, node)
    return node.open(task, flags)


def _walk(task: Task, start: Node, path: bytes, follow: bool, scope: int) -> Node:
    if not scope:
        return walk(task, start, path, follow)
    if not path:
        raise LinuxError(errno.ENOENT)
    return Walk(task, task.fs.root, scope, start).run(start, path, follow)


def _find_to_create(task: Task, start: Node, path: bytes, flags: int, scope: int) -> Node:
    """The (perhaps negative) node O_CREAT is about; a trailing slash is EISDIR."""
    follow = not flags & (os.O_NOFOLLOW | os.O_EXCL)
    above, _, last = path.rstrip(b"/").rpartition(b"/")
    if path[-1:] == b"/" and last not in (b"", b".", b".."):
        if above and not _walk(task, start, above + b"/", True, scope).kind:
            raise LinuxError(errno.ENOENT)
        raise LinuxError(errno.EISDIR)
    return _walk(task, start, path, follow, scope)


def _create(task: Task, node: Node, flags: int, mode: int) -> int:
    directory = node.parent
    assert directory is not None
    if directory.fs.readonly:
        raise LinuxError(errno.EROFS)
    directory.refresh()
    check(directory, task.credentials, MAY_WRITE | MAY_EXEC)
    owner, mode = directory.owner_of_new(task.credentials, mode & 0o7777 & ~task.fs.umask)
    return directory.create(node, mode, owner, flags & ~(os.O_TRUNC | os.O_NOFOLLOW))


def _open_unnamed(task: Task, start: Node, path: bytes, flags: int, mode: int) -> Opened:
    """O_TMPFILE."""
    if not flags & os.O_ACCMODE:
        raise LinuxError(errno.EINVAL)
    directory = resolve(task, start, path)
    if directory.kind != DIRECTORY:
        raise LinuxError(errno.ENOTDIR)
    if directory.fs.readonly:
        raise LinuxError(errno.EROFS)
    check(directory, task.credentials, MAY_WRITE | MAY_EXEC)
    owner, mode = directory.owner_of_new(task.credentials, mode & 0o7777 & ~task.fs.umask)
    return directory.open_unnamed(mode, owner, flags), None


def _open_as_path(node: Node) -> int:
    """The host descriptor under an O_PATH one: it names nothing."""
    node.hold()
    return placeholder()


async def _open_fifo(task: Task, node: Node, flags: int) -> int:
    node.prepare_fifo()
    path = node.host_path()
    if path is None:
        raise LinuxError(errno.ENXIO)
    keep = flags & (os.O_ACCMODE | os.O_NONBLOCK | os.O_APPEND)
    try:
        return await open_fifo(task, path, keep | os.O_CLOEXEC)
    except OSError as error:
        raise LinuxError(error.errno or errno.EIO) from error


def _drop_set_id(task: Task, node: Node) -> None:
    """Writing clears set-id bits (file_remove_privs); we cannot see the write, only the open."""
    if node.kind == REGULAR and not task.credentials.can(4):
        bits = 0o4000 | (0o2000 if node.mode & 0o010 else 0)
        if node.mode & bits:
            node.change_mode(node.mode & 0o7777 & ~bits)
