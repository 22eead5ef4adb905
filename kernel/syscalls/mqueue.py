"""POSIX message queues (mq_overview(7))."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, Final

from codegen.layout import STUB_FDS
from kernel.abi import Fd, FileMode, InBuffer, InStruct, OpenFlags, Path, Pointer, Size, UInt
from kernel.errors import LinuxError
from kernel.ipc import mqueue
from kernel.ipc.namespace import ipc_of
from kernel.net import hostsock, waiting
from kernel.reply import Reply
from kernel.signals.sending import send_to_process
from kernel.signals.state import Info
from kernel.syscalls.declare import Restart, syscall

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel.reply import Answer
    from kernel.task import Task

_MQ_PRIO_MAX: Final = 32768
_SIGEV_SIGNAL, _SIGEV_NONE, _SIGEV_THREAD = 0, 1, 2
_COOKIE_SIZE: Final = 32
_WOKEN: Final = b"\1"
_SI_MESGQ: Final = -3


async def _duplicate(task: Task, fd: int) -> int:
    if fd in STUB_FDS or fd < 0:
        raise LinuxError(errno.EBADF)
    return await task.take_fd(fd)


@syscall()
def mq_open(task: Task, name: Path, oflag: OpenFlags, mode: FileMode, attr: InStruct) -> Answer:
    """mq_open(2): the descriptor is always close-on-exec."""
    attributes = None if attr is None else mqueue.Attributes.of(attr)
    fd = ipc_of(task).posix_queues.open(task, name, oflag, mode, attributes)
    return Reply.descriptor(fd, True)


@syscall()
def mq_unlink(task: Task, name: Path) -> int:
    """mq_unlink(2)."""
    ipc_of(task).posix_queues.unlink(task, name)
    return 0


@syscall(restart=Restart.ALWAYS)
async def mq_timedsend(
    task: Task, mqdes: Fd, msg_ptr: InBuffer, msg_len: Size, msg_prio: UInt, abs_timeout: InStruct
) -> int:
    """mq_timedsend(2)."""
    if msg_prio >= _MQ_PRIO_MAX:
        return -errno.EINVAL
    left = mqueue.seconds_until(abs_timeout)
    with hostsock.closing(await _duplicate(task, mqdes)) as fd:
        if msg_len > mqueue.attributes_of(fd).msgsize:
            return -errno.EMSGSIZE
        if msg_len and not msg_ptr:
            return -errno.EFAULT
        while True:
            result = mqueue.send_now(fd, msg_ptr, msg_prio)
            if result != -errno.ETIMEDOUT or left == 0:
                return result
            if not await waiting.until_writable(task, fd, left):
                return -errno.ETIMEDOUT
            left = mqueue.seconds_until(abs_timeout)


@syscall(restart=Restart.ALWAYS)
async def mq_timedreceive(
    task: Task, mqdes: Fd, msg_ptr: Pointer, msg_len: Size, msg_prio: Pointer, abs_timeout: InStruct
) -> Answer:
    """mq_timedreceive(2)."""
    left = mqueue.seconds_until(abs_timeout)
    with hostsock.closing(await _duplicate(task, mqdes)) as fd:
        while True:
            result, data, priority = mqueue.receive_now(fd, msg_len)
            if result >= 0:
                break
            if result != -errno.ETIMEDOUT or left == 0:
                return result
            if not await waiting.until_readable(task, fd, left):
                return -errno.ETIMEDOUT
            left = mqueue.seconds_until(abs_timeout)
    outs = [(msg_ptr, data)] if data else []
    if msg_prio:
        outs.append((msg_prio, struct.pack("<I", priority)))
    return Reply.out(result, *outs)


@syscall()
async def mq_getsetattr(task: Task, mqdes: Fd, mqstat: InStruct, omqstat: Pointer) -> Answer:
    """mq_getsetattr(2): only O_NONBLOCK can be changed."""
    with hostsock.closing(await _duplicate(task, mqdes)) as fd:
        if mqstat is not None and mqueue.Attributes.of(mqstat).flags & ~os.O_NONBLOCK:
            return -errno.EINVAL
        before = mqueue.attributes_of(fd, mqstat)
    return Reply.out(0, (omqstat, before.pack())) if omqstat else 0


@syscall()
async def mq_notify(task: Task, mqdes: Fd, notification: InStruct) -> Answer:
    """mq_notify(2)."""
    tell: Callable[[], None] | None = None
    if notification is not None:
        tell = await _teller(task, notification)
    fd = await _duplicate(task, mqdes)
    try:
        mqueue.attributes_of(fd)
    except LinuxError:
        os.close(fd)
        raise
    ipc_of(task).posix_queues.watch(task.process, fd, tell)
    return 0


async def _teller(task: Task, notification: bytes) -> Callable[[], None]:
    """What to do when the message comes."""
    value, number, kind = struct.unpack_from("<Qii", notification)
    process = task.process
    if kind == _SIGEV_NONE:
        return lambda: None
    if kind == _SIGEV_SIGNAL:
        if not 0 < number <= 64:
            raise LinuxError(errno.EINVAL)
        body = struct.pack("<iIQ", process.pid, task.credentials.uid, value)
        return lambda: send_to_process(process, Info(number, _SI_MESGQ, 0, body))
    if kind != _SIGEV_THREAD:
        raise LinuxError(errno.EINVAL)
    # glibc waits on a netlink socket (in sigev_signo) for its cookie to come back.
    cookie = await task.copy_in(value, _COOKIE_SIZE)
    with hostsock.closing(await _duplicate(task, number)) as fd:
        state = process.container.network.state(fd)
    if state is None or state.netlink is None:
        raise LinuxError(errno.EBADF)
    link = state.netlink
    return lambda: link.send(cookie[:-1] + _WOKEN)
