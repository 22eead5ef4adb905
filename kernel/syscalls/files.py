"""Open files: open(2) and what happens on descriptors the kernel serves itself.

read(2) and its family arrive here only for flagged descriptors; an unflagged one that took the ring
anyway (a number beyond the flag bytes) is sent back to the host by `_native`.
"""

import errno
import os
import struct
from collections.abc import Coroutine
from typing import Any

from codegen.layout import PAYLOAD_SIZE, STUB_FDS, Op, Slot
from kernel.abi import (
    DirFd,
    Fd,
    FileMode,
    Flags,
    InBuffer,
    IoVec,
    Offset,
    OpenFlags,
    Path,
    Pointer,
    Size,
    UInt,
    ULong,
)
from kernel.fs.answers import CONTENT
from kernel.fs.descriptors import node_of, start_of
from kernel.fs.devices import TerminalDescriptor
from kernel.fs.metadata import REGULAR
from kernel.fs.node import FileSystem, Node
from kernel.fs.openfile import DirectoryFile, OpenFile
from kernel.fs.opening import open_path
from kernel.fs.overlay import OverlayFs, OverlayNode
from kernel.fs.permissions import READS_ALL
from kernel.fs.resolver import recall
from kernel.host.linux_fs import RESOLVE_CACHED
from kernel.isa.openflags import O_LARGEFILE
from kernel.pages import rounded
from kernel.reply import Answer, DescriptorReply, Program, Reply
from kernel.syscalls.declare import Restart, syscall
from kernel.task import Task

AT_FDCWD = -100
_ARGS = Slot.ARGS // 8
_MOST = PAYLOAD_SIZE - 4096  # the most one answer copies out; a short read is always allowed
_HOW = struct.Struct("<QQQ")
_VECTOR = struct.Struct("<QQ")
_FLOCK = struct.Struct("<hh4xqqi4x")
_OPEN2_FLAGS = 0o37777777  # everything open(2) knows
_RESOLVE_KNOWN = 0x3F
_F_UNLCK = 2
_F_SETPIPE_SZ = 1031
_TIOCSCTTY = 0x540E
F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_DUPFD_CLOEXEC = 0, 1, 2, 3, 4, 5, 1030
F_SETOWN, F_GETOWN = 8, 9
# Commands about owners, signals, leases and notification: the host would act on host processes.
_NO_HOST = frozenset((F_SETOWN, F_GETOWN, 10, 11, 15, 16, 17, 1024, 1025, 1026))
_NOT_PLAIN = ~(os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | O_LARGEFILE)
_SETTABLE = os.O_APPEND | os.O_NONBLOCK | os.O_DIRECT | os.O_NOATIME | os.O_ASYNC


# A handler that opens answers at once where it can; else it hands the dispatcher a coroutine.
_Opening = Answer | Coroutine[Any, Any, Answer]


@syscall(restart=Restart.ALWAYS)
def open(task: Task, path: Path, flags: OpenFlags, mode: FileMode) -> _Opening:
    """open(2)."""
    return _open(task, AT_FDCWD, path, flags, mode)


@syscall(restart=Restart.ALWAYS)
def creat(task: Task, path: Path, mode: FileMode) -> _Opening:
    """creat(2)."""
    return _open(task, AT_FDCWD, path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode)


@syscall(restart=Restart.ALWAYS)
def openat(task: Task, dirfd: DirFd, path: Path, flags: OpenFlags, mode: FileMode) -> _Opening:
    """openat(2): resolve `path` inside the jail, open it here, hand the guest the descriptor."""
    return _open(task, dirfd, path, flags, mode)


