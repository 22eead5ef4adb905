"""Where a container's private addresses and ports lie on the host. Pure arithmetic, no state.

Every container owns a 20-bit number, given as its private loopback address 127.x.y.z, where the low
half of x is not 0. The high half of x says a *kind*: the guest's 127.0.0.1, 0.0.0.0, its ethernet
address, ::1 and :: each get a host address of their own, so that sockets bound to different guest
addresses never meet. Ports are permuted (differently for each container), because a host service or
a published port that listens on 0.0.0.0:N would keep everyone from 127.anything:N. Ports below 1024
use eight more kinds and an unprivileged host port, so binding port 80 needs no privilege on the
host. All of it can be computed from an address alone, so kernels and the daemon agree without
talking.
"""

from __future__ import annotations

import socket
from typing import Final, NamedTuple

LOOPBACK4: Final = 0  # 127.0.0.1
ANY4: Final = 1  # 0.0.0.0
ETHERNET4: Final = 2  # the container's address on its network
ALIAS4: Final = 3  # another address of 127/8
LOOPBACK6: Final = 4  # ::1
ANY6: Final = 5  # ::, which also receives IPv4
ANY6_ONLY: Final = 6  # :: with IPV6_V6ONLY
SCRATCH: Final = 7  # never bound by a guest: shows whether the host itself has taken a port
_PRIVILEGED: Final = 8

_RESERVED: Final = 1024
_EPHEMERAL: Final = 32768  # Linux's default ip_local_port_range
_EPHEMERAL_COUNT: Final = 61000 - _EPHEMERAL
_REGISTERED_LOW: Final = _EPHEMERAL - _RESERVED
_REGISTERED_COUNT: Final = _REGISTERED_LOW + 65536 - 61000

# Which guest sockets a datagram or connection to a kind may reach, the most specific first.
RECEIVERS: Final = {
    LOOPBACK4: (LOOPBACK4, ANY4, ANY6),
    ETHERNET4: (ETHERNET4, ANY4, ANY6),
    ALIAS4: (ALIAS4, ANY4, ANY6),
    LOOPBACK6: (LOOPBACK6, ANY6, ANY6_ONLY),
}
# Which kinds a bind collides with, besides its own.
COLLIDES: Final = {
    LOOPBACK4: (ANY4, ANY6),
    ETHERNET4: (ANY4, ANY6),
    ALIAS4: (ANY4, ANY6),
    ANY4: (LOOPBACK4, ETHERNET4, ALIAS4, ANY6),
    LOOPBACK6: (ANY6, ANY6_ONLY),
    ANY6: (LOOPBACK4, ETHERNET4, ALIAS4, ANY4, LOOPBACK6, ANY6_ONLY),
    ANY6_ONLY: (LOOPBACK6, ANY6),
}

SUBNET: Final = bytes((172, 17))  # 172.17.0.0/16, Docker's default bridge
SUBNET_PREFIX: Final = 16
GATEWAY_NUMBER: Final = 1


class Endpoint(NamedTuple):
    """What a host address and port mean: a kind of address and a port of container `owner`."""

    owner: int
    kind: int
    port: int


def owner_of(loopback: str) -> int:
    """The container number in 127.x.y.z, of x only the low half; ValueError if that is 0."""
    packed = socket.inet_aton(loopback)
    if packed[0] != 127 or not packed[1] & 15:
        raise ValueError(f"not a container's loopback address: {loopback}")
    return int.from_bytes(packed[1:]) & 0xFFFFF


def loopback_of(owner: int) -> str:
    """The inverse of `owner_of`."""
    return socket.inet_ntoa(b"\x7f" + owner.to_bytes(3))


def host_endpoint(owner: int, kind: int, port: int) -> tuple[bytes, int]:
    """The host's (packed IPv4 address, port) for a guest address kind and a guest port (not 0)."""
    if port < _RESERVED:
        kind |= _PRIVILEGED
    address = bytes((127, owner >> 16 | kind << 4, owner >> 8 & 255, owner & 255))
    return address, _to_host(owner, port)


def host_address(owner: int, kind: int) -> bytes:
    """The host's packed IPv4 address for outgoing connections of `kind`."""
    return bytes((127, owner >> 16 | kind << 4, owner >> 8 & 255, owner & 255))


def decode(address: bytes, port: int) -> Endpoint | None:
    """What a host endpoint means, None if it belongs to no container."""
    if address[0] != 127 or not address[1] & 15:
        return None
    owner = (address[1] & 15) << 16 | address[2] << 8 | address[3]
    kind = address[1] >> 4
    return Endpoint(owner, kind & 7, to_guest(owner, port, bool(kind & _PRIVILEGED)))


def _registered(index: int) -> int:
    """The port at `index` of the zone below and above the ephemeral ports."""
    return _RESERVED + index if index < _REGISTERED_LOW else index - _REGISTERED_LOW + 61000


def _turn(owner: int) -> int:
    """How far this container's ports are turned within their zone; never 0."""
    return 1 + (owner * 40503 + 7919) % (_EPHEMERAL_COUNT - 1)


def _to_host(owner: int, port: int) -> int:
    turn = _turn(owner)
    if _EPHEMERAL <= port < _EPHEMERAL + _EPHEMERAL_COUNT:
        return _EPHEMERAL + (port - _EPHEMERAL + turn) % _EPHEMERAL_COUNT
    if port < _RESERVED:
        index = port
    elif port < _EPHEMERAL:
        index = port - _RESERVED
    else:
        index = port - 61000 + _REGISTERED_LOW
    return _registered((index + turn) % _REGISTERED_COUNT)


def to_guest(owner: int, port: int, privileged: bool = False) -> int:
    """The guest's number for a host port; ports a guest's own socket got from the host included."""
    turn = _turn(owner)
    if port < _RESERVED:
        return port
    if _EPHEMERAL <= port < _EPHEMERAL + _EPHEMERAL_COUNT:
        return _EPHEMERAL + (port - _EPHEMERAL - turn) % _EPHEMERAL_COUNT
    index = port - _RESERVED if port < _EPHEMERAL else port - 61000 + _REGISTERED_LOW
    index = (index - turn) % _REGISTERED_COUNT
    if privileged:
        return index if index < _RESERVED else 0
    return _registered(index)


def ethernet_of(owner: int) -> bytes:
    """The packed address of a container on the default bridge network."""
    return SUBNET + bytes((owner >> 8 & 15, owner & 255))


def container_address(loopback: str) -> str:
    """The address a container on the bridge network is known by: 172.17.x.y."""
    return socket.inet_ntoa(ethernet_of(owner_of(loopback)))


def neighbour(owner: int, address: bytes) -> int | None:
    """The number of the container that has `address` on `owner`'s network; None outside of it."""
    if address[:2] != SUBNET or address[2] > 15:
        return None
    return owner & ~0xFFF | address[2] << 8 | address[3]


def listeners(loopback: str, port: int) -> list[tuple[str, int]]:
    """Host endpoints that may serve a container's `port`: a publisher tries them in turn."""
    owner = owner_of(loopback)
    found = [host_endpoint(owner, kind, port) for kind in RECEIVERS[ETHERNET4]]
    return [(socket.inet_ntoa(address), host_port) for address, host_port in found]


def gateway_source(loopback: str) -> str:
    """The host address to connect from so that the container sees its gateway (172.17.0.1)."""
    owner = owner_of(loopback) & ~0xFFF | GATEWAY_NUMBER
    return socket.inet_ntoa(host_address(owner, ETHERNET4))
