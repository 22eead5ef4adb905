"""POSIX message queues (mq_overview(7)): real host queues that never keep a name on the host.

A queue is made under a random name which is removed at once; the kernel keeps a descriptor, and
mq_open opens that again through /proc/self/fd, so each open has its own flags. Polling, priorities
and limits are the host's; only sleeping in mq_timedsend and mq_timedreceive is done here.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import secrets
import select
import stat
import struct
import time
from typing import TYPE_CHECKING, Final, NamedTuple

import posix_ipc

from kernel.capabilities import CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_SYS_RESOURCE
from kernel.errors import LinuxError
from kernel.host.engines import host_numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel.credentials import Credentials
    from kernel.process import Process
    from kernel.task import Task

_NAME_MAX: Final = 255
_DEFAULT_COUNT, _DEFAULT_SIZE = 10, 8192
_COUNT_MAX, _SIZE_MAX = 10, 8192  # fs.mqueue.msg_max, msgsize_max
_HARD_COUNT_MAX, _HARD_SIZE_MAX = 65536, 16 << 20
_ATTRIBUTES = struct.Struct("<4q32x")
_TIMESPEC = struct.Struct("<qq")
_NOW: Final = _TIMESPEC.pack(0, 0)  # an absolute time in the past: do not sleep
_TIMEDSEND, _TIMEDRECEIVE, _GETSETATTR = (
    host_numbers()[name] for name in ("mq_timedsend", "mq_timedreceive", "mq_getsetattr")
)

_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _host(number: int, *args: object) -> int:
    result = _libc.syscall(number, *args)
    return int(result) if result >= 0 else -ctypes.get_errno()


class Attributes(NamedTuple):
    """Struct mq_attr."""

    flags: int
    maxmsg: int
    msgsize: int
    curmsgs: int

    def pack(self) -> bytes:
        """As the guest wants it."""
        return _ATTRIBUTES.pack(*self)

    @classmethod
    def of(cls, data: bytes) -> Attributes:
        """From the guest's or host's struct."""
        return cls(*_ATTRIBUTES.unpack_from(data))


class Queue:
    """A named queue. `fd` keeps it alive; `watch` tells a process about its next message."""

    def __init__(self, mode: int, who: Credentials, attributes: Attributes) -> None:
        self.mode = mode
        self.uid, self.gid = who.fsuid, who.fsgid
        name = f"/ddock-{secrets.token_hex(12)}"
        try:
            made = posix_ipc.MessageQueue(
                name,
                posix_ipc.O_CREX,
                0o600,
                max_messages=attributes.maxmsg,
                max_message_size=attributes.msgsize,
            )
        except (posix_ipc.Error, OSError, ValueError) as error:
            raise LinuxError(getattr(error, "errno", None) or errno.ENOSPC) from None
        try:
            self.fd = os.dup(made.mqd)
        finally:
            made.close()
            posix_ipc.unlink_message_queue(name)

    def reopen(self, flags: int) -> int:
        """A new open of the queue."""
        access = flags & (os.O_ACCMODE | os.O_NONBLOCK)
        try:
            return os.open(f"/proc/self/fd/{self.fd}", access | os.O_CLOEXEC)
        except OSError as error:
            raise LinuxError(error.errno or errno.EIO) from None

    def check(self, who: Credentials, want: int) -> None:
        """EACCES unless `who` may read (4) and write (2) as `want` says."""
        if who.fsuid == self.uid:
            granted = self.mode >> 6
        elif who.in_group(self.gid):
            granted = self.mode >> 3
        else:
            granted = self.mode
        if want & ~granted & 7 and not who.can(CAP_DAC_OVERRIDE):
            raise LinuxError(errno.EACCES)


class Watch:
    """An mq_notify registration: `tell` is called once, when a message comes to an empty queue."""

    def __init__(self, process: Process, host_fd: int, tell: Callable[[], None]) -> None:
        self.process = process
        self._tell = tell
        self._fd = host_fd
        self._poll = select.epoll()
        self._poll.register(host_fd, select.EPOLLIN | select.EPOLLET)
        self._poll.poll(0)  # what is there already is no news
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._poll.fileno(), self._arrived)

    def _arrived(self) -> None:
        if self._poll.poll(0):
            self.close()
            self._tell()

    @property
    def active(self) -> bool:
        """Whether it still waits."""
        return not self._poll.closed and not self.process.zombie

    def close(self) -> None:
        """Unregister."""
        if not self._poll.closed:
            self._loop.remove_reader(self._poll.fileno())
            self._poll.close()
            os.close(self._fd)


class Queues:
    """The named queues of a container."""

    def __init__(self) -> None:
        self._queues: dict[bytes, Queue] = {}
        self._watches: dict[int, Watch] = {}  # by the queue's inode

    def close(self) -> None:
        """The container has ended."""
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()
        for queue in self._queues.values():
            os.close(queue.fd)
        self._queues.clear()

    def open(
        self, task: Task, name: bytes, flags: int, mode: int, attributes: Attributes | None
    ) -> int:
        """mq_open(2): a host descriptor."""
        if b"/" in name or name in (b".", b".."):
            raise LinuxError(errno.EACCES)
        if not name:
            raise LinuxError(errno.ENOENT)
        if len(name) > _NAME_MAX:
            raise LinuxError(errno.ENAMETOOLONG)
        who = task.credentials
        queue = self._queues.get(name)
        if queue is not None:
            if flags & os.O_CREAT and flags & os.O_EXCL:
                raise LinuxError(errno.EEXIST)
            access = flags & os.O_ACCMODE
            if access == os.O_ACCMODE:
                raise LinuxError(errno.EINVAL)
            queue.check(who, {os.O_RDONLY: 4, os.O_WRONLY: 2, os.O_RDWR: 6}[access])
            return queue.reopen(flags)
        if not flags & os.O_CREAT:
            raise LinuxError(errno.ENOENT)
        wanted = attributes or Attributes(0, _DEFAULT_COUNT, _DEFAULT_SIZE, 0)
        privileged = who.can(CAP_SYS_RESOURCE)
        count_max = _HARD_COUNT_MAX if privileged else _COUNT_MAX
        size_max = _HARD_SIZE_MAX if privileged else _SIZE_MAX
        if not 0 < wanted.maxmsg <= count_max or not 0 < wanted.msgsize <= size_max:
            raise LinuxError(errno.EINVAL)
        queue = Queue(stat.S_IMODE(mode) & ~task.fs.umask & 0o777, who, wanted)
        self._queues[name] = queue
        return queue.reopen(flags)

    def unlink(self, task: Task, name: bytes) -> None:
        """mq_unlink(2): the queue's directory is sticky."""
        queue = self._queues.get(name)
        if queue is None:
            raise LinuxError(errno.ENOENT)
        if task.credentials.fsuid != queue.uid and not task.credentials.can(CAP_FOWNER):
            raise LinuxError(errno.EPERM)
        del self._queues[name]
        os.close(queue.fd)

    def watch(self, process: Process, host_fd: int, tell: Callable[[], None] | None) -> None:
        """mq_notify(2) on our duplicate `host_fd`, which is kept; None ends the caller's watch."""
        inode = os.fstat(host_fd).st_ino
        present = self._watches.get(inode)
        if present is not None and not present.active:
            present.close()
            del self._watches[inode]
            present = None
        if tell is None:
            os.close(host_fd)
            if present is not None and present.process is process:
                present.close()
                del self._watches[inode]
            return
        if present is not None:
            os.close(host_fd)
            raise LinuxError(errno.EBUSY)
        self._watches[inode] = Watch(process, host_fd, tell)


