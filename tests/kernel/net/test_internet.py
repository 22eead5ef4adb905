"""TCP and UDP of two containers: private, and looking like Linux from the inside."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct

import pytest
import uvloop

from kernel.capabilities import CAP_NET_ADMIN
from tests.kernel.net.fake import FakeContainer, FakeTask

STREAM, DGRAM, NONBLOCK = 1, 2, 0o4000
INET, INET6 = 2, 10
Address = tuple[str, int]
Pair = tuple[FakeContainer, FakeContainer]


def sockaddr(address: Address) -> bytes:
    host, port = address
    if ":" in host:
        return struct.pack("<H", INET6) + struct.pack(">H", port) + bytes(4) + socket.inet_pton(
            socket.AF_INET6, host
        ) + bytes(4)  # fmt: skip
    return struct.pack("<H", INET) + struct.pack(">H", port) + socket.inet_aton(host) + bytes(8)


def parse(data: bytes) -> Address:
    family, port = struct.unpack_from("<H", data)[0], struct.unpack_from(">H", data, 2)[0]
    if family == INET6:
        return socket.inet_ntop(socket.AF_INET6, data[8:24]), port
    return socket.inet_ntoa(data[4:8]), port


async def make(task: FakeTask, kind: int, domain: int = INET) -> int:
    fd = await task.call("socket", domain, kind, 0)
    assert fd >= 0
    return fd


async def bind(task: FakeTask, fd: int, *address: str | int) -> int:
    name = sockaddr((str(address[0]), int(address[1])))
    return await task.call("bind", fd, name, len(name))


async def connect(task: FakeTask, fd: int, *address: str | int) -> int:
    name = sockaddr((str(address[0]), int(address[1])))
    return await task.call("connect", fd, name, len(name))


async def name_of(task: FakeTask, fd: int, call: str = "getsockname") -> Address:
    where, length = task.buffer(28), task.buffer(struct.pack("<i", 28))
    assert await task.call(call, fd, where, length) == 0
    return parse(task.read(where, struct.unpack("<i", task.read(length, 4))[0]))


async def server(task: FakeTask, *address: str | int, domain: int = INET) -> int:
    fd = await make(task, STREAM, domain)
    assert await task.call("setsockopt", fd, 1, 2, struct.pack("<i", 1), 4) == 0  # SO_REUSEADDR
    assert await bind(task, fd, *address) == 0
    assert await task.call("listen", fd, 5) == 0
    return fd


async def accept(task: FakeTask, fd: int) -> tuple[int, Address]:
    where, length = task.buffer(28), task.buffer(struct.pack("<i", 28))
    new = await task.call("accept4", fd, where, length, 0)
    assert new >= 0
    return new, parse(task.read(where, struct.unpack("<i", task.read(length, 4))[0]))


async def sendto(task: FakeTask, fd: int, data: bytes, *address: str | int) -> int:
    name = sockaddr((str(address[0]), int(address[1])))
    return await task.call("sendto", fd, data, len(data), 0, name, len(name))


async def recvfrom(task: FakeTask, fd: int, flags: int = 0) -> tuple[bytes, Address]:
    data, where, length = task.buffer(2048), task.buffer(28), task.buffer(struct.pack("<i", 28))
    n = await asyncio.wait_for(task.call("recvfrom", fd, data, 2048, flags, where, length), 5)
    assert n >= 0, errno.errorcode[-n]
    return task.read(data, n), parse(task.read(where, struct.unpack("<i", task.read(length, 4))[0]))


@pytest.mark.parametrize(
    ("listening", "asked"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("0.0.0.0", "172.17.0.2"),
        ("0.0.0.0", "0.0.0.0"),
        ("172.17.0.2", "172.17.0.2"),
        ("127.0.0.53", "127.0.0.53"),
        ("0.0.0.0", "127.8.9.10"),
    ],
)
async def test_tcp_within_a_container(guest: FakeTask, listening: str, asked: str) -> None:
    listener = await server(guest, listening, 8080)
    assert await name_of(guest, listener) == (listening, 8080)
    client = await make(guest, STREAM)
    assert await connect(guest, client, asked, 8080) == 0
    accepted, peer = await accept(guest, listener)
    here = "127.0.0.1" if asked in ("0.0.0.0", "127.8.9.10") else asked
    assert await name_of(guest, accepted) == (here, 8080)
    assert await name_of(guest, client, "getpeername") == (here, 8080)
    assert await name_of(guest, client) == peer
    assert await name_of(guest, accepted, "getpeername") == peer
    assert peer[0] == here
    os.write(client, b"ping")
    assert os.read(accepted, 9) == b"ping"


@pytest.mark.parametrize("address", ["::1", "::", "::ffff:127.0.0.1"])
async def test_tcp6_within_a_container(guest: FakeTask, address: str) -> None:
    listener = await server(guest, address, 80, domain=INET6)
    assert await name_of(guest, listener) == (address, 80)
    client = await make(guest, STREAM, INET6)
    target = "::1" if address == "::" else address
    assert await connect(guest, client, target, 80) == 0
    accepted, peer = await accept(guest, listener)
    assert await name_of(guest, accepted) == (target, 80)
    assert await name_of(guest, client) == peer
    assert peer[0] == target


async def test_a_dual_stack_server_gets_ipv4_clients(guest: FakeTask) -> None:
    listener = await server(guest, "::", 8080, domain=INET6)
    client = await make(guest, STREAM)
    assert await connect(guest, client, "127.0.0.1", 8080) == 0
    accepted, peer = await accept(guest, listener)
    assert peer[0] == "::ffff:127.0.0.1"
    assert await name_of(guest, accepted) == ("::ffff:127.0.0.1", 8080)
    assert (await name_of(guest, client, "getpeername")) == ("127.0.0.1", 8080)


async def v6only(task: FakeTask) -> int:
    fd = await make(task, STREAM, INET6)
    assert await task.call("setsockopt", fd, 41, 26, struct.pack("<i", 1), 4) == 0
    value, length = task.buffer(4), task.buffer(struct.pack("<i", 4))
    assert await task.call("getsockopt", fd, 41, 26, value, length) == 0
    assert task.read(value, 4) == struct.pack("<i", 1)
    return fd


async def test_nginx_listens_on_both_families(guest: FakeTask) -> None:
    four = await server(guest, "0.0.0.0", 80)
    six = await v6only(guest)
    assert await bind(guest, six, "::", 80) == 0
    assert await guest.call("listen", six, 5) == 0
    for family, address, listener in ((INET, "127.0.0.1", four), (INET6, "::1", six)):
        client = await make(guest, STREAM, family)
        assert await connect(guest, client, address, 80) == 0
        await accept(guest, listener)


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        ("0.0.0.0", "0.0.0.0", errno.EADDRINUSE),
        ("0.0.0.0", "127.0.0.1", errno.EADDRINUSE),
        ("127.0.0.1", "0.0.0.0", errno.EADDRINUSE),
        ("127.0.0.1", "172.17.0.2", 0),
        ("127.0.0.1", "127.0.0.2", 0),
        ("0.0.0.0", "::", errno.EADDRINUSE),
        ("::", "0.0.0.0", errno.EADDRINUSE),
        ("::", "127.0.0.1", errno.EADDRINUSE),
        ("::1", "127.0.0.1", 0),
        ("::1", "::", errno.EADDRINUSE),
        ("8.8.8.8", "", errno.EADDRNOTAVAIL),
    ],
)
@pytest.mark.parametrize("kind", [STREAM, DGRAM])
async def test_binds_collide_as_on_linux(
    guest: FakeTask, first: str, second: str, outcome: int, kind: int
) -> None:
    one = await make(guest, kind, INET6 if ":" in first else INET)
    result = await bind(guest, one, first, 5000)
    if not second:
        assert result == -outcome
        return
    assert result == 0
    if kind == STREAM:
        assert await guest.call("listen", one, 1) == 0
    two = await make(guest, kind, INET6 if ":" in second else INET)
    assert await bind(guest, two, second, 5000) == -outcome


async def test_two_containers_listen_on_one_port(guest: FakeTask, neighbour: FakeTask) -> None:
    mine, theirs = await server(guest, "0.0.0.0", 80), await server(neighbour, "0.0.0.0", 80)
    for task, listener in ((guest, mine), (neighbour, theirs)):
        client = await make(task, STREAM)
        assert await connect(task, client, "127.0.0.1", 80) == 0
        await accept(task, listener)


async def test_containers_reach_each_other_by_address(guest: FakeTask, neighbour: FakeTask) -> None:
    listener = await server(neighbour, "0.0.0.0", 5432)
    client = await make(guest, STREAM)
    assert await connect(guest, client, "172.17.0.3", 5432) == 0
    accepted, peer = await accept(neighbour, listener)
    assert peer[0] == "172.17.0.2"
    assert peer == await name_of(guest, client)
    assert await name_of(neighbour, accepted) == ("172.17.0.3", 5432)
    assert await name_of(guest, client, "getpeername") == ("172.17.0.3", 5432)


async def test_loopback_listeners_are_private(guest: FakeTask, neighbour: FakeTask) -> None:
    await server(neighbour, "127.0.0.1", 5432)
    client = await make(guest, STREAM)
    assert await connect(guest, client, "172.17.0.3", 5432) == -errno.ECONNREFUSED
    client = await make(guest, STREAM)
    assert await connect(guest, client, "127.0.0.1", 5432) == -errno.ECONNREFUSED


@pytest.mark.parametrize("name", ["127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"])
async def test_the_hosts_loopback_is_out_of_reach(guest: FakeTask, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service:
        client = await make(guest, STREAM, INET6 if ":" in name else INET)
        port = service.getsockname()[1]
        assert await connect(guest, client, name, port) == -errno.ECONNREFUSED


async def test_a_host_service_on_every_address_is_not_the_containers(guest: FakeTask) -> None:
    owner = guest.process.container.network.owner
    from kernel.net import plan

    _, host_port = plan.host_endpoint(owner, plan.LOOPBACK4, 7000)
    with socket.create_server(("0.0.0.0", host_port)):
        client = await make(guest, STREAM)
        assert await connect(guest, client, "127.0.0.1", 7000) == -errno.ECONNREFUSED


async def test_nonblocking_connect_leaves_the_outcome_to_so_error(guest: FakeTask) -> None:
    listener = await server(guest, "0.0.0.0", 8080)
    client = await make(guest, STREAM | NONBLOCK)
    assert await connect(guest, client, "127.0.0.1", 8080) == -errno.EINPROGRESS
    await accept(guest, listener)
    assert await so_error(guest, client) == 0
    assert await connect(guest, client, "127.0.0.1", 8080) in (0, -errno.EISCONN)
    refused = await make(guest, STREAM | NONBLOCK)
    assert await connect(guest, refused, "127.0.0.1", 8081) == -errno.EINPROGRESS
    assert await so_error(guest, refused) == errno.ECONNREFUSED


async def so_error(task: FakeTask, fd: int) -> int:
    value, length = task.buffer(4), task.buffer(struct.pack("<i", 4))
    assert await task.call("getsockopt", fd, 1, socket.SO_ERROR, value, length) == 0
    return int(struct.unpack("<i", task.read(value, 4))[0])


async def test_connecting_twice_is_eisconn(guest: FakeTask) -> None:
    await server(guest, "127.0.0.1", 8080)
    client = await make(guest, STREAM)
    assert await connect(guest, client, "127.0.0.1", 8080) == 0
    assert await connect(guest, client, "127.0.0.1", 8080) == -errno.EISCONN


def test_blocking_stays_blocking(guest: FakeTask) -> None:
    """On the loop the kernel uses, which makes what it watches non-blocking."""

    async def connected() -> int:
        await server(guest, "127.0.0.1", 8080)
        client = await make(guest, STREAM)
        assert await connect(guest, client, "127.0.0.1", 8080) == 0
        return client

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert os.get_blocking(runner.run(connected()))


async def test_port_zero_is_a_free_ephemeral_port(guest: FakeTask) -> None:
    listener = await make(guest, STREAM)
    assert await bind(guest, listener, "0.0.0.0", 0) == 0
    assert await bind(guest, listener, "0.0.0.0", 0) == -errno.EINVAL
    assert await guest.call("listen", listener, 1) == 0
    host, port = await name_of(guest, listener)
    assert host == "0.0.0.0"
    assert 32768 <= port <= 60999
    client = await make(guest, STREAM)
    assert await connect(guest, client, "127.0.0.1", port) == 0


async def test_listen_without_bind_is_private(guest: FakeTask) -> None:
    listener = await make(guest, STREAM)
    assert await guest.call("listen", listener, 1) == 0
    with socket.socket(fileno=os.dup(listener)) as host:
        address = host.getsockname()[0]
    assert address.startswith("127.")
    assert address != "127.0.0.1"


async def test_a_client_may_bind_to_port_zero_first(guest: FakeTask) -> None:
    listener = await server(guest, "127.0.0.1", 8080)
    client = await make(guest, STREAM)
    assert await bind(guest, client, "0.0.0.0", 0) == 0
    assert await connect(guest, client, "127.0.0.1", 8080) == 0
    _, peer = await accept(guest, listener)
    assert peer[0] == "127.0.0.1"


async def test_the_outside_is_reached_from_the_ethernet_address(guest: FakeTask) -> None:
    """A datagram connect sends nothing; 192.0.2.200 is a documentation address."""
    fd = await make(guest, DGRAM)
    result = await connect(guest, fd, "198.51.100.7", 53)
    if result == -errno.ENETUNREACH:
        pytest.skip("this machine has no route to anywhere")
    assert result == 0
    assert (await name_of(guest, fd))[0] == "172.17.0.2"
    assert await name_of(guest, fd, "getpeername") == ("198.51.100.7", 53)


async def test_udp_request_and_answer(guest: FakeTask) -> None:
    service = await make(guest, DGRAM)
    assert await bind(guest, service, "0.0.0.0", 53) == 0
    client = await make(guest, DGRAM)
    assert await sendto(guest, client, b"who", "127.0.0.1", 53) == 3
    data, peer = await recvfrom(guest, service)
    assert (data, peer[0]) == (b"who", "127.0.0.1")
    assert peer[1] == (await name_of(guest, client))[1]
    assert await sendto(guest, service, b"me", *peer) == 2
    assert await recvfrom(guest, client) == (b"me", ("127.0.0.1", 53))


async def test_udp_between_containers(guest: FakeTask, neighbour: FakeTask) -> None:
    service = await make(neighbour, DGRAM)
    assert await bind(neighbour, service, "0.0.0.0", 53) == 0
    client = await make(guest, DGRAM)
    assert await connect(guest, client, "172.17.0.3", 53) == 0
    os.write(client, b"who")
    data, peer = await recvfrom(neighbour, service)
    assert (data, peer[0]) == (b"who", "172.17.0.2")
    assert await sendto(neighbour, service, b"me", *peer) == 2
    assert os.read(client, 9) == b"me"


async def test_udp_on_a_port_of_the_hosts_choice(guest: FakeTask) -> None:
    service, client = await make(guest, DGRAM), await make(guest, DGRAM)
    assert await bind(guest, service, "0.0.0.0", 0) == 0
    _, port = await name_of(guest, service)
    assert await connect(guest, client, "127.0.0.1", port) == 0
    os.write(client, b"who")
    data, peer = await recvfrom(guest, service)
    assert await sendto(guest, service, data, *peer) == 3
    assert os.read(client, 9) == b"who"
    assert await name_of(guest, client, "getpeername") == ("127.0.0.1", port)


async def test_udp6(guest: FakeTask) -> None:
    service, client = await make(guest, DGRAM, INET6), await make(guest, DGRAM, INET6)
    assert await bind(guest, service, "::1", 53) == 0
    assert await sendto(guest, client, b"who", "::1", 53) == 3
    data, peer = await recvfrom(guest, service)
    assert (data, peer[0]) == (b"who", "::1")
    assert await sendto(guest, service, b"me", *peer) == 2
    assert await recvfrom(guest, client) == (b"me", ("::1", 53))


async def test_udp_to_nobody_is_refused_when_connected(guest: FakeTask) -> None:
    client = await make(guest, DGRAM)
    assert await connect(guest, client, "127.0.0.1", 9) == 0
    os.write(client, b"x")
    with pytest.raises(ConnectionRefusedError):
        os.write(client, b"x")


async def test_the_host_cannot_be_addressed_by_datagram(guest: FakeTask) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.bind(("127.0.0.1", 0))
        service.setblocking(False)
        client = await make(guest, DGRAM)
        await sendto(guest, client, b"x", "127.0.0.1", service.getsockname()[1])
        with pytest.raises(BlockingIOError):
            service.recv(9)


async def test_no_network_has_loopback_only(tmp_path: object) -> None:
    from pathlib import Path

    container = FakeContainer(Path(str(tmp_path)), "127.3.0.9", "n", "none")
    task = container.task()
    listener = await server(task, "127.0.0.1", 8080)
    client = await make(task, STREAM)
    assert await connect(task, client, "127.0.0.1", 8080) == 0
    await accept(task, listener)
    client = await make(task, STREAM)
    assert await connect(task, client, "198.51.100.7", 80) == -errno.ENETUNREACH
    container.close()


async def test_a_sleeping_connect_is_interrupted_and_resumed(guest: FakeTask) -> None:
    listener = await make(guest, STREAM)
    assert await bind(guest, listener, "127.0.0.1", 8080) == 0
    assert await guest.call("listen", listener, 0) == 0
    fillers = []
    while True:  # fill the backlog
        fd = await make(guest, STREAM | NONBLOCK)
        fillers.append(fd)
        assert await connect(guest, fd, "127.0.0.1", 8080) == -errno.EINPROGRESS
        if await so_error(guest, fd) == 0 and not _connected(fd):
            break
        assert len(fillers) < 64
    client = await make(guest, STREAM)
    for _ in range(2):  # the restarted call waits for the same connection
        sleeping = asyncio.create_task(connect(guest, client, "127.0.0.1", 8080))
        while not guest.interrupt():
            await asyncio.sleep(0)
        assert await sleeping == -errno.EINTR
    timeout = struct.pack("<qq", 0, 1000)
    assert await guest.call("setsockopt", client, 1, 21, timeout, 16) == 0  # SO_SNDTIMEO
    assert await connect(guest, client, "127.0.0.1", 8080) == -errno.EINPROGRESS


def _connected(fd: int) -> bool:
    with socket.socket(fileno=os.dup(fd)) as s:
        try:
            s.getpeername()
        except OSError:
            return False
        return True


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ((17, 3, 0), errno.EPERM),  # AF_PACKET
        ((2, 3, 1), errno.EPERM),  # a raw socket
        ((2, 1, 262), errno.EPROTONOSUPPORT),  # MPTCP
        ((40, 1, 0), errno.EAFNOSUPPORT),  # AF_VSOCK
        ((2, 1 | 0x40, 0), errno.EINVAL),
        ((16, 3, 9), errno.EPROTONOSUPPORT),  # NETLINK_AUDIT
    ],
)
async def test_sockets_we_do_not_make(
    guest: FakeTask, call: tuple[int, ...], expected: int
) -> None:
    assert await guest.call("socket", *call) == -expected


async def test_addresses_are_checked(guest: FakeTask) -> None:
    fd = await make(guest, STREAM)
    name = sockaddr(("127.0.0.1", 80))
    assert await guest.call("bind", fd, name, 8) == -errno.EINVAL
    assert await guest.call("bind", fd, None, 16) == -errno.EFAULT
    assert await guest.call("bind", fd, name, -1) == -errno.EINVAL
    assert await guest.call("bind", fd, b"\1\0" + name[2:], 16) == -errno.EAFNOSUPPORT
    assert await guest.call("bind", 1022, name, 16) == -errno.EBADF
    reader, writer = os.pipe()
    assert await guest.call("bind", reader, name, 16) == -errno.ENOTSOCK
    os.close(reader)
    os.close(writer)


async def test_privileged_options(guest: FakeTask) -> None:
    fd = await make(guest, STREAM)
    one = struct.pack("<i", 1)
    assert await guest.call("setsockopt", fd, 1, 33, one, 4) == -errno.EPERM  # SO_RCVBUFFORCE
    assert await guest.call("setsockopt", fd, 1, 12, struct.pack("<i", 6), 4) == 0
    assert await guest.call("setsockopt", fd, 1, 25, b"eth0\0", 5) == 0
    value, length = guest.buffer(16), guest.buffer(struct.pack("<i", 16))
    assert await guest.call("getsockopt", fd, 1, 25, value, length) == 0
    assert guest.read(value, 5) == b"eth0\0"
    assert await guest.call("setsockopt", fd, 1, 25, b"wlan0\0", 6) == -errno.ENODEV
    assert not guest.credentials.can(CAP_NET_ADMIN)
    assert await guest.call("setsockopt", fd, 1, 2, one, 4) == 0  # SO_REUSEADDR: the host's


async def test_the_resolver_of_the_network_is_the_hosts(guest: FakeTask) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        endpoint = (socket.inet_aton("127.0.0.1"), server.getsockname()[1])
        guest.process.container.network.forwards[socket.inet_aton("127.0.0.11"), 53] = endpoint
        client = await make(guest, DGRAM)
        assert await bind(guest, client, "0.0.0.0", 0) == 0  # as musl does
        assert await sendto(guest, client, b"name?", "127.0.0.11", 53) == 5
        query, peer = server.recvfrom(64)
        server.sendto(query.upper(), peer)
        assert await recvfrom(guest, client) == (b"NAME?", ("127.0.0.11", 53))
        assert await connect(guest, client, "127.0.0.11", 53) == 0
        assert await name_of(guest, client, "getpeername") == ("127.0.0.11", 53)
