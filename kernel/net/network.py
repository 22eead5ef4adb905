"""What the kernel knows of one container's network, and how addresses look on either side.

The host's sockets are the truth. State is kept only for what a host socket cannot express: a bind
whose host address is decided later, an IPV6_V6ONLY wish, options of an emulated device. It hangs
on the socket's cookie, which follows dup(2), fork(2) and SCM_RIGHTS by itself.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kernel.errors import LinuxError
from kernel.net import hostsock, plan, sockaddr
from kernel.net.unix import UnixNames

if TYPE_CHECKING:
    from kernel.net.netlink import NetlinkSocket

_STATE_LIMIT: Final = 16384
RESOLVER: Final = bytes((127, 0, 0, 11))
LOCALHOST4: Final = bytes((127, 0, 0, 1))
LOCALHOST6: Final = bytes(15) + b"\1"
ANY4: Final = bytes(4)
ANY6: Final = bytes(16)


class SocketState:
    """What one socket's host object cannot hold."""

    __slots__ = ("asked", "credentials", "device", "netlink", "pending", "v6only")

    def __init__(self) -> None:
        self.pending: int | None = None  # kind it was bound to, with port 0, host bind yet to come
        self.asked: bytes | None = None  # local address the guest bound, shown as it is
        self.v6only = False
        self.device = b""  # SO_BINDTODEVICE
        self.credentials: tuple[int, int, int] | None = None  # SO_PEERCRED of a socketpair end
        self.netlink: NetlinkSocket | None = None


class Target(NamedTuple):
    """Where a guest address leads: sockets of container `owner`, or the host endpoint `outside`."""

    owner: int
    kind: int  # whose plan.RECEIVERS are tried, and from which our end speaks
    outside: bytes  # a host sockaddr, b"" for a container


