"""Names and directories: mkdir(2), rename(2), getdents64(2), chmod(2), inotify(7), ..."""

import errno
import os

from codegen.layout import PAYLOAD_SIZE
from kernel.abi import (
    DirFd,
    Fd,
    FileMode,
    Flags,
    Gid,
    InStruct,
    Int,
    Long,
    OptionalPath,
    Path,
    Pointer,
    Uid,
    UInt,
    ULong,
)
from kernel.errors import LinuxError
from kernel.fs import attributes, naming
from kernel.fs.descriptors import node_of, start_of
from kernel.fs.node import Node
from kernel.fs.permissions import CAP_SYS_CHROOT, MAY_EXEC, MAY_READ, check
from kernel.fs.resolver import resolve
from kernel.host import linux_fs
from kernel.reply import Answer, Reply
from kernel.syscalls.declare import syscall
from kernel.task import Task

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = 0x100, 0x200, 0x400, 0x1000
_MOST = PAYLOAD_SIZE - 4096
_IN_DONT_FOLLOW, _IN_ONLYDIR = 0x0200_0000, 0x0100_0000


def _named(task: Task, dirfd: int, path: bytes, flags: int = 0) -> Node:
    """The node that an *at call with AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH names."""
    if not path and flags & AT_EMPTY_PATH:
        return task.fs.cwd if dirfd == AT_FDCWD else node_of(task, dirfd)
    start = start_of(task, dirfd, path)
    return resolve(task, start, path, not flags & AT_SYMLINK_NOFOLLOW)


def _descriptor(task: Task, fd: int) -> Node:
    """The node of `fd` for a call that changes it: O_PATH descriptors are EBADF."""
    file = task.process.files.get(fd)
    if file is not None and file.is_path:
        raise LinuxError(errno.EBADF)
    return node_of(task, fd)


# -- where a process is --------------------------------------------------------------------------


@syscall()
def getcwd(task: Task, buf: Pointer, size: ULong) -> Answer:
    """getcwd(2): the length with the NUL."""
    cwd = task.fs.cwd
    if cwd.gone:
        return -errno.ENOENT
    path = cwd.path(task.fs.root) + b"\0"
    if len(path) > size:
        return -errno.ERANGE
    return Reply.out(len(path), (buf, path))


@syscall()
def chdir(task: Task, path: Path) -> Answer:
    """chdir(2)."""
    naming.change_directory(task, resolve(task, task.fs.cwd, path))
    return 0


@syscall()
def fchdir(task: Task, fd: Fd) -> Answer:
    """fchdir(2)."""
    naming.change_directory(task, node_of(task, fd))
    return 0


@syscall()
def chroot(task: Task, path: Path) -> Answer:
    """chroot(2)."""
    node = resolve(task, task.fs.cwd, path)
    if node.kind != 0o040000:
        return -errno.ENOTDIR
    check(node, task.credentials, MAY_EXEC)
    if not task.credentials.can(CAP_SYS_CHROOT):
        return -errno.EPERM
    node.hold()
    task.fs.change_root(node, task.process.container.mounts.memory(node))
    task.fs.change_directory(task.fs.cwd)
    return 0


@syscall()
def umask(task: Task, mask: FileMode) -> Answer:
    """umask(2)."""
    old, task.fs.umask = task.fs.umask, mask & 0o777
    return old


# -- names ---------------------------------------------------------------------------------------


@syscall()
def mkdir(task: Task, path: Path, mode: FileMode) -> Answer:
    """mkdir(2)."""
    naming.make_directory(task, task.fs.cwd, path, mode)
    return 0


@syscall()
def mkdirat(task: Task, dirfd: DirFd, path: Path, mode: FileMode) -> Answer:
    """mkdirat(2)."""
    naming.make_directory(task, start_of(task, dirfd, path), path, mode)
    return 0


@syscall()
def mknod(task: Task, path: Path, mode: FileMode, dev: UInt) -> Answer:
    """mknod(2)."""
    naming.make_node(task, task.fs.cwd, path, mode, dev)
    return 0


@syscall()
def mknodat(task: Task, dirfd: DirFd, path: Path, mode: FileMode, dev: UInt) -> Answer:
    """mknodat(2)."""
    naming.make_node(task, start_of(task, dirfd, path), path, mode, dev)
    return 0


@syscall()
def symlink(task: Task, oldpath: Path, newpath: Path) -> Answer:
    """symlink(2)."""
    naming.make_symlink(task, oldpath, task.fs.cwd, newpath)
    return 0


@syscall()
def symlinkat(task: Task, oldpath: Path, newdirfd: DirFd, newpath: Path) -> Answer:
    """symlinkat(2)."""
    naming.make_symlink(task, oldpath, start_of(task, newdirfd, newpath), newpath)
    return 0