# -- calls on a descriptor -----------------------------------------------------------------------


def send_now(fd: int, data: bytes, priority: int) -> int:
    """mq_timedsend(2) that does not sleep: ETIMEDOUT where it would."""
    return _host(_TIMEDSEND, fd, data, ctypes.c_size_t(len(data)), priority, _NOW)


def receive_now(fd: int, size: int) -> tuple[int, bytes, int]:
    """mq_timedreceive(2) that does not sleep: (result, message, priority)."""
    limit = attributes_of(fd).msgsize
    if size < limit:
        raise LinuxError(errno.EMSGSIZE)
    buffer, priority = ctypes.create_string_buffer(limit), ctypes.c_uint()
    pointer = ctypes.byref(priority)
    result = _host(_TIMEDRECEIVE, fd, buffer, ctypes.c_size_t(limit), pointer, _NOW)
    return result, buffer.raw[: max(result, 0)], priority.value


def attributes_of(fd: int, new: bytes | None = None) -> Attributes:
    """mq_getsetattr(2) on the host: the attributes before. EBADF for what is no queue."""
    buffer = ctypes.create_string_buffer(_ATTRIBUTES.size)
    result = _host(_GETSETATTR, fd, new, buffer)
    if result < 0:
        raise LinuxError(-result)
    return Attributes.of(buffer.raw)


def seconds_until(deadline: bytes | None) -> float | None:
    """The time left until a guest's absolute CLOCK_REALTIME timespec; None: for ever. EINVAL."""
    if deadline is None:
        return None
    seconds, nanoseconds = _TIMESPEC.unpack(deadline)
    if seconds < 0 or not 0 <= nanoseconds < 1_000_000_000:
        raise LinuxError(errno.EINVAL)
    return max(0.0, float(seconds) - time.time() + float(nanoseconds) / 1e9)
