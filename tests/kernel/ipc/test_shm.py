"""System V shared memory."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

import pytest

from kernel.credentials import container_credentials
from tests.kernel.net.fake import ABI, FakeContainer, FakeTask

CREAT, EXCL, RMID, SET, STAT = 0o1000, 0o2000, 0, 1, 2
RDONLY, RND, REMAP = 0o10000, 0o20000, 0o40000


async def status(task: FakeTask, identifier: int) -> dict[str, int]:
    layout = ABI.structs["shmid64_ds"]
    out = task.buffer(layout.size)
    assert await task.call("shmctl", identifier, STAT, out) == 0
    return layout.unpack(task.read(out, layout.size))


async def test_memory_is_shared_and_lives_until_the_last_detach(guest: FakeTask) -> None:
    identifier = await guest.call("shmget", 0, 10_000, 0o600)
    one, two = (
        await guest.call("shmat", identifier, 0, 0),
        await guest.call("shmat", identifier, 0, 0),
    )
    assert one > 4096
    assert one != two
    ctypes.memmove(one, b"shared", 6)
    assert guest.read(two, 6) == b"shared"
    found = await status(guest, identifier)
    assert (found["shm_nattch"], found["shm_segsz"], found["shm_lpid"]) == (2, 10_000, 1)
    assert await guest.call("shmctl", identifier, RMID, 0) == 0
    assert (await status(guest, identifier))["shm_perm.mode"] == 0o1600
    assert await guest.call("shmdt", one) == 0
    assert guest.read(two, 6) == b"shared"
    assert await guest.call("shmdt", two) == 0
    assert await guest.call("shmctl", identifier, STAT, guest.buffer(112)) == -errno.EINVAL
    assert await guest.call("shmdt", two) == -errno.EINVAL


async def test_keys(guest: FakeTask, container: FakeContainer) -> None:
    key = 0x1234
    assert await guest.call("shmget", key, 4096, 0) == -errno.ENOENT
    identifier = await guest.call("shmget", key, 4096, CREAT | 0o600)
    assert await guest.call("shmget", key, 4096, CREAT | EXCL) == -errno.EEXIST
    assert await guest.call("shmget", key, 0, 0) == identifier
    assert await guest.call("shmget", key, 8192, 0) == -errno.EINVAL
    assert await guest.call("shmget", 7, 0, CREAT) == -errno.EINVAL
    user = container.task(container_credentials(9, 9, []))
    assert await user.call("shmget", key, 0, 0o600) == -errno.EACCES
    assert await user.call("shmat", identifier, 0, 0) == -errno.EACCES
    assert await user.call("shmctl", identifier, RMID, 0) == -errno.EPERM
    assert await guest.call("shmctl", identifier, RMID, 0) == 0
    assert await guest.call("shmget", key, 0, 0) == -errno.ENOENT


async def test_addresses(guest: FakeTask) -> None:
    identifier = await guest.call("shmget", 0, 4096, 0o600)
    first = await guest.call("shmat", identifier, 0, 0)
    assert await guest.call("shmat", identifier, first, 0) == -errno.EINVAL
    assert await guest.call("shmat", identifier, first + 5, 0) == -errno.EINVAL
    assert await guest.call("shmat", identifier, 0, REMAP) == -errno.EINVAL
    assert await guest.call("shmat", identifier, first + 5, RND | REMAP) == first
    assert await guest.call("shmdt", first) == 0


async def test_read_only(guest: FakeTask) -> None:
    identifier = await guest.call("shmget", 0, 4096, 0o600)
    at = await guest.call("shmat", identifier, 0, RDONLY)
    with open("/proc/self/maps", encoding="ascii") as maps:
        line = next(line for line in maps if line.startswith(f"{at:x}-"))
    assert line.split()[1] == "r--s"
    assert await guest.call("shmdt", at) == 0


async def test_set_gives_it_away(guest: FakeTask, container: FakeContainer) -> None:
    identifier = await guest.call("shmget", 0, 4096, 0o600)
    layout = ABI.structs["shmid64_ds"]
    new = layout.pack(**{"shm_perm.uid": 9, "shm_perm.gid": 9, "shm_perm.mode": 0o640})
    assert await guest.call("shmctl", identifier, SET, guest.buffer(new)) == 0
    found = await status(guest, identifier)
    assert [found[f"shm_perm.{m}"] for m in ("uid", "cuid", "mode")] == [9, 0, 0o640]
    user = container.task(container_credentials(9, 9, []))
    assert await user.call("shmctl", identifier, RMID, 0) == 0


async def test_nothing_is_left_open(guest: FakeTask, container: FakeContainer) -> None:
    identifier = await guest.call("shmget", 0, 4096, 0o600)
    at = await guest.call("shmat", identifier, 0, 0)
    container.ipc.close()
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    assert not [link for link in links if os.path.lexists(link) and "SYSV" in os.readlink(link)]
    assert guest.read(at, 1) == b"\0"
    ctypes.CDLL(None).munmap(ctypes.c_void_p(at), ctypes.c_size_t(4096))


@pytest.mark.parametrize("cmd", [3, 14])
async def test_information(guest: FakeTask, cmd: int) -> None:
    out = guest.buffer(72)
    assert await guest.call("shmctl", 0, cmd, out) == 0
    if cmd == 3:
        assert struct.unpack_from("<3Q", guest.read(out, 24))[1:] == (1, 4096)
