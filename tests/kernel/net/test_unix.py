"""AF_UNIX: names, files, descriptors and identities."""

from __future__ import annotations

import array
import asyncio
import errno
import os
import socket
import stat
import struct
from typing import Any

import pytest

from kernel.credentials import container_credentials
from kernel.fs.resolver import resolve
from tests.kernel.net.fake import FakeContainer, FakeTask

STREAM, DGRAM, SEQPACKET, NONBLOCK = 1, 2, 5, 0o4000
Pair = tuple[FakeContainer, FakeContainer]


def sun(path: bytes) -> bytes:
    return struct.pack("<H", 1) + path + (b"" if path[:1] == b"\0" else b"\0")


async def make(task: FakeTask, kind: int = STREAM) -> int:
    return await task.call("socket", 1, kind, 0)


async def name(task: FakeTask, call: str, fd: int, path: bytes) -> int:
    return await task.call(call, fd, sun(path), len(sun(path)))


async def name_of(task: FakeTask, fd: int, call: str = "getsockname") -> bytes:
    where, length = task.buffer(112), task.buffer(struct.pack("<i", 112))
    assert await task.call(call, fd, where, length) == 0
    data = task.read(where, struct.unpack("<i", task.read(length, 4))[0])
    assert data[:2] == b"\1\0"
    return data[2:]


async def listening(task: FakeTask, path: bytes, kind: int = STREAM) -> int:
    fd = await make(task, kind)
    assert await name(task, "bind", fd, path) == 0
    assert await task.call("listen", fd, 1) == 0
    return fd


async def peer_credentials(task: FakeTask, fd: int) -> tuple[int, int, int]:
    value, length = task.buffer(12), task.buffer(struct.pack("<i", 12))
    assert await task.call("getsockopt", fd, 1, 17, value, length) == 0
    return struct.unpack("<3i", task.read(value, 12))


@pytest.mark.parametrize(
    "path", [b"/sock", b"sock", b"\0name", b"/" + b"x" * 100, b"\0" + b"y" * 107]
)
@pytest.mark.parametrize("kind", [STREAM, SEQPACKET])
async def test_connection(guest: FakeTask, path: bytes, kind: int) -> None:
    listener = await listening(guest, path, kind)
    shown = path + (b"" if path[0] == 0 else b"\0")
    assert await name_of(guest, listener) == shown
    client = await make(guest, kind)
    assert await name(guest, "connect", client, path) == 0
    where, length = guest.buffer(112), guest.buffer(struct.pack("<i", 112))
    accepted = await guest.call("accept4", listener, where, length, 0)
    assert guest.read(length, 4) == struct.pack("<i", 2)  # an unnamed peer
    assert await name_of(guest, client) == b""
    assert await name_of(guest, client, "getpeername") == shown
    assert await name_of(guest, accepted) == shown
    assert await name_of(guest, accepted, "getpeername") == b""
    os.write(client, b"hello")
    assert os.read(accepted, 9) == b"hello"


async def test_the_file_is_a_socket_with_an_owner(containers: Pair) -> None:
    task = containers[0].task(container_credentials(0, 0, []).setresuid(-1 & 0xFFFFFFFF, 0, 0))
    task.fs.umask = 0o027
    await listening(task, b"/s")
    attributes = resolve(task, task.fs.root, b"/s").attributes()
    assert stat.S_ISSOCK(attributes.mode)
    assert stat.S_IMODE(attributes.mode) == 0o750


@pytest.mark.parametrize(
    ("call", "path", "expected"),
    [
        ("bind", b"/taken", errno.EADDRINUSE),
        ("bind", b"/missing/s", errno.ENOENT),
        ("bind", b"/taken/s", errno.ENOTDIR),
        ("connect", b"/missing", errno.ENOENT),
        ("connect", b"\0missing", errno.ECONNREFUSED),
        ("bind", b"\0taken", errno.EADDRINUSE),
    ],
)
async def test_failures(guest: FakeTask, call: str, path: bytes, expected: int) -> None:
    await listening(guest, b"/taken")
    await listening(guest, b"\0taken")
    assert await name(guest, call, await make(guest), path) == -expected


async def test_a_second_bind_is_einval_and_leaves_no_file(guest: FakeTask) -> None:
    fd = await make(guest)
    assert await name(guest, "bind", fd, b"/one") == 0
    assert await name(guest, "bind", fd, b"/two") == -errno.EINVAL
    assert await name(guest, "connect", await make(guest), b"/two") == -errno.ENOENT