def _open(task: Task, dirfd: int, path: bytes, flags: int, mode: int) -> _Opening:
    start = start_of(task, dirfd, path)
    if not flags & _NOT_PLAIN:
        # Reading a regular file that everybody may read: most opens.
        node = recall(task, start, path, True, CONTENT)
        if not node.kind:
            return -errno.ENOENT
        if type(node) is OverlayNode and node.kind == REGULAR and not node.gone:
            who = task.credentials
            if node.mode & 0o444 == 0o444 or who.effective & READS_ALL:
                if node.upper:
                    node.will_be_read()
                try:
                    fd = os.open(node.host, (flags & os.O_NONBLOCK) | os.O_CLOEXEC)
                except OSError as error:
                    return -(error.errno or errno.EIO)
                return DescriptorReply(fd, flags & os.O_CLOEXEC != 0, None)
    return _open_slowly(task, start, path, flags, mode, 0)


async def _open_slowly(
    task: Task, start: Node, path: bytes, flags: int, mode: int, scope: int
) -> Answer:
    fd, file = await open_path(task, start, path, flags, mode, scope)
    if type(fd) is TerminalDescriptor and not flags & os.O_NOCTTY:
        return _terminal(task, fd, flags & os.O_CLOEXEC != 0)
    return DescriptorReply(fd, flags & os.O_CLOEXEC != 0, file)


def _terminal(task: Task, fd: int, cloexec: bool) -> Answer:
    """A session leader without a terminal gets the one it opens, if that has no session (tty_open).

    TIOCSCTTY has the same conditions; where they do not hold it fails, and nobody minds.
    """
    process = task.process
    program = Program()
    got = process.channel.give(task, program, fd, cloexec)
    if process.session == process.pid:
        program.hostcall(task.abi.numbers["ioctl"], got, _TIOCSCTTY, 0, checked=False)
    program.op(Op.END, got)
    return Reply.program(program)


@syscall(restart=Restart.ALWAYS, missing="RESOLVE_CACHED always answers EAGAIN")
def openat2(task: Task, dirfd: DirFd, path: Path, how: InBuffer, size: Size) -> _Opening:
    """openat2(2)."""
    if size < 24:
        return -errno.EINVAL
    if any(how[24:]):
        return -errno.E2BIG
    flags, mode, resolve = _HOW.unpack(how[:24])
    flags = task.isa.open_flags.to_host(flags)
    creates = flags & os.O_CREAT or flags & os.O_TMPFILE == os.O_TMPFILE
    if flags & ~_OPEN2_FLAGS or resolve & ~_RESOLVE_KNOWN or (mode and not creates):
        return -errno.EINVAL
    if mode & ~0o7777 or resolve & 0x18 == 0x18:
        return -errno.EINVAL
    if resolve & RESOLVE_CACHED:
        return -errno.EAGAIN
    start = task.fs.cwd if dirfd == AT_FDCWD else start_of(task, dirfd, path)
    return _open_slowly(task, start, path, flags, mode, resolve)


# -- flagged descriptors -------------------------------------------------------------------------


def _native(task: Task) -> Answer:
    """The call is about an ordinary descriptor after all: the stub makes it on the host."""
    row = task.abi.syscalls[task.abi.names[task.call_nr]]
    arguments = [task.slot.q[_ARGS + i] for i in range(len(row.args))]
    for value, argument in zip(arguments, row.args, strict=True):
        if argument.kind == "fd" and value & 0xFFFF_FFFF in STUB_FDS:
            return -errno.EBADF
    return Reply.hostcall(row.name, *arguments)


@syscall(restart=Restart.ALWAYS)
def read(task: Task, fd: Fd, buf: Pointer, count: Size) -> Answer:
    """read(2)."""
    file = task.process.files.get(fd)
    return _native(task) if file is None else _read(task, file, [(buf, count)], None)


@syscall(restart=Restart.ALWAYS)
def pread64(task: Task, fd: Fd, buf: Pointer, count: Size, pos: Offset) -> Answer:
    """pread(2)."""
    file = task.process.files.get(fd)
    return _native(task) if file is None else _read(task, file, [(buf, count)], pos)


@syscall(restart=Restart.ALWAYS)
def readv(task: Task, fd: Fd, vec: InBuffer, vlen: ULong) -> Answer:
    """readv(2)."""
    file = task.process.files.get(fd)
    return _native(task) if file is None else _read(task, file, _vector(vec), None)