class Network:
    """One container's addresses. `mode` is Docker's: bridge, none (loopback only) or host."""

    def __init__(self, loopback: str, container_id: str, mode: str = "bridge") -> None:
        self.mode = mode
        self.owner = 0 if mode == "host" else plan.owner_of(loopback)
        self.ethernet = plan.ethernet_of(self.owner) if mode == "bridge" else None
        self.gateway = plan.SUBNET + bytes((0, plan.GATEWAY_NUMBER))
        self.unix = UnixNames(container_id)
        self.alias: bytes | None = None  # the address of 127/8 that has the ALIAS4 kind
        self.forwards: dict[tuple[bytes, int], tuple[bytes, int]] = {}  # guest -> host endpoints
        if mode == "bridge":
            self._forward_resolver()
        self.wildcard_udp: set[int] = set()  # host ports our own sockets hold on 0.0.0.0
        self.markers = False  # a socket wants SCM_CREDENTIALS: mark what the kernel sends
        self.netlinks = 0  # open netlink sockets
        self.passed: dict[tuple[int, int], Any] = {}  # flagged files sent with SCM_RIGHTS
        self._states: OrderedDict[int, SocketState] = OrderedDict()

    def _forward_resolver(self) -> None:
        """127.0.0.11, where Docker's own name server listens, leads to the host's."""
        servers = host_resolvers()
        if servers:
            self.forwards[RESOLVER, 53] = (servers[0], 53)

    # -- state -------------------------------------------------------------------------------------

    def state(self, fd: int) -> SocketState | None:
        """What is known about the socket behind `fd`, if anything."""
        return self._states.get(hostsock.cookie(fd)) if self._states else None

    def ensure_state(self, fd: int) -> SocketState:
        """`state`, made if there is none; the oldest is forgotten when there are too many."""
        cookie = hostsock.cookie(fd)
        state = self._states.get(cookie)
        if state is None:
            state = self._states[cookie] = SocketState()
            if len(self._states) > _STATE_LIMIT:
                for old, candidate in self._states.items():
                    if candidate.netlink is None:
                        del self._states[old]
                        break
        return state

    def forget(self, cookie: int) -> None:
        """The socket with this cookie is closed."""
        self._states.pop(cookie, None)

    def close(self) -> None:
        """The container has ended."""
        for state in list(self._states.values()):
            if state.netlink is not None:
                state.netlink.close()
        self._states.clear()
        self.unix.close()

    # -- from the guest's addresses to the host's --------------------------------------------------

    def bind_kind(self, address: bytes, v6only: bool) -> int:
        """The kind of a local address. LinuxError(EADDRNOTAVAIL) for one we do not have."""
        if len(address) == 16:
            if address == ANY6:
                return plan.ANY6_ONLY if v6only else plan.ANY6
            if address == LOCALHOST6:
                return plan.LOOPBACK6
            raise LinuxError(errno.EADDRNOTAVAIL)
        if address == ANY4 or 224 <= address[0] < 240:
            return plan.ANY4
        if address == self.ethernet:
            return plan.ETHERNET4
        if address[0] == 127:
            return self._loopback_kind(address, bind=True)
        raise LinuxError(errno.EADDRNOTAVAIL)

    def _loopback_kind(self, address: bytes, bind: bool = False) -> int:
        if address != LOCALHOST4:
            if bind and self.alias is None:
                self.alias = address
            if address == self.alias:
                return plan.ALIAS4
        return plan.LOOPBACK4

    def target(self, domain: int, address: bytes, port: int) -> Target:
        """Where a remote address leads. LinuxError(ENETUNREACH, EHOSTUNREACH) if nowhere."""
        forward = self.forwards.get((address, port))
        if forward is not None:
            return Target(0, 0, sockaddr.internet(domain, *forward))
        if len(address) == 16:
            if address in (LOCALHOST6, ANY6):
                return Target(self.owner, plan.LOOPBACK6, b"")
        elif address[0] == 127 or address == ANY4:
            kind = self._loopback_kind(address) if address[0] == 127 else plan.LOOPBACK4
            return Target(self.owner, kind, b"")
        elif self.ethernet is not None:
            if address == self.ethernet:
                return Target(self.owner, plan.ETHERNET4, b"")
            if address == self.gateway:
                return Target(0, 0, sockaddr.internet(domain, host_primary_address(), port))
            neighbour = plan.neighbour(self.owner, address)
            if neighbour is not None:
                return Target(neighbour, plan.ETHERNET4, b"")
            if address[:2] == plan.SUBNET:
                raise LinuxError(errno.EHOSTUNREACH)
        if self.mode == "none":
            raise LinuxError(errno.ENETUNREACH)
        if address[0] == 0 and len(address) == 4:
            raise LinuxError(errno.ENETUNREACH)
        return Target(0, 0, b"?")

    # -- from the host's addresses to the guest's --------------------------------------------------

    def show_local(self, host: bytes, peer: bytes | None, state: SocketState | None) -> bytes:
        """The guest's view of a socket's own address; `peer`: its host peer, if connected."""
        if state is not None and state.pending is not None:
            assert state.asked is not None
            return state.asked
        family, port = sockaddr.family(host), sockaddr.port(host)
        address = sockaddr.address(host)
        if len(address) == 16 and address != ANY6:
            return host
        found = plan.decode(address, port) if len(address) == 4 else None
        if found is not None and found.owner == self.owner:
            return self._show_own(family, found.kind, found.port, peer)
        port = plan.to_guest(self.owner, port) if port else 0
        if address in (ANY4, ANY6):
            if state is not None and state.asked is not None:
                address = sockaddr.address(state.asked)
            elif family == sockaddr.AF_INET6:
                address = ANY6
            return sockaddr.internet(family, address, port)
        shown = LOCALHOST4 if address[0] == 127 or self.ethernet is None else self.ethernet
        return sockaddr.internet(family, shown, port)

    def _show_own(self, family: int, kind: int, port: int, peer: bytes | None) -> bytes:
        if kind in (plan.ANY4, plan.ANY6, plan.ANY6_ONLY):
            if peer is None:
                return sockaddr.internet(family, ANY4 if kind == plan.ANY4 else ANY6, port)
            kind = self._facing(sockaddr.address(peer), sockaddr.port(peer))
        return sockaddr.internet(family, self._address(kind), port)

    def _facing(self, address: bytes, port: int) -> int:
        """The kind of our address that a peer at this host address speaks to."""
        found = plan.decode(address, port) if len(address) == 4 else None
        if found is None or found.owner != self.owner:
            return plan.ETHERNET4
        if found.kind in (plan.LOOPBACK6, plan.ANY6_ONLY):
            return plan.LOOPBACK6
        return plan.ETHERNET4 if found.kind == plan.ETHERNET4 else plan.LOOPBACK4

    def _address(self, kind: int) -> bytes:
        if kind in (plan.LOOPBACK6, plan.ANY6, plan.ANY6_ONLY):
            return LOCALHOST6
        if kind == plan.ETHERNET4 and self.ethernet is not None:
            return self.ethernet
        return self.alias if kind == plan.ALIAS4 and self.alias else LOCALHOST4

    def show_remote(self, host: bytes, local: bytes | None) -> bytes:
        """The guest's view of a peer's host address; `local` is our own host address."""
        if len(host) < 8:
            return host
        family, port = sockaddr.family(host), sockaddr.port(host)
        address = sockaddr.address(host)
        if len(address) == 16:
            return host
        for guest, outside in self.forwards.items():
            if outside == (address, port):
                return sockaddr.internet(family, *guest)
        found = plan.decode(address, port)
        if found is None:
            if address[0] == 127:
                address = self.gateway
            return sockaddr.internet(family, address, port)
        if found.owner != self.owner:
            return sockaddr.internet(family, plan.ethernet_of(found.owner), found.port)
        kind = found.kind
        if kind in (plan.ANY4, plan.ANY6, plan.ANY6_ONLY):
            kind = plan.LOOPBACK6 if kind == plan.ANY6_ONLY else plan.LOOPBACK4
            if local is not None:
                ours = sockaddr.address(local)
                own = plan.decode(ours, 0) if len(ours) == 4 else None
                if own is not None and own.kind in (plan.ETHERNET4, plan.LOOPBACK6):
                    kind = own.kind
        return sockaddr.internet(family, self._address(kind), found.port)


def host_resolvers() -> list[bytes]:
    """The packed IPv4 addresses of the host's name servers."""
    found = []
    with contextlib.suppress(OSError), open("/etc/resolv.conf", encoding="utf-8") as file:
        for line in file:
            words = line.split()
            if words[:1] == ["nameserver"] and len(words) > 1:
                with contextlib.suppress(OSError):
                    found.append(socket.inet_pton(socket.AF_INET, words[1]))
    return found


def host_primary_address() -> bytes:
    """The host's address towards the outside; LinuxError(EHOSTUNREACH) if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # connecting a datagram socket sends nothing
        return socket.inet_aton(probe.getsockname()[0])
    raise LinuxError(errno.EHOSTUNREACH)