async def test_nobody_listens_behind_a_left_over_file(guest: FakeTask) -> None:
    fd = await make(guest)
    assert await name(guest, "bind", fd, b"/s") == 0
    os.close(fd)
    guest.fds.remove(fd)
    assert await name(guest, "connect", await make(guest), b"/s") == -errno.ECONNREFUSED


async def test_a_user_may_not_connect_without_write_permission(containers: Pair) -> None:
    root, user = containers[0].task(), containers[0].task(container_credentials(9, 9, []))
    await listening(root, b"/s")  # 0755 with the usual umask
    assert await name(user, "connect", await make(user), b"/s") == -errno.EACCES


async def test_abstract_names_are_private(guest: FakeTask, neighbour: FakeTask) -> None:
    await listening(guest, b"\0name")
    other = await make(neighbour)
    assert await name(neighbour, "connect", other, b"\0name") == -errno.ECONNREFUSED
    assert await name(neighbour, "bind", other, b"\0name") == 0


async def test_autobind(guest: FakeTask) -> None:
    fd = await make(guest)
    assert await guest.call("bind", fd, b"\1\0", 2) == 0
    found = await name_of(guest, fd)
    assert len(found) == 6
    assert int(found[1:], 16) >= 0


async def test_peers_are_known_by_their_virtual_identity(containers: Pair) -> None:
    server, client = containers[0].task(), containers[0].task(container_credentials(0, 7, []))
    listener = await listening(server, b"\0s")
    fd = await make(client)
    assert await name(client, "connect", fd, b"\0s") == 0
    accepted = await server.call("accept4", listener, 0, 0, 0)
    assert await peer_credentials(server, accepted) == (client.process.pid, 0, 7)
    assert await peer_credentials(client, fd) == (server.process.pid, 0, 0)
    sv = server.buffer(8)
    assert await server.call("socketpair", 1, STREAM, 0, sv) == 0
    one, _ = struct.unpack("<2i", server.read(sv, 8))
    assert await peer_credentials(server, one) == (server.process.pid, 0, 0)
    assert await peer_credentials(server, await make(server)) == (0, -1, -1)


async def test_datagrams_tell_who_sent_them(guest: FakeTask) -> None:
    service, client = await make(guest, DGRAM), await make(guest, DGRAM)
    assert await name(guest, "bind", service, b"/service") == 0
    assert await name(guest, "bind", client, b"\0client") == 0
    target = sun(b"/service")
    assert await guest.call("sendto", client, b"hi", 2, 0, target, len(target)) == 2
    data, where, length = guest.buffer(9), guest.buffer(112), guest.buffer(struct.pack("<i", 112))
    assert await guest.call("recvfrom", service, data, 9, 0, where, length) == 2
    size = struct.unpack("<i", guest.read(length, 4))[0]
    assert guest.read(where, size) == struct.pack("<H", 1) + b"\0client"
    # an unbound sender has no address at all
    assert (
        await guest.call("sendto", await make(guest, DGRAM), b"x", 1, 0, target, len(target)) == 1
    )
    assert await guest.call("recvfrom", service, data, 9, 0, where, length) == 1
    assert guest.read(length, 4) == bytes(4)


async def test_a_full_datagram_queue_makes_the_sender_sleep(guest: FakeTask) -> None:
    service, client = await make(guest, DGRAM), await make(guest, DGRAM)
    assert await name(guest, "bind", service, b"\0s") == 0
    target = sun(b"\0s")
    dontwait = 0
    while await guest.call("sendto", client, b"x", 1, 0x40, target, len(target)) == 1:
        dontwait += 1
    sleeping = asyncio.create_task(guest.call("sendto", client, b"y", 1, 0, target, len(target)))
    while guest.interrupted is None:
        await asyncio.sleep(0)
    for _ in range(dontwait):
        os.read(service, 9)
    assert await sleeping == 1
    assert os.read(service, 9) == b"y"


def msghdr(
    task: FakeTask,
    data: int,
    size: int,
    control: int = 0,
    room: int = 0,
    name: int = 0,
    length: int = 0,
) -> int:
    iov = task.buffer(struct.pack("<QQ", data, size))
    return task.buffer(struct.pack("<QiIQQQQII", name, length, 0, iov, 1, control, room, 0, 0))


def rights(*fds: int) -> bytes:
    data = array.array("i", fds).tobytes()
    return struct.pack("<Qii", 16 + len(data), 1, 1) + data + bytes(-len(data) % 8)


