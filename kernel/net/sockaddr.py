"""Socket addresses as the system call ABI has them (ip(7), ipv6(7), unix(7), netlink(7))."""

from __future__ import annotations

import struct
from typing import Final

AF_UNSPEC: Final = 0
AF_UNIX: Final = 1
AF_INET: Final = 2
AF_INET6: Final = 10
AF_NETLINK: Final = 16
AF_PACKET: Final = 17

MAPPED: Final = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96
_FAMILY = struct.Struct("<H")
_PORT = struct.Struct(">H")
_NETLINK = struct.Struct("<HHII")


def family(sockaddr: bytes) -> int:
    """sa_family; AF_UNSPEC for an address too short to have one."""
    return int(_FAMILY.unpack_from(sockaddr)[0]) if len(sockaddr) >= 2 else AF_UNSPEC


def inet(address: bytes, port: int) -> bytes:
    """Make a sockaddr_in."""
    return _FAMILY.pack(AF_INET) + _PORT.pack(port) + address + bytes(8)


def inet6(address: bytes, port: int, flow: bytes = bytes(4), scope: bytes = bytes(4)) -> bytes:
    """Make a sockaddr_in6; `address` may be a packed IPv4 one, which is mapped."""
    if len(address) == 4:
        address = MAPPED + address
    return _FAMILY.pack(AF_INET6) + _PORT.pack(port) + flow + address + scope


def internet(domain: int, address: bytes, port: int) -> bytes:
    """The address as a socket of `domain` (AF_INET or AF_INET6) takes it."""
    return inet(address, port) if domain == AF_INET else inet6(address, port)


def port(sockaddr: bytes) -> int:
    """The port of a sockaddr_in or sockaddr_in6."""
    return int(_PORT.unpack_from(sockaddr, 2)[0])


def address(sockaddr: bytes) -> bytes:
    """The packed address: 4 bytes, 16 for IPv6 that is not a mapped IPv4 address."""
    if family(sockaddr) == AF_INET:
        return sockaddr[4:8]
    found = sockaddr[8:24]
    return found[12:] if found[:12] == MAPPED else found


def unix(path: bytes) -> bytes:
    """Make a sockaddr_un: b"" is unnamed, a leading NUL abstract, else a path (ends with a NUL)."""
    if path and path[0]:
        path += b"\0"
    return _FAMILY.pack(AF_UNIX) + path


def unix_path(sockaddr: bytes) -> bytes:
    """The inverse of `unix`, for addresses of any origin."""
    path = sockaddr[2:]
    return path if path[:1] == b"\0" else path.split(b"\0", 1)[0]


def netlink(pid: int, groups: int) -> bytes:
    """Make a sockaddr_nl."""
    return _NETLINK.pack(AF_NETLINK, 0, pid, groups)


def netlink_parts(sockaddr: bytes) -> tuple[int, int]:
    """(pid, groups) of a sockaddr_nl."""
    _, _, pid, groups = _NETLINK.unpack_from(sockaddr)
    return pid, groups
