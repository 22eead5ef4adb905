"""mount(2), umount2(2) and what else needs CAP_SYS_ADMIN about file systems."""

import errno

from kernel.abi import DirFd, Flags, Path, Pointer, UInt
from kernel.errors import LinuxError
from kernel.fs.bind import BindFs
from kernel.fs.metadata import DIRECTORY
from kernel.fs.mounts import MountTable
from kernel.fs.node import FileSystem, Node
from kernel.fs.permissions import CAP_SYS_ADMIN
from kernel.fs.proc.sysfs import SysFs
from kernel.fs.proc.tree import ProcFs
from kernel.fs.resolver import resolve
from kernel.reply import Answer
from kernel.syscalls.declare import syscall
from kernel.task import Task

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_MOVE = 4096, 8192
_PROPAGATION = 0x1E_0000  # MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED
_MAGIC, _MAGIC_MASK = 0xC0ED_0000, 0xFFFF_0000
_UMOUNT_FLAGS, _UMOUNT_NOFOLLOW = 0xF, 8
_WORDS = ((MS_NOSUID, b"nosuid"), (MS_NODEV, b"nodev"), (MS_NOEXEC, b"noexec"))


@syscall(missing="bind mounts only of what `docker run -v` mounted; no MS_MOVE; tmpfs, proc, sysfs")
async def mount(
    task: Task, dev_name: Path, dir_name: Path, type: Path, flags: Flags, data: Pointer
) -> Answer:
    """mount(2)."""
    if not task.credentials.can(CAP_SYS_ADMIN):
        return -errno.EPERM
    if flags & _MAGIC_MASK == _MAGIC:
        flags &= ~_MAGIC_MASK
    point = resolve(task, task.fs.cwd, dir_name)
    mounts = task.process.container.mounts
    if flags & _PROPAGATION:
        return 0 if point is point.fs.root else -errno.EINVAL  # there is one mount namespace
    if flags & MS_REMOUNT:
        if point is not point.fs.root:
            return -errno.EINVAL
        _set_options(point.fs, flags)
        return 0
    if flags & MS_BIND:
        source = resolve(task, task.fs.cwd, dev_name)
        fs: FileSystem = _bound(source)
        if (source.kind == DIRECTORY) != (point.kind == DIRECTORY):
            return -errno.ENOTDIR
    elif flags & MS_MOVE:
        return -errno.EINVAL
    else:
        if point.kind != DIRECTORY:
            return -errno.ENOTDIR
        fs = _fresh(mounts, task, type)
        fs.source = dev_name or type
    _set_options(fs, flags)
    mounts.mount(fs, point)
    return 0


def _set_options(fs: FileSystem, flags: int) -> None:
    fs.readonly = bool(flags & MS_RDONLY)
    kept = [word for word in fs.options if word not in (b"nosuid", b"nodev", b"noexec")]
    fs.options = [word for bit, word in _WORDS if flags & bit] + kept


def _bound(source: Node) -> FileSystem:
    host = source.host_path() if isinstance(source.fs, BindFs) else None
    if host is None:
        raise LinuxError(errno.EINVAL)
    try:
        return BindFs(host)
    except OSError as error:
        raise LinuxError(error.errno or errno.EINVAL) from error


def _fresh(mounts: MountTable, task: Task, kind: bytes) -> FileSystem:
    if kind == b"tmpfs":
        return mounts.new_tmpfs(0o1777)
    if kind == b"proc":
        proc = ProcFs(mounts.new_device())
        proc.container = task.process.container
        return proc
    if kind == b"sysfs":
        return SysFs(mounts.new_device())
    raise LinuxError(errno.ENODEV)


@syscall()
def umount2(task: Task, name: Path, flags: Flags) -> Answer:
    """umount2(2)."""
    if flags & ~_UMOUNT_FLAGS:
        return -errno.EINVAL
    if not task.credentials.can(CAP_SYS_ADMIN):
        return -errno.EPERM
    node = resolve(task, task.fs.cwd, name, not flags & _UMOUNT_NOFOLLOW)
    if node is not node.fs.root:
        return -errno.EINVAL
    mounts = task.process.container.mounts
    for process in task.process.container.pids.values():
        for other in process.tasks.values():
            if other.fs.cwd.fs is node.fs or other.fs.root.fs is node.fs:
                return -errno.EBUSY
    mounts.unmount(node.fs)
    node.fs.close()
    return 0


@syscall(missing="always fails")
def pivot_root(task: Task, new_root: Path, put_old: Path) -> Answer:
    """pivot_root(2)."""
    return -errno.ENOSYS if task.credentials.can(CAP_SYS_ADMIN) else -errno.EPERM


@syscall(missing="no file handles, as on overlayfs without nfs_export")
def name_to_handle_at(
    task: Task, dirfd: DirFd, name: Path, handle: Pointer, mnt_id: Pointer, flags: Flags
) -> Answer:
    """name_to_handle_at(2)."""
    return -errno.EOPNOTSUPP


@syscall(missing="always fails")
def open_by_handle_at(task: Task, mountdirfd: DirFd, handle: Pointer, flags: Flags) -> Answer:
    """open_by_handle_at(2): needs CAP_DAC_READ_SEARCH, which Docker does not give."""
    return -errno.EPERM


@syscall(missing="always fails")
def swapon(task: Task, specialfile: Path, swap_flags: Flags) -> Answer:
    """swapon(2)."""
    return -errno.EPERM


@syscall(missing="always fails")
def swapoff(task: Task, specialfile: Path) -> Answer:
    """swapoff(2)."""
    return -errno.EPERM


@syscall(missing="always fails")
def open_tree(task: Task, dirfd: DirFd, path: Path, flags: Flags) -> Answer:
    """open_tree(2)."""
    return -errno.EPERM


@syscall(missing="always fails")
def move_mount(
    task: Task, from_dfd: DirFd, from_path: Path, to_dfd: DirFd, to_path: Path, ms_flags: Flags
) -> Answer:
    """move_mount(2)."""
    return -errno.EPERM


@syscall(missing="always fails")
def fsopen(task: Task, fs_name: Path, flags: Flags) -> Answer:
    """fsopen(2)."""
    return -errno.EPERM


@syscall(missing="always fails")
def fanotify_init(task: Task, flags: Flags, event_f_flags: UInt) -> Answer:
    """fanotify_init(2): needs CAP_SYS_ADMIN."""
    return -errno.EPERM


@syscall(missing="always fails")
def acct(task: Task, name: Path) -> Answer:
    """acct(2)."""
    return -errno.EPERM


@syscall(missing="always fails")
def quotactl(task: Task, cmd: UInt, special: Path, id: UInt, addr: Pointer) -> Answer:
    """quotactl(2)."""
    return -errno.ENOSYS