def credentials(*who: int) -> bytes:
    return struct.pack("<QiiiIi4x", 28, 1, 2, *who)


async def send(task: FakeTask, fd: int, data: bytes, control: bytes = b"") -> int:
    header = msghdr(task, task.buffer(data), len(data), task.buffer(control), len(control))
    return await task.call("sendmsg", fd, header, 0)


async def receive(task: FakeTask, fd: int, room: int = 128) -> tuple[bytes, bytes, int]:
    """(data, control, flags)."""
    data, control = task.buffer(64), task.buffer(room)
    header = msghdr(task, data, 64, control if room else 0, room)
    n = await asyncio.wait_for(task.call("recvmsg", fd, header, 0), 5)
    assert n >= 0, errno.errorcode[-n]
    used, flags = struct.unpack("<QI", task.read(header + 40, 12))
    return task.read(data, n), task.read(control, used), flags


async def pair(task: FakeTask, kind: int = STREAM) -> tuple[int, int]:
    sv = task.buffer(8)
    assert await task.call("socketpair", 1, kind, 0, sv) == 0
    one, two = struct.unpack("<2i", task.read(sv, 8))
    return one, two


async def test_descriptors_travel(guest: FakeTask) -> None:
    one, two = await pair(guest)
    reader, writer = os.pipe()
    assert await send(guest, one, b"take", rights(reader, writer)) == 4
    data, control, flags = await receive(guest, two)
    assert (data, flags) == (b"take", 0)
    length, level, kind = struct.unpack_from("<Qii", control)
    assert (length, level, kind) == (24, 1, 1)
    new_reader, new_writer = struct.unpack_from("<2i", control, 16)
    os.write(new_writer, b"x")
    assert os.read(reader, 1) == b"x"
    for fd in (reader, writer, new_reader, new_writer):
        os.close(fd)


@pytest.mark.parametrize("markers", [False, True])
async def test_descriptors_that_do_not_fit_are_closed(guest: FakeTask, markers: bool) -> None:
    guest.process.container.network.markers = markers  # then the kernel asks for more than fits
    one, two = await pair(guest)
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    assert await send(guest, one, b"x", rights(writer, writer)) == 1
    os.close(writer)
    _, control, flags = await receive(guest, two, room=20)
    assert flags & 8  # MSG_CTRUNC
    assert struct.unpack_from("<Q", control)[0] == 20
    os.close(struct.unpack_from("<i", control, 16)[0])
    assert os.read(reader, 1) == b""  # nobody holds the pipe's other end
    os.close(reader)


async def test_flagged_files_stay_flagged(guest: FakeTask) -> None:
    one, two = await pair(guest)
    directory = os.open("/", os.O_RDONLY)
    open_file: Any = object()
    guest.process.files.set(directory, open_file)
    assert await send(guest, one, b"x", rights(directory)) == 1
    _, control, _ = await receive(guest, two)
    got = struct.unpack_from("<i", control, 16)[0]
    assert guest.process.files.get(got) is open_file
    os.close(got)
    os.close(directory)


async def test_bad_descriptors_and_claims(guest: FakeTask, containers: Pair) -> None:
    one, _ = await pair(guest)
    assert await send(guest, one, b"x", rights(999)) == -errno.EBADF
    assert await send(guest, one, b"x", credentials(4711, 0, 0)) == -errno.EPERM
    user = containers[0].task(container_credentials(9, 9, []))
    assert await send(user, one, b"x", credentials(user.process.pid, 0, 9)) == -errno.EPERM
    assert await send(guest, one, b"x", struct.pack("<Qii", 8, 1, 1)) == -errno.EINVAL


async def test_identities_travel(containers: Pair) -> None:
    sender, receiver = containers[0].task(container_credentials(5, 6, [])), containers[0].task()
    one, two = await pair(sender)
    on = struct.pack("<i", 1)
    assert await receiver.call("setsockopt", two, 1, 16, on, 4) == 0  # SO_PASSCRED
    me = (sender.process.pid, 5, 6)
    assert await send(sender, one, b"claimed", credentials(*me)) == 7
    data, control, flags = await receive(receiver, two)
    assert (data, flags) == (b"claimed", 0)
    assert control == credentials(*me)
    reader, writer = os.pipe()
    assert await send(sender, one, b"both", rights(reader)) == 4
    _, control, _ = await receive(receiver, two)
    found = {}
    while control:
        length, _, kind = struct.unpack_from("<Qii", control)
        found[kind] = control[16:length]
        control = control[(length + 7) & ~7 :]
    assert struct.unpack("<3i", found[2]) == me
    got = array.array("i", found[1])
    assert len(got) == 1
    for fd in (reader, writer, *got):
        os.close(fd)


