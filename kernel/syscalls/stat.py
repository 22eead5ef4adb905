"""What a file is: stat(2), statx(2), access(2), readlink(2), statfs(2)."""

import errno
import struct

from codegen.layout import Slot
from codegen.poll_layout import Entry
from kernel.abi import DirFd, Fd, Flags, HostStat, Int, Path, Pointer
from kernel.errors import LinuxError
from kernel.fs import attributes
from kernel.fs.answers import ATTRIBUTES, EXISTENCE, TEXT
from kernel.fs.descriptors import node_of, start_of, stat_descriptor
from kernel.fs.metadata import to_statx
from kernel.fs.node import FileSystem, Node
from kernel.fs.resolver import recall, resolve
from kernel.reply import Answer, OutReply, Reply
from kernel.syscalls.declare import syscall
from kernel.task import Task

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW, AT_EACCESS, AT_NO_AUTOMOUNT, AT_EMPTY_PATH = 0x100, 0x200, 0x800, 0x1000
_STAT_FLAGS = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH
_STATX_FLAGS = _STAT_FLAGS | 0x6000  # AT_STATX_SYNC_TYPE
_ARG0 = Slot.ARGS // 8
_STATFS = struct.Struct("<qqQQQQQiiqqq32x")  # asm-generic/statfs.h, 64-bit
_ST_RDONLY, _ST_NOSUID, _ST_NODEV, _ST_NOEXEC, _ST_RELATIME = 1, 2, 4, 8, 0x1000
_ST_VALID = 0x20


@syscall()
def stat(task: Task, path: Path, statbuf: Pointer) -> Answer:
    """stat(2)."""
    node = recall(task, task.fs.cwd, path, True, ATTRIBUTES)
    if not node.kind:
        return -errno.ENOENT
    return OutReply(0, statbuf, node.packed or node.stat())


@syscall()
def lstat(task: Task, path: Path, statbuf: Pointer) -> Answer:
    """lstat(2)."""
    node = recall(task, task.fs.cwd, path, False, ATTRIBUTES)
    if not node.kind:
        return -errno.ENOENT
    return OutReply(0, statbuf, node.packed or node.stat())


@syscall()
def fstat(task: Task, fd: HostStat, statbuf: Pointer) -> Answer:
    """fstat(2): `fd` arrives as the host's answer, its number is in the slot."""
    number = task.slot.q[_ARG0] & 0xFFFF_FFFF
    file = task.process.files.get(number)
    if file is not None:
        packed = file.stat()
    else:
        packed = task.process.container.mounts.present(task, number, fd)
    return OutReply(0, statbuf, task.isa.stat(packed))


@syscall()
def newfstatat(task: Task, dirfd: DirFd, path: Path, statbuf: Pointer, flags: Flags) -> Answer:
    """fstatat(2)."""
    if flags & ~_STAT_FLAGS:
        return -errno.EINVAL
    if not path and flags & AT_EMPTY_PATH:
        packed = task.fs.cwd.stat() if dirfd == AT_FDCWD else stat_descriptor(task, dirfd)
    else:
        follow = not flags & AT_SYMLINK_NOFOLLOW
        node = recall(task, start_of(task, dirfd, path), path, follow, ATTRIBUTES)
        if not node.kind:
            return -errno.ENOENT
        packed = node.packed or node.stat()
    return OutReply(0, statbuf, task.isa.stat(packed))


@syscall(missing="birth times")
def statx(
    task: Task, dirfd: DirFd, path: Path, flags: Flags, mask: Flags, buffer: Pointer
) -> Answer:
    """statx(2)."""
    if flags & ~_STATX_FLAGS or flags & 0x6000 == 0x6000 or mask & 0x8000_0000:
        return -errno.EINVAL
    if not path and flags & AT_EMPTY_PATH:
        if dirfd == AT_FDCWD:
            return Reply.out(0, (buffer, _statx_of(task.fs.cwd)))
        file = task.process.files.get(dirfd)
        if file is not None:
            return Reply.out(0, (buffer, _statx_of(file.node)))
        return Reply.out(0, (buffer, to_statx(stat_descriptor(task, dirfd), 0, False)))
    node = resolve(task, start_of(task, dirfd, path), path, not flags & AT_SYMLINK_NOFOLLOW)
    return Reply.out(0, (buffer, _statx_of(node)))