@syscall(restart=Restart.ALWAYS)
def preadv(task: Task, fd: Fd, vec: InBuffer, vlen: ULong, pos_l: ULong) -> Answer:
    """preadv(2)."""
    file = task.process.files.get(fd)
    return _native(task) if file is None else _read(task, file, _vector(vec), _signed(pos_l))


@syscall(restart=Restart.ALWAYS)
def preadv2(
    task: Task, fd: Fd, vec: InBuffer, vlen: ULong, pos_l: ULong, pos_h: ULong, flags: Flags
) -> Answer:
    """preadv2(2); position -1 is the file's own."""
    file = task.process.files.get(fd)
    if file is None:
        return _native(task)
    position = _signed(pos_l)
    return _read(task, file, _vector(vec), None if position == -1 else position)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _vector(packed: bytes) -> list[tuple[int, int]]:
    return [(base, length) for base, length in _VECTOR.iter_unpack(packed)]


def _read(task: Task, file: OpenFile, vector: list[tuple[int, int]], at: int | None) -> Answer:
    wanted = min(sum(length for _, length in vector), _MOST)
    data = file.read(task, wanted, at)
    outs = []
    done = 0
    for base, length in vector:
        piece = data[done : done + length]
        if piece:
            outs.append((base, piece))
            done += len(piece)
    return Reply.out(done, *outs) if outs else 0


@syscall(restart=Restart.ALWAYS)
def write(task: Task, fd: Fd, buf: InBuffer, count: Size) -> Answer:
    """write(2)."""
    file = task.process.files.get(fd)
    return _native(task) if file is None else file.write(task, buf, None)


@syscall(restart=Restart.ALWAYS)
def pwrite64(task: Task, fd: Fd, buf: InBuffer, count: Size, pos: Offset) -> Answer:
    """pwrite(2)."""
    file = task.process.files.get(fd)
    return _native(task) if file is None else file.write(task, buf, pos)


@syscall(restart=Restart.ALWAYS)
def writev(task: Task, fd: Fd, vec: IoVec, vlen: ULong) -> Answer:
    """writev(2)."""
    file = task.process.files.get(fd)
    return _native(task) if file is None else file.write(task, vec, None)


@syscall()
def lseek(task: Task, fd: Fd, offset: Offset, whence: UInt) -> Answer:
    """lseek(2)."""
    file = task.process.files.get(fd)
    return _native(task) if file is None else file.seek(task, offset, whence)


@syscall()
def ftruncate(task: Task, fd: Fd, length: Offset) -> Answer:
    """ftruncate(2)."""
    file = task.process.files.get(fd)
    if file is None:
        return _native(task)
    return -errno.EBADF if file.is_path else -errno.EINVAL


@syscall()
def fsync(task: Task, fd: Fd) -> Answer:
    """fsync(2): a directory's host directory is synced by the guest's own descriptor."""
    return _sync_descriptor(task, fd)


@syscall()
def fdatasync(task: Task, fd: Fd) -> Answer:
    """fdatasync(2)."""
    return _sync_descriptor(task, fd)


def _sync_descriptor(task: Task, fd: int) -> Answer:
    file = task.process.files.get(fd)
    if file is None:
        return _native(task)
    if file.is_path:
        return -errno.EBADF
    return _native(task) if isinstance(file, DirectoryFile) else -errno.EINVAL


@syscall()
def syncfs(task: Task, fd: Fd) -> Answer:
    """syncfs(2): the container's own tree, not the whole host file system."""
    _sync(node_of(task, fd).fs)
    return 0


@syscall()
def sync(task: Task) -> Answer:
    """sync(2): what this container's index says; file data is the host's to write back."""
    for fs in task.process.container.mounts.mounts:
        _sync(fs)
    return 0


def _sync(fs: FileSystem) -> None:
    if isinstance(fs, OverlayFs):
        fs.owners.sync()


@syscall()
def close(task: Task, fd: Fd) -> Answer:
    """close(2): the guest's descriptor goes in any case."""
    if fd in STUB_FDS:
        return -errno.EBADF
    task.process.files.drop(fd)
    return Reply.hostcall("close", fd)


