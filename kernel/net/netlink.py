"""NETLINK_ROUTE sockets (rtnetlink(7)): the guest holds one end of a socketpair, we answer.

Only questions are answered: devices, addresses, routes. That is what `ip addr`, getifaddrs(3),
getaddrinfo(3) and Go's net package ask. Requests that would change anything get EPERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import select
import socket
import struct
from typing import TYPE_CHECKING, Final

from kernel.net import hostsock, plan, sockaddr
from kernel.net.interfaces import ARPHRD_ETHER, IFF_LOOPBACK, Interface, interfaces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel.net.network import Network

NETLINK_ROUTE: Final = 0
_HEADER = struct.Struct("<IHHII")
_ATTRIBUTE = struct.Struct("<HH")
_IFINFO = struct.Struct("<BxHiII")
_IFADDR = struct.Struct("<BBBBI")
_ROUTE = struct.Struct("<BBBBBBBBI")
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_MULTI, _NLM_F_ACK, _NLM_F_DUMP = 1, 2, 4, 0x300
_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_RTM_MAX: Final = 124
_BUFFER: Final = 65536
_RT_TABLE_MAIN, _RT_TABLE_LOCAL = 254, 255
_PERMANENT: Final = 0x80


class NetlinkSocket:
    """Our end of a guest's netlink socket. It lives until the guest's last descriptor is closed."""

    def __init__(self, network: Network, kind: int, protocol: int) -> None:
        self.network = network
        self.kind = kind
        self.protocol = protocol
        self.port_id = 0
        self.groups = 0
        self.cookie = 0
        self._ours, guest = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self.guest_fd = guest.detach()
        network.netlinks += 1
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._ours.fileno(), self._readable)

    def name(self) -> bytes:
        """The guest's getsockname(2)."""
        return sockaddr.netlink(self.port_id, self.groups)

    def close(self) -> None:
        """The guest closed its end, or the container has ended."""
        if self._ours.fileno() >= 0:
            self._loop.remove_reader(self._ours.fileno())
            self._ours.close()
            self.network.netlinks -= 1
            self.network.forget(self.cookie)

    def send(self, data: bytes) -> None:
        """Queue a datagram for the guest; one that does not read loses it, as on Linux."""
        with contextlib.suppress(OSError):
            self._ours.send(data)

    def _readable(self) -> None:
        try:
            data = self._ours.recv(_BUFFER)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data and hostsock.poll_now(self._ours.fileno(), 0) & select.POLLHUP:
            self.close()
            return
        for answer in self.answers(data):
            self.send(answer)

    def answers(self, data: bytes) -> Iterator[bytes]:
        """The datagrams that answer the requests in `data`."""
        while len(data) >= _HEADER.size:
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data)
            if length < _HEADER.size or length > len(data):
                return
            body = data[_HEADER.size : length]
            if flags & _NLM_F_REQUEST and kind >= 16:
                yield from self._answer(kind, flags, sequence, body, data[:length])
            data = data[(length + 3) & ~3 :]

    def _answer(
        self, kind: int, flags: int, sequence: int, body: bytes, request: bytes
    ) -> Iterator[bytes]:
        asks = kind & 3 == 2 and kind <= _RTM_MAX
        if not asks:
            yield self._error(-errno.EPERM if kind <= _RTM_MAX else -errno.EOPNOTSUPP, request)
            return
        if flags & _NLM_F_DUMP:
            parts = [
                self._message(new, _NLM_F_MULTI, sequence, payload)
                for new, payload in self._dump(kind, body)
            ]
            if parts:
                yield b"".join(parts)
            yield self._message(_NLMSG_DONE, _NLM_F_MULTI, sequence, bytes(4))
            return
        found = self._get(kind, body)
        if isinstance(found, int):
            yield self._error(found, request)
            return
        yield self._message(found[0], 0, sequence, found[1])
        if flags & _NLM_F_ACK:
            yield self._error(0, request)

    def _message(self, kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
        length = _HEADER.size + len(payload)
        header = _HEADER.pack(length, kind, flags, sequence, self.port_id)
        return header + payload + bytes(-length % 4)

    def _error(self, number: int, request: bytes) -> bytes:
        sequence = _HEADER.unpack_from(request)[3]
        quoted = request if number else request[: _HEADER.size]
        return self._message(_NLMSG_ERROR, 0, sequence, struct.pack("<i", number) + quoted)

    # -- what there is -----------------------------------------------------------------------------

    def _dump(self, kind: int, body: bytes) -> list[tuple[int, bytes]]:
        family = body[0] if body else 0
        devices = interfaces(self.network)
        if kind == _RTM_GETLINK:
            return [(_RTM_NEWLINK, link(device)) for device in devices]
        if kind == _RTM_GETADDR:
            return [(_RTM_NEWADDR, a) for device in devices for a in addresses(device, family)]
        if kind == _RTM_GETROUTE:
            return [(_RTM_NEWROUTE, route) for route in routes(self.network, family)]
        return []  # neighbours, rules, queueing disciplines: none

    def _get(self, kind: int, body: bytes) -> tuple[int, bytes] | int:
        if kind == _RTM_GETLINK and len(body) >= _IFINFO.size:
            index = _IFINFO.unpack_from(body)[2]
            wanted = dict(_attributes(body[_IFINFO.size :]))
            name = wanted.get(3, wanted.get(53, b"")).rstrip(b"\0")
            for device in interfaces(self.network):
                if device.index == index or (not index and device.name == name):
                    return _RTM_NEWLINK, link(device)
            return -errno.ENODEV
        if kind == _RTM_GETROUTE and len(body) >= _ROUTE.size:
            return self._route_to(dict(_attributes(body[_ROUTE.size :])).get(1, b""))
        return -errno.EOPNOTSUPP

    def _route_to(self, destination: bytes) -> tuple[int, bytes] | int:
        """`ip route get`."""
        if len(destination) != 4:
            return -errno.ENETUNREACH
        network = self.network
        devices = {device.name: device for device in interfaces(network)}
        local = destination[0] == 127 or destination == network.ethernet
        device = devices[b"lo"] if local else devices.get(b"eth0")
        if device is None:
            return -errno.ENETUNREACH
        source = destination if local else device.address
        attributes = [_attribute(1, destination), _u32(4, device.index), _attribute(7, source)]
        if not local and destination[:2] != plan.SUBNET:
            attributes.append(_attribute(5, network.gateway))
        table = _RT_TABLE_LOCAL if local else _RT_TABLE_MAIN
        head = _ROUTE.pack(2, 32, 0, 0, table, 0, 0, 2 if local else 1, 0x200)
        return _RTM_NEWROUTE, head + b"".join(attributes)


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def _u32(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("<I", value))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]