def _statx_of(node: Node) -> bytes:
    return to_statx(node.packed or node.stat(), node.fs.id, node is node.fs.root)


@syscall()
def access(task: Task, path: Path, mode: Int) -> Answer:
    """access(2)."""
    return _access(task, AT_FDCWD, path, mode, 0)


@syscall()
def faccessat(task: Task, dirfd: DirFd, path: Path, mode: Int) -> Answer:
    """faccessat(2), the system call: it has no flags."""
    return _access(task, dirfd, path, mode, 0)


@syscall()
def faccessat2(task: Task, dirfd: DirFd, path: Path, mode: Int, flags: Flags) -> Answer:
    """faccessat2(2)."""
    return _access(task, dirfd, path, mode, flags)


def _access(task: Task, dirfd: int, path: bytes, mode: int, flags: int) -> Answer:
    if mode & ~7 or flags & ~(AT_SYMLINK_NOFOLLOW | AT_EACCESS | AT_EMPTY_PATH):
        return -errno.EINVAL
    if not path and flags & AT_EMPTY_PATH:
        node = task.fs.cwd if dirfd == AT_FDCWD else node_of(task, dirfd)
    else:
        follow, want = not flags & AT_SYMLINK_NOFOLLOW, Entry.NEGATIVE if mode else EXISTENCE
        node = recall(task, start_of(task, dirfd, path), path, follow, want)
        if not node.kind:
            return -errno.ENOENT
    attributes.access(task, node, mode, bool(flags & AT_EACCESS))
    return 0


@syscall()
def readlink(task: Task, path: Path, buf: Pointer, bufsiz: Int) -> Answer:
    """readlink(2)."""
    node = recall(task, task.fs.cwd, path, False, TEXT)
    return _readlink(task, node, buf, bufsiz)


@syscall()
def readlinkat(task: Task, dirfd: DirFd, path: Path, buf: Pointer, bufsiz: Int) -> Answer:
    """readlinkat(2); an empty path names the link that `dirfd` was opened on with O_PATH."""
    if not path:
        file = task.process.files.get(dirfd)
        node = task.fs.cwd if dirfd == AT_FDCWD else file.node if file else node_of(task, dirfd)
        if node.kind != 0o120000:
            return -errno.ENOENT
    else:
        node = recall(task, start_of(task, dirfd, path), path, False, TEXT)
    return _readlink(task, node, buf, bufsiz)


def _readlink(task: Task, node: Node, buf: int, bufsiz: int) -> Answer:
    if bufsiz <= 0:
        return -errno.EINVAL
    if node.kind != 0o120000:
        return -errno.EINVAL if node.kind else -errno.ENOENT
    target = node.readlink(task)
    if len(target) > bufsiz:
        target = target[:bufsiz]
    return OutReply(len(target), buf, target)


@syscall()
def statfs(task: Task, path: Path, buf: Pointer) -> Answer:
    """statfs(2)."""
    node = resolve(task, task.fs.cwd, path)
    return Reply.out(0, (buf, _statfs(node.fs)))


@syscall()
def fstatfs(task: Task, fd: Fd, buf: Pointer) -> Answer:
    """fstatfs(2)."""
    return Reply.out(0, (buf, _statfs(node_of(task, fd).fs)))


def _statfs(fs: FileSystem) -> bytes:
    try:
        block, blocks, free, available, files, files_free, name = fs.statfs()
    except OSError as error:
        raise LinuxError(error.errno or errno.EIO) from error
    flags = _ST_VALID | _ST_RELATIME | (_ST_RDONLY if fs.readonly else 0)
    for word, bit in ((b"nosuid", _ST_NOSUID), (b"nodev", _ST_NODEV), (b"noexec", _ST_NOEXEC)):
        if word in fs.options:
            flags |= bit
    return _STATFS.pack(
        fs.magic, block, blocks, free, available, files, files_free, fs.id, 0, name, block, flags
    )
