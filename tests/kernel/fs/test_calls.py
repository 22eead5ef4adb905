"""The system calls themselves: flags, odd arguments, and what they copy out."""

from __future__ import annotations

import errno
import os
import struct
from typing import Any

import pytest

from kernel.credentials import Credentials
from kernel.errors import LinuxError
from kernel.fs.filetable import FileTable
from kernel.fs.metadata import unpack
from kernel.fs.openfile import OpenFile
from kernel.fs.resolver import resolve
from kernel.reply import DescriptorReply, OutReply
from kernel.syscalls import dirs, files, mounts, stat, xattr

from .conftest import FakeTask, Home, run

AT_FDCWD, NOFOLLOW, EMPTY = -100, 0x100, 0x1000
NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH, IN_ROOT = 1, 2, 4, 8, 16


@pytest.fixture
def task(home: Home) -> FakeTask:
    home.layer(
        {"etc/passwd": b"root", "etc/link": "passwd", "a/b/f": b"f", "abs": "/etc", "up": "../a"}
    )
    return home.container()


def out(answer: Any) -> bytes:
    assert isinstance(answer, OutReply)
    return answer.data


def outcome(call: Any, *args: Any) -> Any:
    """A number, or what is copied out."""
    try:
        answer = call(*args)
        if hasattr(answer, "send"):
            answer = run(answer)
    except LinuxError as error:
        return -error.errno
    if isinstance(answer, DescriptorReply):
        os.close(answer.host_fd)
        return "opened"
    return answer if isinstance(answer, int) else answer.data


def how(flags: int = 0, mode: int = 0, resolve_flags: int = 0, extra: bytes = b"") -> bytes:
    return struct.pack("<QQQ", flags, mode, resolve_flags) + extra


def test_openat2_resolve_flags(task: FakeTask) -> None:
    def try_open(path: bytes, flags: int, start: bytes = b"/") -> Any:
        packed = how(0, 0, flags)
        task.fs.change_directory(resolve(task, task.fs.cwd, start))
        return outcome(files.openat2, task, AT_FDCWD, path, packed, len(packed))

    assert try_open(b"a/b/f", BENEATH) == "opened"
    assert try_open(b"/etc/passwd", BENEATH) == -errno.EXDEV
    assert try_open(b"abs/passwd", BENEATH) == -errno.EXDEV
    assert try_open(b"../etc/passwd", BENEATH, b"/a") == -errno.EXDEV
    assert try_open(b"../a/b", BENEATH, b"/a/b") == -errno.EXDEV
    assert try_open(b"b/../b/f", BENEATH, b"/a") == "opened"
    assert try_open(b"/b/f", IN_ROOT, b"/a") == "opened"
    assert try_open(b"../../../b/f", IN_ROOT, b"/a") == "opened"
    assert try_open(b"/etc/passwd", IN_ROOT, b"/a") == -errno.ENOENT
    assert try_open(b"etc/link", NO_SYMLINKS) == -errno.ELOOP
    assert try_open(b"etc/passwd", NO_SYMLINKS) == "opened"
    assert try_open(b"proc/self/exe", NO_MAGICLINKS) == -errno.ENOENT  # this fake has no program
    assert try_open(b"proc/self/cwd", NO_MAGICLINKS) == -errno.ELOOP
    assert try_open(b"proc/meminfo", NO_XDEV) == -errno.EXDEV
    assert try_open(b"etc/link", NO_XDEV) == "opened"
    assert try_open(b"etc/passwd", BENEATH | IN_ROOT) == -errno.EINVAL
    assert try_open(b"etc/passwd", 0x40) == -errno.EINVAL


def test_openat2_arguments(task: FakeTask) -> None:
    def call(packed: bytes) -> Any:
        return outcome(files.openat2, task, AT_FDCWD, b"/etc/passwd", packed, len(packed))

    assert call(how()) == "opened"
    assert call(how(extra=bytes(8))) == "opened"
    assert call(how(extra=b"\1" * 8)) == -errno.E2BIG
    assert call(how()[:16]) == -errno.EINVAL
    assert call(how(mode=0o600)) == -errno.EINVAL
    assert call(how(flags=1 << 40)) == -errno.EINVAL


def test_open_flags(task: FakeTask) -> None:
    def call(path: bytes, flags: int) -> Any:
        return outcome(files.open, task, path, flags, 0o644)

    assert call(b"/etc", os.O_WRONLY) == -errno.EISDIR
    assert call(b"/etc", os.O_CREAT) == -errno.EISDIR
    assert call(b"/etc/passwd", os.O_DIRECTORY) == -errno.ENOTDIR
    assert call(b"/etc/link", os.O_NOFOLLOW) == -errno.ELOOP
    assert call(b"/etc/link", os.O_NOFOLLOW | os.O_PATH) == "opened"
    assert call(b"/etc/passwd", os.O_CREAT | os.O_EXCL) == -errno.EEXIST
    assert call(b"/etc/link", os.O_CREAT | os.O_EXCL) == -errno.EEXIST
    assert call(b"/etc/new/", os.O_CREAT) == -errno.EISDIR
    assert call(b"/none/new", os.O_CREAT) == -errno.ENOENT
    assert call(b"/etc", os.O_TMPFILE | os.O_RDWR) == "opened"
    assert call(b"/etc", os.O_TMPFILE) == -errno.EINVAL
    assert call(b"/etc/passwd", os.O_TMPFILE | os.O_RDWR) == -errno.ENOTDIR