def link(device: Interface) -> bytes:
    """An RTM_NEWLINK body."""
    ethernet = device.type == ARPHRD_ETHER
    return b"".join(
        (
            _IFINFO.pack(0, device.type, device.index, device.flags, 0),
            _attribute(3, device.name + b"\0"),  # IFLA_IFNAME
            _u32(13, device.queue),  # IFLA_TXQLEN
            _attribute(16, b"\6" if ethernet else b"\0"),  # IFLA_OPERSTATE: up, unknown
            _attribute(17, b"\0"),  # IFLA_LINKMODE
            _u32(4, device.mtu),  # IFLA_MTU
            _u32(27, 0),  # IFLA_GROUP
            _attribute(6, b"noqueue\0"),  # IFLA_QDISC
            _attribute(1, device.hardware),  # IFLA_ADDRESS
            _attribute(2, b"\xff" * 6 if ethernet else bytes(6)),  # IFLA_BROADCAST
            _attribute(23, bytes(192)),  # IFLA_STATS64
        )
    )


def addresses(device: Interface, family: int) -> list[bytes]:
    """The RTM_NEWADDR bodies of a device."""
    found = []
    loopback = bool(device.flags & IFF_LOOPBACK)
    forever = _attribute(6, struct.pack("<IIII", 0xFFFFFFFF, 0xFFFFFFFF, 0, 0))
    if family in (0, sockaddr.AF_INET):
        scope = 254 if loopback else 0
        parts = [
            _IFADDR.pack(sockaddr.AF_INET, device.prefix, _PERMANENT, scope, device.index),
            _attribute(1, device.address),  # IFA_ADDRESS
            _attribute(2, device.address),  # IFA_LOCAL
            b"" if loopback else _attribute(4, device.broadcast),
            _attribute(3, device.name + b"\0"),  # IFA_LABEL
            _u32(8, _PERMANENT),  # IFA_FLAGS
            forever,
        ]
        found.append(b"".join(parts))
    if family in (0, sockaddr.AF_INET6) and device.address6 is not None:
        head = _IFADDR.pack(sockaddr.AF_INET6, device.prefix6, _PERMANENT, 254, device.index)
        found.append(head + _attribute(1, device.address6) + forever + _u32(8, _PERMANENT))
    return found


def routes(network: Network, family: int) -> Iterator[bytes]:
    """The RTM_NEWROUTE bodies: the main table's two routes, then the local addresses."""
    if family not in (0, sockaddr.AF_INET):
        return
    for device in interfaces(network):
        out = _u32(4, device.index)
        if not device.flags & IFF_LOOPBACK:
            main = _u32(15, _RT_TABLE_MAIN)
            head = _ROUTE.pack(2, 0, 0, 0, _RT_TABLE_MAIN, 3, 0, 1, 0)
            yield head + main + _attribute(5, network.gateway) + out
            head = _ROUTE.pack(2, device.prefix, 0, 0, _RT_TABLE_MAIN, 2, 253, 1, 0)
            subnet = bytes(a & m for a, m in zip(device.address, device.netmask, strict=True))
            yield head + main + _attribute(1, subnet) + _attribute(7, device.address) + out
        head = _ROUTE.pack(2, 32, 0, 0, _RT_TABLE_LOCAL, 2, 254, 2, 0)
        local = _u32(15, _RT_TABLE_LOCAL)
        yield head + local + _attribute(1, device.address) + _attribute(7, device.address) + out
