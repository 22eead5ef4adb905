"""POSIX message queues."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import struct
from typing import Any

import pytest

from kernel.credentials import container_credentials
from kernel.signals.state import Info
from tests.kernel.ipc.test_sem import asleep
from tests.kernel.net.fake import FakeContainer, FakeTask

ATTRIBUTES = struct.pack("<4q32x", 0, 2, 16, 0)


@pytest.fixture
async def queue(guest: FakeTask) -> int:
    return await open_queue(guest, b"q")


async def open_queue(task: FakeTask, name: bytes, flags: int = os.O_RDWR | os.O_CREAT) -> int:
    return await task.call("mq_open", name + b"\0", flags, 0o600, ATTRIBUTES)


async def send(task: FakeTask, fd: int, text: bytes, priority: int = 0, timeout: Any = 0) -> int:
    return await task.call("mq_timedsend", fd, text, len(text), priority, timeout)


async def receive(task: FakeTask, fd: int, timeout: Any = 0) -> tuple[bytes, int] | int:
    out, priority = task.buffer(16), task.buffer(4)
    n = await task.call("mq_timedreceive", fd, out, 16, priority, timeout)
    return n if n < 0 else (task.read(out, n), struct.unpack("<I", task.read(priority, 4))[0])


async def test_priorities(guest: FakeTask, queue: int) -> None:
    assert not os.get_inheritable(queue)
    assert await send(guest, queue, b"low", 1) == 0
    assert await send(guest, queue, b"high", 9) == 0
    poller = select.poll()
    poller.register(queue, select.POLLIN | select.POLLOUT)
    assert poller.poll(0) == [(queue, select.POLLIN)]
    assert await receive(guest, queue) == (b"high", 9)
    assert await receive(guest, queue) == (b"low", 1)


async def test_sleeping_and_waking(container: FakeContainer, guest: FakeTask, queue: int) -> None:
    other = container.task()
    receiving = asyncio.create_task(receive(other, queue))
    await asleep(other)
    assert await send(guest, queue, b"hello") == 0
    assert await receiving == (b"hello", 0)
    assert await send(guest, queue, b"1") == 0
    assert await send(guest, queue, b"2") == 0
    sending = asyncio.create_task(send(other, queue, b"3"))
    await asleep(other)
    assert await receive(guest, queue) == (b"1", 0)
    assert await sending == 0
    receiving = asyncio.create_task(send(other, queue, b"4"))
    await asleep(other)
    other.interrupt()
    assert await receiving == -errno.EINTR


async def test_time_and_nonblocking(guest: FakeTask, queue: int) -> None:
    past = struct.pack("<qq", 1, 0)
    assert await receive(guest, queue, past) == -errno.ETIMEDOUT
    assert await receive(guest, queue, struct.pack("<qq", 1, -1)) == -errno.EINVAL
    fd = await open_queue(guest, b"q", os.O_RDONLY | os.O_NONBLOCK)
    assert await receive(guest, fd) == -errno.EAGAIN
    assert await send(guest, fd, b"x") == -errno.EBADF
    nonblock = struct.pack("<4q32x", os.O_NONBLOCK, 0, 0, 0)
    out = guest.buffer(64)
    assert await guest.call("mq_getsetattr", queue, nonblock, out) == 0
    assert struct.unpack("<4q", guest.read(out, 32)) == (0, 2, 16, 0)
    assert await receive(guest, queue) == -errno.EAGAIN


async def test_names(container: FakeContainer, guest: FakeTask, queue: int) -> None:
    assert await open_queue(guest, b"q", os.O_CREAT | os.O_EXCL) == -errno.EEXIST
    assert await open_queue(guest, b"missing", os.O_RDWR) == -errno.ENOENT
    assert await open_queue(guest, b"a/b") == -errno.EACCES
    assert await open_queue(guest, b"") == -errno.ENOENT
    user = container.task(container_credentials(9, 9, []))
    assert await open_queue(user, b"q", os.O_RDONLY) == -errno.EACCES
    assert await user.call("mq_unlink", b"q\0") == -errno.EPERM
    assert await guest.call("mq_unlink", b"q\0") == 0
    assert await guest.call("mq_unlink", b"q\0") == -errno.ENOENT
    assert await send(guest, queue, b"lives on") == 0
    too_many = struct.pack("<4q32x", 0, 11, 16, 0)
    result = await guest.call("mq_open", b"r\0", os.O_CREAT | os.O_RDWR, 0o600, too_many)
    assert result == -errno.EINVAL
    assert await send(guest, queue, bytes(17)) == -errno.EMSGSIZE
    assert await send(guest, queue, b"x", 32768) == -errno.EINVAL


async def test_notification(
    container: FakeContainer, guest: FakeTask, queue: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: asyncio.Queue[Info] = asyncio.Queue()
    monkeypatch.setattr(
        "kernel.syscalls.mqueue.send_to_process", lambda _process, info: told.put_nowait(info)
    )
    event = struct.pack("<Qii48x", 0xABCD, 10, 0)
    assert await send(guest, queue, b"old") == 0
    assert await guest.call("mq_notify", queue, event) == 0
    assert await container.task().call("mq_notify", queue, event) == -errno.EBUSY
    await receive(guest, queue)
    assert told.empty()
    assert await send(guest, queue, b"new") == 0
    info = await asyncio.wait_for(told.get(), 5)
    assert (info.signal, info.code) == (10, -3)
    assert struct.unpack_from("<iIQ", info.body) == (guest.process.pid, 0, 0xABCD)
    assert await guest.call("mq_notify", queue, event) == 0  # it was good for once
    assert await guest.call("mq_notify", queue, None) == 0
    thread = await guest.call("socket", 16, 3, 0)
    cookie = guest.buffer(b"c" * 31 + b"\0")
    assert await guest.call("mq_notify", queue, struct.pack("<Qii48x", cookie, thread, 2)) == 0
    await receive(guest, queue)
    assert await send(guest, queue, b"again") == 0
    assert await asyncio.to_thread(os.read, thread, 64) == b"c" * 31 + b"\1"


async def test_no_name_is_left_on_the_host(guest: FakeTask, queue: int) -> None:
    if os.path.isdir("/dev/mqueue"):
        assert not [name for name in os.listdir("/dev/mqueue") if name.startswith("ddock")]