def test_descriptors_as_starting_points(task: FakeTask) -> None:
    directory = task.open(b"/etc", os.O_RDONLY | os.O_DIRECTORY)
    plain = task.open(b"/etc/passwd")
    link = task.open(b"/etc/link", os.O_PATH | os.O_NOFOLLOW)
    size = unpack(out(stat.newfstatat(task, directory, b"passwd", 1, 0))).size
    assert size == 4
    assert unpack(out(stat.newfstatat(task, plain, b"", 1, EMPTY))).size == 4
    assert unpack(out(stat.newfstatat(task, link, b"", 1, EMPTY))).mode >> 12 == 10
    assert out(stat.readlinkat(task, link, b"", 1, 99)) == b"passwd"
    assert outcome(stat.newfstatat, task, plain, b"x", 1, 0) == -errno.ENOTDIR
    assert outcome(stat.newfstatat, task, 987, b"x", 1, 0) == -errno.EBADF
    assert outcome(stat.newfstatat, task, 987, b"/etc", 1, 0x4000_0000) == -errno.EINVAL
    assert outcome(dirs.fchmod, task, link, 0o600) == -errno.EBADF
    assert outcome(dirs.fchmod, task, plain, 0o640) == 0
    assert unpack(out(stat.stat(task, b"/etc/passwd", 1))).mode == 0o100640
    assert outcome(dirs.fchdir, task, plain) == -errno.ENOTDIR
    assert outcome(dirs.fchdir, task, directory) == 0
    assert out(dirs.getcwd(task, 1, 99)) == b"/etc\0"
    assert outcome(dirs.getcwd, task, 1, 4) == -errno.ERANGE
    assert outcome(dirs.getdents64, task, plain, 1, 1000) == -errno.ENOTDIR
    assert outcome(dirs.getdents64, task, directory, 1, 8) == -errno.EINVAL
    for fd in (directory, plain, link):
        task.close(fd)


def test_old_getdents_puts_the_type_last(task: FakeTask) -> None:
    fd = task.open(b"/a", os.O_RDONLY | os.O_DIRECTORY)
    data = out(dirs.getdents(task, fd, 1, 1000))
    names = []
    while data:
        ino, offset, length = struct.unpack_from("<QQH", data)
        names.append((data[18:length].split(b"\0")[0], data[length - 1], offset))
        assert ino
        data = data[length:]
    assert names == [(b".", 4, 1), (b"..", 4, 2), (b"b", 4, 3)]
    task.close(fd)


def test_statx_and_statfs(task: FakeTask) -> None:
    data = out(stat.statx(task, AT_FDCWD, b"/etc/passwd", 0, 0x7FF, 1))
    assert len(data) == 256
    mask, _, _, nlink, uid, gid, mode = struct.unpack_from("<IIQIIIH", data)
    assert (mask & 0x7FF, nlink, uid, gid, mode) == (0x7FF, 1, 0, 0, 0o100644)
    assert struct.unpack_from("<Q", data, 40)[0] == 4
    a = unpack(out(stat.stat(task, b"/etc/passwd", 1)))
    assert struct.unpack_from("<II", data, 136) == (os.major(a.dev), os.minor(a.dev))
    assert struct.unpack_from("<q", data, 64)[0] == a.atime_ns // 10**9
    assert struct.unpack_from("<q", data, 112)[0] == a.mtime_ns // 10**9
    assert struct.unpack_from("<Q", data, 32)[0] == a.ino
    for path, magic in ((b"/", 0x794C7630), (b"/proc", 0x9FA0), (b"/dev/shm", 0x01021994)):
        assert struct.unpack_from("<q", out(stat.statfs(task, path, 1)))[0] == magic


