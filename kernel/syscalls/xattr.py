"""Extended attributes: xattr(7). They live in the ownership index; absent is ENODATA."""

import errno

from kernel.abi import Fd, Flags, InBuffer, Path, Pointer, Size
from kernel.errors import LinuxError
from kernel.fs.descriptors import node_of
from kernel.fs.metadata import DIRECTORY, REGULAR
from kernel.fs.node import Node
from kernel.fs.permissions import CAP_SYS_ADMIN, MAY_READ, MAY_WRITE, check, owns
from kernel.fs.resolver import resolve
from kernel.reply import Answer, Reply
from kernel.syscalls.declare import syscall
from kernel.task import Task

_XATTR_CREATE, _XATTR_REPLACE = 1, 2
_NAME_MAX, _VALUE_MAX, _ALL_MAX = 255, 60 << 10, 64 << 10
_CAP_SETFCAP = 31


@syscall()
def setxattr(
    task: Task, path: Path, name: Path, value: InBuffer, size: Size, flags: Flags
) -> Answer:
    """setxattr(2)."""
    return _set(task, resolve(task, task.fs.cwd, path), name, value, size, flags)


@syscall()
def lsetxattr(
    task: Task, path: Path, name: Path, value: InBuffer, size: Size, flags: Flags
) -> Answer:
    """lsetxattr(2)."""
    return _set(task, resolve(task, task.fs.cwd, path, False), name, value, size, flags)


@syscall()
def fsetxattr(task: Task, fd: Fd, name: Path, value: InBuffer, size: Size, flags: Flags) -> Answer:
    """fsetxattr(2)."""
    return _set(task, _descriptor(task, fd), name, value, size, flags)


@syscall()
def getxattr(task: Task, path: Path, name: Path, value: Pointer, size: Size) -> Answer:
    """getxattr(2)."""
    return _get(task, resolve(task, task.fs.cwd, path), name, value, size)


@syscall()
def lgetxattr(task: Task, path: Path, name: Path, value: Pointer, size: Size) -> Answer:
    """lgetxattr(2)."""
    return _get(task, resolve(task, task.fs.cwd, path, False), name, value, size)


@syscall()
def fgetxattr(task: Task, fd: Fd, name: Path, value: Pointer, size: Size) -> Answer:
    """fgetxattr(2)."""
    return _get(task, _descriptor(task, fd), name, value, size)


@syscall()
def listxattr(task: Task, path: Path, list: Pointer, size: Size) -> Answer:
    """listxattr(2)."""
    return _list(task, resolve(task, task.fs.cwd, path), list, size)


@syscall()
def llistxattr(task: Task, path: Path, list: Pointer, size: Size) -> Answer:
    """llistxattr(2)."""
    return _list(task, resolve(task, task.fs.cwd, path, False), list, size)


@syscall()
def flistxattr(task: Task, fd: Fd, list: Pointer, size: Size) -> Answer:
    """flistxattr(2)."""
    return _list(task, _descriptor(task, fd), list, size)


@syscall()
def removexattr(task: Task, path: Path, name: Path) -> Answer:
    """removexattr(2)."""
    return _remove(task, resolve(task, task.fs.cwd, path), name)


@syscall()
def lremovexattr(task: Task, path: Path, name: Path) -> Answer:
    """lremovexattr(2)."""
    return _remove(task, resolve(task, task.fs.cwd, path, False), name)


@syscall()
def fremovexattr(task: Task, fd: Fd, name: Path) -> Answer:
    """fremovexattr(2)."""
    return _remove(task, _descriptor(task, fd), name)


def _descriptor(task: Task, fd: int) -> Node:
    file = task.process.files.get(fd)
    if file is not None and file.is_path:
        raise LinuxError(errno.EBADF)
    return node_of(task, fd)


def _check(task: Task, node: Node, name: bytes, want: int) -> None:
    """xattr_permission of fs/xattr.c, and which name spaces there are."""
    if not name or len(name) > _NAME_MAX:
        raise LinuxError(errno.ERANGE)
    space, dot, rest = name.partition(b".")
    if not dot:
        raise LinuxError(errno.EOPNOTSUPP)
    if not rest:
        raise LinuxError(errno.EINVAL)
    writing = want == MAY_WRITE
    if writing and node.fs.readonly:
        raise LinuxError(errno.EROFS)
    node.refresh()
    who = task.credentials
    if space == b"user":
        if node.kind not in (REGULAR, DIRECTORY):
            raise LinuxError(errno.EPERM if writing else errno.ENODATA)
        if writing and node.kind == DIRECTORY and node.mode & 0o1000 and not owns(node, who):
            raise LinuxError(errno.EPERM)
        check(node, who, want)
    elif space == b"trusted":
        if not who.can(CAP_SYS_ADMIN):
            raise LinuxError(errno.EPERM if writing else errno.ENODATA)
    elif space == b"security":
        needed = _CAP_SETFCAP if rest == b"capability" else CAP_SYS_ADMIN
        if writing and not who.can(needed):
            raise LinuxError(errno.EPERM)
    else:
        raise LinuxError(errno.EOPNOTSUPP)  # system.*: no access control lists here


def _set(task: Task, node: Node, name: bytes, value: bytes, size: int, flags: int) -> int:
    if flags & ~(_XATTR_CREATE | _XATTR_REPLACE):
        return -errno.EINVAL
    if size > _VALUE_MAX:
        return -errno.E2BIG
    _check(task, node, name, MAY_WRITE)
    values = dict(node.xattrs())
    if flags & _XATTR_CREATE and name in values:
        return -errno.EEXIST
    if flags & _XATTR_REPLACE and name not in values:
        return -errno.ENODATA
    values[name] = bytes(value)
    if sum(len(n) + len(v) for n, v in values.items()) > _ALL_MAX:
        return -errno.ENOSPC
    node.set_xattrs(values)
    return 0


def _get(task: Task, node: Node, name: bytes, address: int, size: int) -> Answer:
    _check(task, node, name, MAY_READ)
    value = node.xattrs().get(name)
    if value is None:
        return -errno.ENODATA
    return _out(value, address, size)


def _list(task: Task, node: Node, address: int, size: int) -> Answer:
    trusted = task.credentials.can(CAP_SYS_ADMIN)
    names = [n for n in node.xattrs() if trusted or not n.startswith(b"trusted.")]
    return _out(b"".join(name + b"\0" for name in names), address, size)


def _out(data: bytes, address: int, size: int) -> Answer:
    if not size or not data:
        return len(data)
    if len(data) > size:
        return -errno.ERANGE
    return Reply.out(len(data), (address, data))


def _remove(task: Task, node: Node, name: bytes) -> int:
    _check(task, node, name, MAY_WRITE)
    values = dict(node.xattrs())
    if values.pop(name, None) is None:
        return -errno.ENODATA
    node.set_xattrs(values)
    return 0