@syscall()
async def dup(task: Task, fd: Fd) -> Answer:
    """dup(2)."""
    return await _duplicate(task, fd, False, "dup", fd)


@syscall()
async def dup2(task: Task, oldfd: Fd, newfd: Fd) -> Answer:
    """dup2(2)."""
    if newfd in STUB_FDS:
        return -errno.EBADF
    return await _duplicate(task, oldfd, False, "dup2", oldfd, newfd)


@syscall()
async def dup3(task: Task, oldfd: Fd, newfd: Fd, flags: Flags) -> Answer:
    """dup3(2)."""
    if newfd in STUB_FDS:
        return -errno.EBADF
    return await _duplicate(task, oldfd, bool(flags & os.O_CLOEXEC), "dup3", oldfd, newfd, flags)


async def _duplicate(task: Task, fd: int, cloexec: bool, name: str, *args: int) -> int:
    if fd in STUB_FDS:
        return -errno.EBADF
    number = await task.hostcall(name, *args)
    files = task.process.files
    if number != fd:
        file = files.get(fd)
        if file is not None:
            files.set(number, file, cloexec)
        else:
            files.drop(number)
    return number


@syscall(
    restart=Restart.ALWAYS,
    missing="F_SETOWN is remembered but sends no SIGIO; no leases, no F_NOTIFY, no F_SETSIG",
)
async def fcntl(task: Task, fd: Fd, cmd: UInt, arg: ULong) -> Answer:
    """fcntl(2): flagged descriptors, and the commands that name processes."""
    if fd in STUB_FDS:
        return -errno.EBADF
    file = task.process.files.get(fd)
    if cmd in (F_DUPFD, F_DUPFD_CLOEXEC):
        return await _duplicate(task, fd, cmd == F_DUPFD_CLOEXEC, "fcntl", fd, cmd, arg)
    if cmd == F_GETLK:
        return await _get_lock(task, fd, arg)
    if cmd in _NO_HOST:
        await task.hostcall("fcntl", fd, F_GETFD, 0)  # EBADF if there is no such descriptor
        return _owner_command(task, fd, cmd, arg)
    if cmd == _F_SETPIPE_SZ and task.process.container.larger_pages:
        size = rounded(arg, task.process.container.page_size)
        return Reply.hostcall("fcntl", fd, cmd, size) if size >> 31 == 0 else -errno.EINVAL
    if file is None:
        return _native(task)
    if cmd == F_GETFL:
        return task.isa.open_flags.to_guest(file.flags | O_LARGEFILE)
    if cmd == F_SETFD:
        task.process.files.set_cloexec(fd, bool(arg & 1))
    elif file.is_path and cmd != F_GETFD:
        return -errno.EBADF
    elif cmd == F_SETFL:
        wanted = task.isa.open_flags.to_host(arg)
        file.flags = (file.flags & ~_SETTABLE) | (wanted & _SETTABLE)
        return 0
    return _native(task)


async def _get_lock(task: Task, fd: int, address: int) -> int:
    """F_GETLK names the lock's holder by the host's pid: translate it."""
    result = await task.hostcall("fcntl", fd, F_GETLK, address)
    kind, whence, start, length, pid = _FLOCK.unpack(await task.copy_in(address, _FLOCK.size))
    if kind != _F_UNLCK and pid > 0:
        holder = task.process.container.by_host_pid.get(pid)
        guest_pid = holder.pid if holder is not None else 0
        packed = _FLOCK.pack(kind, whence, start, length, guest_pid)
        await task.copy_out(address, packed)
    return result


def _owner_command(task: Task, fd: int, cmd: int, arg: int) -> int:
    owners = task.process.container.mounts.signal_owners
    key = (task.process.pid, fd)
    if cmd == F_SETOWN:
        owners[key] = arg if arg < 1 << 31 else (arg & 0xFFFF_FFFF) - (1 << 32)
        return 0
    return owners.get(key, 0) if cmd == F_GETOWN else -errno.EINVAL