def test_times(task: FakeTask) -> None:
    def times(path: bytes) -> tuple[int, int]:
        a = unpack(out(stat.lstat(task, path, 1)))
        return a.atime_ns, a.mtime_ns

    packed = struct.pack("<qqqq", 5, 6, 7, 8)
    assert dirs.utimensat(task, AT_FDCWD, b"/etc/passwd", packed, 0) == 0
    assert times(b"/etc/passwd") == (5_000_000_006, 7_000_000_008)
    omit = struct.pack("<qqqq", 9, 0, 0, (1 << 30) - 2)
    assert dirs.utimensat(task, AT_FDCWD, b"/etc/passwd", omit, 0) == 0
    assert times(b"/etc/passwd") == (9_000_000_000, 7_000_000_008)
    assert dirs.utimensat(task, AT_FDCWD, b"/etc/link", packed, NOFOLLOW) == 0
    assert times(b"/etc/link") == (5_000_000_006, 7_000_000_008)
    bad = struct.pack("<qqqq", 5, 10**9, 7, 8)
    assert outcome(dirs.utimensat, task, AT_FDCWD, b"/etc/passwd", bad, 0) == -errno.EINVAL
    assert dirs.utimes(task, b"/etc/passwd", struct.pack("<qqqq", 1, 2, 3, 4)) == 0
    assert times(b"/etc/passwd") == (1_000_002_000, 3_000_004_000)
    assert dirs.utime(task, b"/etc/passwd", struct.pack("<qq", 11, 12)) == 0
    assert times(b"/etc/passwd") == (11 * 10**9, 12 * 10**9)
    assert dirs.utimensat(task, AT_FDCWD, b"/etc/passwd", None, 0) == 0
    assert times(b"/etc/passwd")[1] > 10**18


def test_extended_attributes(task: FakeTask) -> None:
    path, name = b"/etc/passwd", b"user.note"
    assert outcome(xattr.getxattr, task, path, name, 1, 99) == -errno.ENODATA
    assert xattr.setxattr(task, path, name, b"\0v", 2, 0) == 0
    assert outcome(xattr.setxattr, task, path, name, b"", 0, 1) == -errno.EEXIST
    assert outcome(xattr.setxattr, task, path, b"user.x", b"", 0, 2) == -errno.ENODATA
    assert outcome(xattr.getxattr, task, path, name, 1, 0) == 2
    assert outcome(xattr.getxattr, task, path, name, 1, 1) == -errno.ERANGE
    assert out(xattr.getxattr(task, path, name, 1, 9)) == b"\0v"
    assert out(xattr.listxattr(task, path, 1, 99)) == b"user.note\0"
    assert outcome(xattr.setxattr, task, path, b"system.posix_acl_access", b"", 0, 0) == (
        -errno.EOPNOTSUPP
    )
    assert outcome(xattr.lsetxattr, task, b"/etc/link", name, b"", 0, 0) == -errno.EPERM
    assert xattr.removexattr(task, path, name) == 0
    assert outcome(xattr.removexattr, task, path, name) == -errno.ENODATA


def test_mounting_needs_a_capability(task: FakeTask) -> None:
    plain = FakeTask(task.process.container.mounts, Credentials())
    call = mounts.mount
    assert outcome(call, plain, b"x", b"/a", b"tmpfs", 0, 0) == -errno.EPERM
    assert outcome(mounts.umount2, plain, b"/proc", 0) == -errno.EPERM
    assert outcome(call, task, b"x", b"/a", b"tmpfs", 4, 0) == 0
    assert task.names(b"/a") == []
    assert b"x /a tmpfs rw,nodev,relatime" in task.read(b"/proc/mounts")
    assert outcome(call, task, b"x", b"/a", b"tmpfs", 32 | 1, 0) == 0
    assert outcome(dirs.mkdir, task, b"/a/x", 0o755) == -errno.EROFS
    assert outcome(mounts.umount2, task, b"/a", 0) == 0
    assert task.names(b"/a") == [b"b"]
    assert outcome(mounts.umount2, task, b"/a", 0) == -errno.EINVAL
    assert outcome(call, task, b"x", b"/a", b"ext4", 0, 0) == -errno.ENODEV


def test_chroot_is_a_jail_of_its_own(task: FakeTask) -> None:
    assert dirs.chroot(task, b"/a") == 0
    assert dirs.chdir(task, b"/") == 0
    assert task.names(b"/") == [b"b"]
    assert task.read(b"/../../b/f") == b"f"
    assert task.read(b"/b/../../../b/f") == b"f"
    assert outcome(stat.stat, task, b"/etc/passwd", 1) == -errno.ENOENT


def test_the_table_of_flagged_descriptors(task: FakeTask) -> None:
    node = resolve(task, task.fs.cwd, b"/etc")
    flags = bytearray(4096)
    table = FileTable(flags)
    closed = []

    class Watched(OpenFile):
        def closed(self) -> None:
            closed.append(self)

    file = Watched(node, 0)
    table.set(5, file, cloexec=True)
    table.set(6, file)
    table.set(5000, file)
    assert (flags[5], flags[6], sum(flags)) == (1, 1, 2)
    child = table.copy()
    table.drop(6)
    assert flags[6] == 0
    assert table.get(6) is None
    child.drop_cloexec()
    assert child.get(5) is None
    assert child.get(6) is file
    child.drop_range(0, 100)
    child.clear()
    assert closed == []
    table.set(5, OpenFile(node, 0))
    assert not table.cloexec(5)
    table.clear()
    assert closed == [file]
    assert not any(flags)