@syscall()
def link(task: Task, oldpath: Path, newpath: Path) -> Answer:
    """link(2)."""
    cwd = task.fs.cwd
    naming.make_link(task, cwd, oldpath, cwd, newpath, follow=False)
    return 0


@syscall()
def linkat(
    task: Task, olddirfd: DirFd, oldpath: Path, newdirfd: DirFd, newpath: Path, flags: Flags
) -> Answer:
    """linkat(2)."""
    if flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH):
        return -errno.EINVAL
    start = start_of(task, newdirfd, newpath)
    if not oldpath and flags & AT_EMPTY_PATH:
        naming.make_link_of_descriptor(task, olddirfd, start, newpath)
        return 0
    old_start = start_of(task, olddirfd, oldpath)
    naming.make_link(task, old_start, oldpath, start, newpath, bool(flags & AT_SYMLINK_FOLLOW))
    return 0


@syscall()
def unlink(task: Task, path: Path) -> Answer:
    """unlink(2)."""
    naming.remove_name(task, task.fs.cwd, path)
    return 0


@syscall()
def unlinkat(task: Task, dirfd: DirFd, path: Path, flags: Flags) -> Answer:
    """unlinkat(2)."""
    if flags & ~AT_REMOVEDIR:
        return -errno.EINVAL
    start = start_of(task, dirfd, path)
    if flags & AT_REMOVEDIR:
        naming.remove_directory(task, start, path)
    else:
        naming.remove_name(task, start, path)
    return 0


@syscall()
def rmdir(task: Task, path: Path) -> Answer:
    """rmdir(2)."""
    naming.remove_directory(task, task.fs.cwd, path)
    return 0


@syscall()
def rename(task: Task, oldpath: Path, newpath: Path) -> Answer:
    """rename(2)."""
    naming.rename(task, task.fs.cwd, oldpath, task.fs.cwd, newpath, 0)
    return 0


@syscall()
def renameat(task: Task, olddirfd: DirFd, oldpath: Path, newdirfd: DirFd, newpath: Path) -> Answer:
    """renameat(2)."""
    return _rename(task, olddirfd, oldpath, newdirfd, newpath, 0)


@syscall(missing="RENAME_WHITEOUT")
def renameat2(
    task: Task, olddirfd: DirFd, oldpath: Path, newdirfd: DirFd, newpath: Path, flags: Flags
) -> Answer:
    """renameat2(2)."""
    return _rename(task, olddirfd, oldpath, newdirfd, newpath, flags)


def _rename(
    task: Task, olddirfd: int, oldpath: bytes, newdirfd: int, newpath: bytes, flags: int
) -> int:
    old_start, new_start = start_of(task, olddirfd, oldpath), start_of(task, newdirfd, newpath)
    naming.rename(task, old_start, oldpath, new_start, newpath, flags)
    return 0


# -- directories ---------------------------------------------------------------------------------


@syscall()
def getdents64(task: Task, fd: Fd, dirent: Pointer, count: UInt) -> Answer:
    """getdents64(2)."""
    return _getdents(task, fd, dirent, count, wide=True)


@syscall()
def getdents(task: Task, fd: Fd, dirent: Pointer, count: UInt) -> Answer:
    """getdents(2)."""
    return _getdents(task, fd, dirent, count, wide=False)


def _getdents(task: Task, fd: int, address: int, count: int, wide: bool) -> Answer:
    file = task.process.files.get(fd)
    if file is None:
        node_of(task, fd)  # EBADF if there is no such descriptor
        return -errno.ENOTDIR
    data = file.getdents(task, min(count, _MOST), wide)
    return Reply.out(len(data), (address, data)) if data else 0


# -- attributes ----------------------------------------------------------------------------------


@syscall()
def chmod(task: Task, path: Path, mode: FileMode) -> Answer:
    """chmod(2)."""
    attributes.change_mode(task, resolve(task, task.fs.cwd, path), mode)
    return 0


@syscall()
def fchmod(task: Task, fd: Fd, mode: FileMode) -> Answer:
    """fchmod(2)."""
    attributes.change_mode(task, _descriptor(task, fd), mode)
    return 0


@syscall()
def fchmodat(task: Task, dirfd: DirFd, path: Path, mode: FileMode) -> Answer:
    """fchmodat(2), the system call: it has no flags."""
    attributes.change_mode(task, _named(task, dirfd, path), mode)
    return 0


@syscall()
def fchmodat2(task: Task, dirfd: DirFd, path: Path, mode: FileMode, flags: Flags) -> Answer:
    """fchmodat2(2)."""
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        return -errno.EINVAL
    attributes.change_mode(task, _named(task, dirfd, path, flags), mode)
    return 0


@syscall()
def chown(task: Task, path: Path, owner: Uid, group: Gid) -> Answer:
    """chown(2)."""
    attributes.change_owner(task, resolve(task, task.fs.cwd, path), owner, group)
    return 0


