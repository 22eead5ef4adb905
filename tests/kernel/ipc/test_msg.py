"""System V message queues."""

from __future__ import annotations

import asyncio
import errno
import struct

import pytest

from tests.kernel.ipc.test_sem import asleep
from tests.kernel.net.fake import ABI, FakeContainer, FakeTask

NOWAIT, NOERROR, EXCEPT, COPY = 0o4000, 0o10000, 0o20000, 0o40000


@pytest.fixture
async def queue(guest: FakeTask) -> int:
    return await guest.call("msgget", 0, 0o600)


async def send(task: FakeTask, queue: int, kind: int, text: bytes, flags: int = 0) -> int:
    return await task.call("msgsnd", queue, struct.pack("<q", kind) + text, len(text), flags)


async def receive(
    task: FakeTask, queue: int, kind: int = 0, flags: int = NOWAIT, size: int = 64
) -> tuple[int, bytes] | int:
    out = task.buffer(8 + size)
    n = await task.call("msgrcv", queue, out, size, kind, flags)
    return n if n < 0 else (struct.unpack("<q", task.read(out, 8))[0], task.read(out + 8, n))


async def test_selection(guest: FakeTask, queue: int) -> None:
    for kind, text in ((3, b"c"), (1, b"a"), (2, b"b"), (1, b"a2"), (5, b"e")):
        assert await send(guest, queue, kind, text) == 0
    assert await receive(guest, queue, 2, COPY | NOWAIT) == (2, b"b")
    assert await receive(guest, queue) == (3, b"c")
    assert await receive(guest, queue, 2) == (2, b"b")
    assert await receive(guest, queue, 1, NOWAIT | EXCEPT) == (5, b"e")
    assert await receive(guest, queue, -9) == (1, b"a")
    assert await receive(guest, queue, 7) == -errno.ENOMSG
    assert await receive(guest, queue, size=1) == -errno.E2BIG
    assert await receive(guest, queue, flags=NOWAIT | NOERROR, size=1) == (1, b"a")


async def test_a_full_queue_and_an_empty_one_make_sleep(
    container: FakeContainer, queue: int
) -> None:
    one, two = container.task(), container.task()
    assert await send(one, queue, 1, bytes(8192)) == 0
    assert await send(one, queue, 1, bytes(8192)) == 0
    assert await send(one, queue, 1, b"x", NOWAIT) == -errno.EAGAIN
    sending = asyncio.create_task(send(one, queue, 4, b"late"))
    await asleep(one)
    assert await receive(two, queue, size=8192) == (1, bytes(8192))
    assert await sending == 0
    await receive(two, queue, size=8192)
    assert await receive(two, queue) == (4, b"late")
    receiving = asyncio.create_task(receive(two, queue, 9, 0))
    await asleep(two)
    assert await send(one, queue, 8, b"not this") == 0
    await asleep(two)
    assert await send(one, queue, 9, b"this") == 0
    assert await receiving == (9, b"this")


async def test_removal_and_signals(container: FakeContainer, guest: FakeTask, queue: int) -> None:
    other = container.task()
    receiving = asyncio.create_task(receive(other, queue, 0, 0))
    await asleep(other)
    other.interrupt()
    assert await receiving == -errno.EINTR
    receiving = asyncio.create_task(receive(other, queue, 0, 0))
    await asleep(other)
    assert await guest.call("msgctl", queue, 0, 0) == 0
    assert await receiving == -errno.EIDRM


async def test_errors_and_status(guest: FakeTask, queue: int) -> None:
    assert await send(guest, queue, 0, b"x") == -errno.EINVAL
    assert await send(guest, queue, 1, bytes(8193)) == -errno.EINVAL
    assert await send(guest, 99, 1, b"x") == -errno.EINVAL
    assert await send(guest, queue, 1, b"xyz") == 0
    layout = ABI.structs["msqid64_ds"]
    out = guest.buffer(layout.size)
    assert await guest.call("msgctl", queue, 2, out) == 0
    found = layout.unpack(guest.read(out, layout.size))
    assert [found[f"msg_{m}"] for m in ("qnum", "cbytes", "qbytes")] == [1, 3, 16384]
    more = layout.pack(**{"msg_perm.mode": 0o600, "msg_qbytes": 16385})
    assert await guest.call("msgctl", queue, 1, guest.buffer(more)) == -errno.EPERM
