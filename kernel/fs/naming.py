"""Calls that make, move and remove names: mkdir(2), unlink(2), rename(2), link(2) and their family.

Each checks what fs/namei.c checks, in its order as far as a program can tell, then asks the
directory.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from kernel.errors import LinuxError
from kernel.fs.descriptors import link_of, node_of
from kernel.fs.metadata import BLOCK, CHARACTER, DIRECTORY, FIFO, REGULAR, S_IFMT, SOCKET, SYMLINK
from kernel.fs.permissions import (
    CAP_DAC_READ_SEARCH,
    CAP_MKNOD,
    MAY_EXEC,
    MAY_WRITE,
    check,
    check_delete,
)
from kernel.fs.resolver import PATH_MAX, covered, resolve, resolve_parent
from kernel.host.linux_fs import RENAME_EXCHANGE, RENAME_NOREPLACE

if TYPE_CHECKING:
    from kernel.fs.node import Node
    from kernel.task import Task

_SPECIAL: Final = (b"", b".", b"..")


def new_name(task: Task, start: Node, path: bytes, directory_ok: bool = False) -> tuple[Node, Node]:
    """(directory, negative node) for a name about to be made, writable by the task.

    EEXIST if it exists, ENOENT for a trailing slash unless `directory_ok`, EROFS, EACCES.
    """
    directory, name, slash = resolve_parent(task, start, path)
    if name in _SPECIAL:
        raise LinuxError(errno.EEXIST)
    child = directory.lookup(name)
    if child.kind or child.mounted is not None:
        raise LinuxError(errno.EEXIST)
    if slash and not directory_ok:
        raise LinuxError(errno.ENOENT)
    _writable(directory)
    directory.refresh()
    check(directory, task.credentials, MAY_WRITE | MAY_EXEC)
    if directory.gone:
        raise LinuxError(errno.ENOENT)
    return directory, child


def _writable(node: Node) -> None:
    if node.fs.readonly:
        raise LinuxError(errno.EROFS)


def make_directory(task: Task, start: Node, path: bytes, mode: int) -> None:
    """mkdir(2)."""
    directory, child = new_name(task, start, path, directory_ok=True)
    mode = mode & 0o1777 & ~task.fs.umask
    owner, mode = directory.owner_of_new(task.credentials, mode | DIRECTORY)
    directory.make_directory(child, mode & 0o7777, owner)


def make_symlink(task: Task, target: bytes, start: Node, path: bytes) -> None:
    """symlink(2)."""
    if not target:
        raise LinuxError(errno.ENOENT)
    if len(target) >= PATH_MAX:
        raise LinuxError(errno.ENAMETOOLONG)
    directory, child = new_name(task, start, path)
    owner, _ = directory.owner_of_new(task.credentials, SYMLINK)
    directory.make_symlink(child, target, owner)


def make_node(task: Task, start: Node, path: bytes, mode: int, rdev: int) -> Node:
    """mknod(2), also for the socket that bind(2) makes: the new node."""
    kind = mode & S_IFMT or REGULAR
    if kind not in (REGULAR, FIFO, SOCKET, CHARACTER, BLOCK):
        raise LinuxError(errno.EPERM if kind == DIRECTORY else errno.EINVAL)
    directory, child = new_name(task, start, path)
    if kind in (CHARACTER, BLOCK) and not task.credentials.can(CAP_MKNOD):
        raise LinuxError(errno.EPERM)
    mode = kind | (mode & 0o7777 & ~task.fs.umask)
    owner, mode = directory.owner_of_new(task.credentials, mode)
    if kind == REGULAR:
        os.close(directory.create(child, mode & 0o7777, owner, os.O_RDONLY))
    else:
        directory.make_node(child, mode, rdev if kind in (CHARACTER, BLOCK) else 0, owner)
    return directory.lookup(child.name)


def make_link(
    task: Task, old_start: Node, old: bytes, start: Node, path: bytes, follow: bool
) -> None:
    """link(2)."""
    source = resolve(task, old_start, old, follow)
    _link(task, source, start, path)


def make_link_of_descriptor(task: Task, fd: int, start: Node, path: bytes) -> None:
    """linkat(2) with AT_EMPTY_PATH: needs CAP_DAC_READ_SEARCH."""
    if not task.credentials.can(CAP_DAC_READ_SEARCH):
        raise LinuxError(errno.ENOENT)
    _link(task, node_of(task, fd), start, path, fd)


def _link(task: Task, source: Node, start: Node, path: bytes, fd: int = -1) -> None:
    directory, child = new_name(task, start, path)
    if source.fs is not directory.fs:
        raise LinuxError(errno.EXDEV)
    if source.kind == DIRECTORY:
        raise LinuxError(errno.EPERM)
    if source.gone:
        host = source.host_path() if fd < 0 else link_of(task, fd)
        if host is None or not host.startswith(b"/proc/"):
            raise LinuxError(errno.ENOENT)
        directory.link_open_file(child, host)
    else:
        directory.make_link(child, source)


def remove_name(task: Task, start: Node, path: bytes) -> None:
    """unlink(2)."""
    directory, name, slash = resolve_parent(task, start, path)
    if name in _SPECIAL:
        raise LinuxError(errno.EISDIR)
    _writable(directory)
    child = _existing(directory, name)
    if slash:
        raise LinuxError(errno.EISDIR if child.kind == DIRECTORY else errno.ENOTDIR)
    _may_delete(task, directory, child)
    if child.kind == DIRECTORY:
        raise LinuxError(errno.EISDIR)
    if child.mounted is not None:
        raise LinuxError(errno.EBUSY)
    directory.unlink(child)


def remove_directory(task: Task, start: Node, path: bytes) -> None:
    """rmdir(2)."""
    directory, name, _ = resolve_parent(task, start, path)
    if name in _SPECIAL:
        raise LinuxError({b"": errno.EBUSY, b".": errno.EINVAL}.get(name, errno.ENOTEMPTY))
    _writable(directory)
    child = _existing(directory, name)
    _may_delete(task, directory, child)
    if child.kind != DIRECTORY:
        raise LinuxError(errno.ENOTDIR)
    if child.mounted is not None:
        raise LinuxError(errno.EBUSY)
    directory.remove_directory(child)


def _existing(directory: Node, name: bytes) -> Node:
    child = directory.lookup(name)
    if not child.kind:
        raise LinuxError(errno.ENOENT)
    return child


def _may_delete(task: Task, directory: Node, child: Node) -> None:
    directory.refresh()
    child.refresh()
    check_delete(directory, child, task.credentials)


def rename(
    task: Task, old_start: Node, old: bytes, new_start: Node, new: bytes, flags: int
) -> None:
    """renameat2(2) with RENAME_NOREPLACE and RENAME_EXCHANGE."""
    if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
        raise LinuxError(errno.EINVAL)
    exchange = flags == RENAME_EXCHANGE
    old_directory, old_name, old_slash = resolve_parent(task, old_start, old)
    new_directory, name, new_slash = resolve_parent(task, new_start, new)
    if old_directory.fs is not new_directory.fs:
        raise LinuxError(errno.EXDEV)
    if old_name in _SPECIAL:
        raise LinuxError(errno.EBUSY)
    if name in _SPECIAL:
        raise LinuxError(errno.EEXIST if flags == RENAME_NOREPLACE else errno.EBUSY)
    _writable(old_directory)
    source = _existing(old_directory, old_name)
    target = new_directory.lookup(name)
    if target.kind and flags == RENAME_NOREPLACE:
        raise LinuxError(errno.EEXIST)
    if exchange and not target.kind:
        raise LinuxError(errno.ENOENT)
    _check_slashes(source, target, old_slash, new_slash, exchange)
    if source.kind == DIRECTORY and new_directory.is_below(source):
        raise LinuxError(errno.EINVAL)
    if target.kind == DIRECTORY and old_directory.is_below(target):
        raise LinuxError(errno.EINVAL if exchange else errno.ENOTEMPTY)
    _may_rename(task, source, target, exchange)
    if source.mounted is not None or target.mounted is not None:
        raise LinuxError(errno.EBUSY)
    if exchange or not _same_file(source, target):
        old_directory.rename(source, new_directory, target, exchange)


def _check_slashes(
    source: Node, target: Node, old_slash: bool, new_slash: bool, exchange: bool
) -> None:
    """A trailing slash is for directories: the old name's, and the new one's becoming one."""
    if source.kind != DIRECTORY and (old_slash or (new_slash and not exchange)):
        raise LinuxError(errno.ENOTDIR)
    if exchange and new_slash and target.kind != DIRECTORY:
        raise LinuxError(errno.ENOTDIR)


def _may_rename(task: Task, source: Node, target: Node, exchange: bool) -> None:
    old_directory, new_directory = source.parent, target.parent
    assert old_directory is not None
    assert new_directory is not None
    _may_delete(task, old_directory, source)
    new_directory.refresh()
    if target.kind:
        _may_delete(task, new_directory, target)
        _check_types(source, target, exchange)
    elif new_directory.gone:
        raise LinuxError(errno.ENOENT)
    else:
        check(new_directory, task.credentials, MAY_WRITE | MAY_EXEC)
    if source.kind == DIRECTORY and old_directory is not new_directory:
        check(source, task.credentials, MAY_WRITE)  # its `..` changes


def _check_types(source: Node, target: Node, exchange: bool) -> None:
    if exchange:
        return
    if source.kind == DIRECTORY:
        if target.kind != DIRECTORY:
            raise LinuxError(errno.ENOTDIR)
    elif target.kind == DIRECTORY:
        raise LinuxError(errno.EISDIR)


def _same_file(one: Node, other: Node) -> bool:
    """Two names of one file: renaming one to the other does nothing (rename(2))."""
    if one is other:
        return True
    if not other.kind or one.kind == DIRECTORY:
        return False
    a, b = one.attributes(), other.attributes()
    return (a.dev, a.ino) == (b.dev, b.ino) and a.nlink > 1


def change_directory(task: Task, node: Node) -> None:
    """chdir(2) and fchdir(2)."""
    if node.kind != DIRECTORY:
        raise LinuxError(errno.ENOTDIR)
    node.refresh()
    check(node, task.credentials, MAY_EXEC)
    node.hold()
    task.fs.change_directory(covered(node))
