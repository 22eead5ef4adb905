"""System V semaphores."""

from __future__ import annotations

import asyncio
import errno
import struct

import pytest

from kernel.credentials import container_credentials
from tests.kernel.net.fake import FakeContainer, FakeTask

CREAT, NOWAIT, UNDO = 0o1000, 0o4000, 0x1000
RMID, STAT, GETPID, GETVAL, GETALL, GETNCNT, GETZCNT, SETVAL, SETALL = (
    0,
    2,
    11,
    12,
    13,
    14,
    15,
    16,
    17,
)
Operation = tuple[int, int, int]


async def operate(task: FakeTask, identifier: int, *operations: Operation) -> int:
    raw = b"".join(struct.pack("<HhH", *op) for op in operations)
    return await task.call("semop", identifier, raw, len(operations))


async def value(task: FakeTask, identifier: int, number: int = 0) -> int:
    return await task.call("semctl", identifier, number, GETVAL, 0)


async def asleep(task: FakeTask) -> None:
    while task.interrupted is None:
        await asyncio.sleep(0)


@pytest.fixture
async def semaphores(guest: FakeTask) -> int:
    return await guest.call("semget", 0, 3, 0o600)


async def test_all_or_nothing(guest: FakeTask, semaphores: int) -> None:
    assert await operate(guest, semaphores, (0, 5, 0), (1, 1, 0)) == 0
    assert await operate(guest, semaphores, (0, -1, 0), (1, -2, NOWAIT)) == -errno.EAGAIN
    out = guest.buffer(6)
    assert await guest.call("semctl", semaphores, 0, GETALL, out) == 0
    assert struct.unpack("<3H", guest.read(out, 6)) == (5, 1, 0)
    assert await operate(guest, semaphores, (0, 0, NOWAIT)) == -errno.EAGAIN
    assert await operate(guest, semaphores, (0, -5, 0), (0, 0, 0), (0, 2, 0)) == 0
    assert await value(guest, semaphores) == 2
    assert await guest.call("semctl", semaphores, 0, GETPID, 0) == guest.process.pid


async def test_sleepers_go_on_in_order(
    container: FakeContainer, guest: FakeTask, semaphores: int
) -> None:
    first, second = container.task(), container.task()
    one = asyncio.create_task(operate(first, semaphores, (0, -2, 0)))
    await asleep(first)
    two = asyncio.create_task(operate(second, semaphores, (0, -1, 0)))
    await asleep(second)
    assert await guest.call("semctl", semaphores, 0, GETNCNT, 0) == 2
    assert await operate(guest, semaphores, (0, 1, 0)) == 0
    assert await two == 0  # the first still wants more than there is
    assert not one.done()
    assert await operate(guest, semaphores, (0, 2, 0)) == 0
    assert await one == 0
    assert await value(guest, semaphores) == 0


async def test_waiting_for_zero(container: FakeContainer, guest: FakeTask, semaphores: int) -> None:
    assert await guest.call("semctl", semaphores, 1, SETVAL, 1) == 0
    other = container.task()
    waiting = asyncio.create_task(operate(other, semaphores, (1, 0, 0)))
    await asleep(other)
    assert await guest.call("semctl", semaphores, 1, GETZCNT, 0) == 1
    assert await guest.call("semctl", semaphores, 0, SETALL, struct.pack("<3H", 7, 0, 7)) == 0
    assert await waiting == 0


async def test_undo_at_the_end(container: FakeContainer, guest: FakeTask, semaphores: int) -> None:
    assert await guest.call("semctl", semaphores, 0, SETVAL, 1) == 0
    holder, waiter = container.task(), container.task()
    assert await operate(holder, semaphores, (0, -1, UNDO)) == 0
    waiting = asyncio.create_task(operate(waiter, semaphores, (0, -1, UNDO)))
    await asleep(waiter)
    for told in holder.process.on_end:  # the holder is killed
        told(9)
    assert await waiting == 0
    assert await value(guest, semaphores) == 0
    assert await guest.call("semctl", semaphores, 0, SETVAL, 5) == 0  # forgets the adjustment
    for told in waiter.process.on_end:
        told(0)
    assert await value(guest, semaphores) == 5


async def test_removal_wakes(container: FakeContainer, guest: FakeTask, semaphores: int) -> None:
    other = container.task()
    waiting = asyncio.create_task(operate(other, semaphores, (0, -1, 0)))
    await asleep(other)
    assert await guest.call("semctl", semaphores, 0, RMID, 0) == 0
    assert await waiting == -errno.EIDRM
    assert await value(guest, semaphores) == -errno.EINVAL


async def test_signals_and_time(guest: FakeTask, semaphores: int) -> None:
    waiting = asyncio.create_task(operate(guest, semaphores, (0, -1, 0)))
    await asleep(guest)
    guest.interrupt()
    assert await waiting == -errno.EINTR
    assert await guest.call("semctl", semaphores, 0, GETNCNT, 0) == 0
    down = struct.pack("<HhH", 0, -1, 0)
    short = struct.pack("<qq", 0, 1_000_000)
    assert await guest.call("semtimedop", semaphores, down, 1, short) == -errno.EAGAIN
    bad = struct.pack("<qq", 0, -1)
    assert await guest.call("semtimedop", semaphores, down, 1, bad) == -errno.EINVAL


async def test_errors(container: FakeContainer, guest: FakeTask, semaphores: int) -> None:
    assert await operate(guest, semaphores, (3, 1, 0)) == -errno.EFBIG
    assert await operate(guest, semaphores) == -errno.EINVAL
    assert await operate(guest, 999, (0, 1, 0)) == -errno.EINVAL
    assert await operate(guest, semaphores, *[(0, 1, 0)] * 501) == -errno.E2BIG
    assert await operate(guest, semaphores, (0, 32767, 0), (0, 1, 0)) == -errno.ERANGE
    assert await guest.call("semctl", semaphores, 0, SETVAL, 40000) == -errno.ERANGE
    assert await guest.call("semctl", semaphores, 3, GETVAL, 0) == -errno.EINVAL
    assert await guest.call("semget", 0, 0, 0) == -errno.EINVAL
    user = container.task(container_credentials(9, 9, []))
    assert await operate(user, semaphores, (0, 1, 0)) == -errno.EACCES
    assert await guest.call("semctl", semaphores, 0, STAT, 0) == -errno.EFAULT
    out = guest.buffer(104)
    assert await guest.call("semctl", semaphores, 0, STAT, out) == 0
    assert struct.unpack_from("<Q", guest.read(out + 80, 8)) == (3,)