async def test_gathered_messages_are_one_datagram(guest: FakeTask) -> None:
    one, two = await pair(guest, SEQPACKET)
    parts = [guest.buffer(b"one "), guest.buffer(b"two "), guest.buffer(b"three")]
    iov = guest.buffer(
        b"".join(struct.pack("<QQ", p, n) for p, n in zip(parts, (4, 4, 5), strict=True))
    )
    header = guest.buffer(struct.pack("<QiIQQQQII", 0, 0, 0, iov, 3, 0, 0, 0, 0))
    assert await guest.call("sendmsg", one, header, 0) == 13
    assert os.read(two, 99) == b"one two three"


async def test_large_gathered_messages(guest: FakeTask) -> None:
    one, two = await pair(guest)
    half = os.urandom(50_000)
    iov = guest.buffer(struct.pack("<QQQQ", guest.buffer(half), 50_000, guest.buffer(half), 50_000))
    header = guest.buffer(struct.pack("<QiIQQQQII", 0, 0, 0, iov, 2, 0, 0, 0, 0))
    sending = asyncio.create_task(guest.call("sendmsg", one, header, 0))
    got = b""
    while len(got) < 100_000:
        got += await asyncio.to_thread(os.read, two, 1 << 17)
    assert got == half * 2
    assert await sending == 100_000


async def test_sendmmsg_and_recvmmsg(guest: FakeTask) -> None:
    one, two = await pair(guest, DGRAM)
    outgoing = b"".join(
        guest.read(msghdr(guest, guest.buffer(text), len(text)), 56) + bytes(8)
        for text in (b"first", b"second!", b"3")
    )
    vector = guest.buffer(outgoing)
    assert await guest.call("sendmmsg", one, vector, 3, 0) == 3
    assert [struct.unpack("<I", guest.read(vector + 64 * i + 56, 4))[0] for i in range(3)] == [
        5,
        7,
        1,
    ]
    buffers = [guest.buffer(32) for _ in range(4)]
    names = [guest.buffer(112) for _ in range(4)]
    incoming = guest.buffer(
        b"".join(
            guest.read(msghdr(guest, b, 32, name=n, length=112), 56) + bytes(8)
            for b, n in zip(buffers, names, strict=True)
        )
    )
    waitforone = 0x10000
    assert await guest.call("recvmmsg", two, incoming, 4, waitforone, 0) == 3
    sizes = [struct.unpack("<I", guest.read(incoming + 64 * i + 56, 4))[0] for i in range(3)]
    assert [guest.read(b, n) for b, n in zip(buffers, sizes, strict=False)] == [
        b"first",
        b"second!",
        b"3",
    ]


async def test_connecting_to_a_full_backlog_sleeps(guest: FakeTask) -> None:
    listener = await listening(guest, b"\0s")
    while True:
        fd = await make(guest, STREAM | NONBLOCK)
        result = await name(guest, "connect", fd, b"\0s")
        if result:
            assert result == -errno.EAGAIN
            break
    client = await make(guest)
    sleeping = asyncio.create_task(name(guest, "connect", client, b"\0s"))
    while guest.interrupted is None:
        await asyncio.sleep(0)
    await guest.call("accept4", listener, 0, 0, 0)
    assert await sleeping == 0
    assert os.get_blocking(client)


async def test_a_real_socket_of_the_hosts_in_a_bind_mount(
    guest: FakeTask, containers: Pair, tmp_path: object
) -> None:
    from pathlib import Path

    from kernel.fs.bind import BindFs

    shared = Path(str(tmp_path)) / "shared"
    shared.mkdir()
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(shared / "docker.sock"))
        service.listen()
        fs = BindFs(os.fsencode(shared))
        guest.fs.cwd = fs.root
        client = await make(guest)
        assert await name(guest, "connect", client, b"docker.sock") == 0
        service.accept()[0].close()
        # and two containers meet in a socket file of their own there
        await listening(guest, b"meet")
        other = containers[1].task()
        other.fs.cwd = BindFs(os.fsencode(shared)).root
        assert await name(other, "connect", await make(other), b"meet") == 0