@syscall()
def lchown(task: Task, path: Path, owner: Uid, group: Gid) -> Answer:
    """lchown(2)."""
    node = resolve(task, task.fs.cwd, path, follow=False)
    attributes.change_owner(task, node, owner, group)
    return 0


@syscall()
def fchown(task: Task, fd: Fd, owner: Uid, group: Gid) -> Answer:
    """fchown(2)."""
    attributes.change_owner(task, _descriptor(task, fd), owner, group)
    return 0


@syscall()
def fchownat(task: Task, dirfd: DirFd, path: Path, owner: Uid, group: Gid, flags: Flags) -> Answer:
    """fchownat(2)."""
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        return -errno.EINVAL
    attributes.change_owner(task, _named(task, dirfd, path, flags), owner, group)
    return 0


@syscall()
def utime(task: Task, path: Path, times: InStruct) -> Answer:
    """utime(2): whole seconds."""
    packed = times and times[:8] + bytes(8) + times[8:] + bytes(8)
    node = resolve(task, task.fs.cwd, path)
    attributes.set_times(task, node, attributes.parse_times(packed, 10**9))
    return 0


@syscall()
def utimes(task: Task, path: Path, utimes: InStruct) -> Answer:
    """utimes(2): microseconds."""
    parsed = attributes.parse_times(utimes, 1000)
    attributes.set_times(task, resolve(task, task.fs.cwd, path), parsed)
    return 0


@syscall()
def futimesat(task: Task, dirfd: DirFd, path: Path, utimes: InStruct) -> Answer:
    """futimesat(2): microseconds."""
    parsed = attributes.parse_times(utimes, 1000)
    attributes.set_times(task, _named(task, dirfd, path), parsed)
    return 0


@syscall()
def utimensat(
    task: Task, dirfd: DirFd, path: OptionalPath, utimes: InStruct, flags: Flags
) -> Answer:
    """utimensat(2); without a path it is about the descriptor (futimens(3))."""
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        return -errno.EINVAL
    parsed = attributes.parse_times(utimes, 1)
    if path is None:
        if dirfd == AT_FDCWD:
            return -errno.EFAULT
        if flags:
            return -errno.EINVAL
        node = _descriptor(task, dirfd)
    else:
        node = _named(task, dirfd, path, flags)
    attributes.set_times(task, node, parsed)
    return 0


@syscall()
def truncate(task: Task, path: Path, length: Long) -> Answer:
    """truncate(2)."""
    attributes.truncate(task, resolve(task, task.fs.cwd, path), length)
    return 0


# -- watching ------------------------------------------------------------------------------------


@syscall()
def inotify_init(task: Task) -> Answer:
    """inotify_init(2)."""
    return inotify_init1(task, 0)


@syscall()
def inotify_init1(task: Task, flags: Flags) -> Answer:
    """inotify_init1(2): the host's own."""
    if flags & ~(os.O_CLOEXEC | os.O_NONBLOCK):
        return -errno.EINVAL
    try:
        fd = linux_fs.inotify_init1(flags | os.O_CLOEXEC)
    except OSError as error:
        raise LinuxError(error.errno or errno.EMFILE) from error
    return Reply.descriptor(fd, bool(flags & os.O_CLOEXEC))


@syscall(missing="nothing is reported for synthetic files, nor for names only a layer had")
async def inotify_add_watch(task: Task, fd: Fd, path: Path, mask: Flags) -> Answer:
    """inotify_add_watch(2) on the host's file; a lower one is copied up so that changes show."""
    if task.process.files.get(fd) is not None:
        return -errno.EINVAL
    node = resolve(task, task.fs.cwd, path, not mask & _IN_DONT_FOLLOW)
    if mask & _IN_ONLYDIR and node.kind != 0o040000:
        return -errno.ENOTDIR
    check(node, task.credentials, MAY_READ)
    node.prepare_watch()
    host = node.host_path()
    if host is None:
        return -errno.ENOSPC  # as when the host has no watch left: programs fall back to polling
    host_fd = await task.take_fd(fd)
    try:
        return linux_fs.inotify_add_watch(host_fd, host, mask | _IN_DONT_FOLLOW)
    except OSError as error:
        raise LinuxError(error.errno or errno.EINVAL) from error
    finally:
        os.close(host_fd)


@syscall()
async def inotify_rm_watch(task: Task, fd: Fd, wd: Int) -> Answer:
    """inotify_rm_watch(2)."""
    if task.process.files.get(fd) is not None:
        return -errno.EINVAL
    host_fd = await task.take_fd(fd)
    try:
        linux_fs.inotify_rm_watch(host_fd, wd)
    except OSError as error:
        raise LinuxError(error.errno or errno.EINVAL) from error
    finally:
        os.close(host_fd)
    return 0
