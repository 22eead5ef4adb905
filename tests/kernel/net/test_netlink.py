"""What `ip`, getifaddrs(3) and ifconfig ask."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.kernel.net.fake import FakeTask

GETLINK, GETADDR, GETROUTE, NEWLINK, GETNEIGH = 18, 22, 26, 16, 30
REQUEST, DUMP = 1, 0x300
Message = tuple[int, int, int, bytes]


async def open_netlink(task: FakeTask) -> int:
    fd = await task.call("socket", 16, 3, 0)
    assert fd >= 0
    assert await task.call("bind", fd, struct.pack("<HHII", 16, 0, 0, 0), 12) == 0
    return fd


def messages(data: bytes) -> Iterator[Message]:
    while data:
        length, kind, _, sequence, pid = struct.unpack_from("<IHHII", data)
        yield kind, sequence, pid, data[16:length]
        data = data[(length + 3) & ~3 :]


def attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        length, kind = struct.unpack_from("<HH", data)
        found[kind] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


async def ask(task: FakeTask, fd: int, kind: int, flags: int, body: bytes) -> list[Message]:
    request = struct.pack("<IHHII", 16 + len(body), kind, REQUEST | flags, 7, 0) + body
    name = struct.pack("<HHII", 16, 0, 0, 0)
    assert await task.call("sendto", fd, request, len(request), 0, name, 12) == len(request)
    answer: list[Message] = []
    while not answer or (flags & DUMP and answer[-1][0] != 3):
        data, where, length = (
            task.buffer(32768),
            task.buffer(12),
            task.buffer(struct.pack("<i", 12)),
        )
        call = task.call("recvfrom", fd, data, 32768, 0, where, length)
        n = await asyncio.wait_for(call, 5)
        assert n > 0
        assert task.read(where, 12) == struct.pack("<HHII", 16, 0, 0, 0)  # from the kernel
        answer += messages(task.read(data, n))
    return answer


async def test_links(guest: FakeTask) -> None:
    fd = await open_netlink(guest)
    where, length = guest.buffer(12), guest.buffer(struct.pack("<i", 12))
    assert await guest.call("getsockname", fd, where, length) == 0
    port = struct.unpack("<HHII", guest.read(where, 12))[2]
    assert port == guest.process.pid
    *links, done = await ask(guest, fd, GETLINK, DUMP, bytes(16))
    assert done[0] == 3
    assert {(kind, sequence, pid) for kind, sequence, pid, _ in links} == {(NEWLINK, 7, port)}
    names = [attributes(body[16:])[3] for *_, body in links]
    assert names == [b"lo\0", b"eth0\0"]
    assert attributes(links[1][3][16:])[1] == bytes((2, 0x42, 172, 17, 0, 2))


async def test_addresses(guest: FakeTask) -> None:
    fd = await open_netlink(guest)
    *found, _ = await ask(guest, fd, GETADDR, DUMP, b"\0" * 8)
    shown = []
    for *_, body in found:
        family, prefix, _, _, index = struct.unpack_from("<BBBBI", body)
        shown.append((index, socket.inet_ntop(family, attributes(body[8:])[1]), prefix))
    assert shown == [(1, "127.0.0.1", 8), (1, "::1", 128), (2, "172.17.0.2", 16)]
    *four, _ = await ask(guest, fd, GETADDR, DUMP, b"\2" + bytes(7))
    assert len(four) == 2


async def test_routes(guest: FakeTask) -> None:
    fd = await open_netlink(guest)
    *found, _ = await ask(guest, fd, GETROUTE, DUMP, bytes(12))
    default = attributes(found[1][3][12:])
    assert socket.inet_ntoa(default[5]) == "172.17.0.1"
    target = struct.pack("<BBBBBBBBI", 2, 32, 0, 0, 0, 0, 0, 0, 0) + struct.pack("<HH", 8, 1)
    answer = await ask(guest, fd, GETROUTE, 0, target + bytes((8, 8, 8, 8)))
    assert socket.inet_ntoa(attributes(answer[0][3][12:])[7]) == "172.17.0.2"


@pytest.mark.parametrize(
    ("kind", "flags", "expected"),
    [(NEWLINK, 0, errno.EPERM), (GETLINK, 0, errno.ENODEV), (200, 0, errno.EOPNOTSUPP)],
)
async def test_refusals(guest: FakeTask, kind: int, flags: int, expected: int) -> None:
    fd = await open_netlink(guest)
    body = struct.pack("<BxHiII", 0, 0, 9, 0, 0)
    [(answer, sequence, _, error)] = await ask(guest, fd, kind, flags, body)
    assert (answer, sequence) == (2, 7)
    assert struct.unpack_from("<i", error) == (-expected,)


async def test_nothing_to_list_is_an_empty_dump(guest: FakeTask) -> None:
    fd = await open_netlink(guest)
    assert [kind for kind, *_ in await ask(guest, fd, GETNEIGH, DUMP, bytes(12))] == [3]


async def test_garbage_is_survived(guest: FakeTask) -> None:
    fd = await open_netlink(guest)
    for garbage in (b"", b"x", b"\xff" * 64, struct.pack("<IHHII", 3, 18, 1, 0, 0)):
        await guest.call("sendto", fd, garbage, len(garbage), 0, 0, 0)
    assert len(await ask(guest, fd, GETLINK, DUMP, bytes(16))) == 3


async def test_closing_ends_our_side(guest: FakeTask) -> None:
    network = guest.process.container.network
    fd = await open_netlink(guest)
    assert network.netlinks == 1
    os.close(fd)
    guest.fds.remove(fd)
    while network.netlinks:
        await asyncio.sleep(0)


async def ifreq(task: FakeTask, fd: int, request: int, name: bytes) -> bytes:
    from kernel.errors import LinuxError
    from kernel.net.interfaces import socket_ioctl

    buffer = task.buffer(name.ljust(40, b"\0"))
    try:
        assert await task.finish(await socket_ioctl(task, fd, request, buffer)) == 0
    except LinuxError as error:
        return errno.errorcode[error.errno].encode()
    return task.read(buffer, 40)


async def test_interface_ioctls(guest: FakeTask) -> None:
    fd = await guest.call("socket", 2, 2, 0)
    assert (await ifreq(guest, fd, 0x8915, b"eth0"))[20:24] == bytes((172, 17, 0, 2))
    assert (await ifreq(guest, fd, 0x891B, b"eth0"))[20:24] == bytes((255, 255, 0, 0))
    assert (await ifreq(guest, fd, 0x8927, b"eth0"))[16:24] == b"\1\0\2\x42\xac\x11\0\2"
    assert struct.unpack_from("<i", await ifreq(guest, fd, 0x8933, b"lo"), 16) == (1,)
    assert struct.unpack_from("<i", await ifreq(guest, fd, 0x8921, b"eth0"), 16) == (1500,)
    assert struct.unpack_from("<H", await ifreq(guest, fd, 0x8913, b"lo"), 16)[0] & 9 == 9
    assert await ifreq(guest, fd, 0x8915, b"wlan0") == b"ENODEV"
    assert await ifreq(guest, fd, 0x8914, b"lo") == b"EPERM"
    assert await ifreq(guest, fd, 0x89FF, b"lo") == b"ENOTTY"
    named = await ifreq(guest, fd, 0x8910, bytes(16) + struct.pack("<i", 2))
    assert named.startswith(b"eth0\0")
    entries = guest.buffer(80)
    assert (await ifreq(guest, fd, 0x8912, struct.pack("<i4xQ", 80, entries)))[:4] == b"P\0\0\0"
    assert guest.read(entries, 2) == b"lo"
    assert guest.read(entries + 40, 4) == b"eth0"
    reader, writer = os.pipe()
    assert await ifreq(guest, reader, 0x8915, b"lo") == b"ENOTTY"
    os.close(reader)
    os.close(writer)
