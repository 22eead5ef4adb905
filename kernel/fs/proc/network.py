"""/proc/net: the container's devices, and those of the host's sockets that its processes hold."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any, Final

from kernel.fs.proc import host
from kernel.fs.proc.system import Maker
from kernel.net import sockaddr
from kernel.net.interfaces import Interface, interfaces

if TYPE_CHECKING:
    from kernel.task import Task

_DEV_HEAD: Final = (
    b"Inter-|   Receive                                                |  Transmit\n"
    b" face |bytes    packets errs drop fifo frame compressed multicast"
    b"|bytes    packets errs drop fifo colls carrier compressed\n"
)
_ROUTE: Final = b"%s\t%s\t%s\t%04X\t0\t0\t0\t%s\t0\t0\t0"
_UNIX_HEAD: Final = b"Num       RefCount Protocol Flags    Type St Inode Path\n"


def _network(task: Task) -> Any:
    return getattr(task.process.container, "network", None)


def _devices(task: Task) -> list[Interface]:
    network = _network(task)
    return interfaces(network) if network is not None else []


def dev(task: Task) -> bytes:
    """/proc/net/dev; nothing counts packets here."""
    rows = [b"%6s:" % d.name + b" %7d" % 0 + b" 0" * 15 + b"\n" for d in _devices(task)]
    return _DEV_HEAD + b"".join(rows)


def _hex4(address: bytes) -> bytes:
    return b"%08X" % int.from_bytes(address, "little")


def route(task: Task) -> bytes:
    """/proc/net/route."""
    rows = [b"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"]
    zero = bytes(4)
    for device in _devices(task):
        if device.name == b"lo":
            continue
        gateway = getattr(_network(task), "gateway", zero)
        mask = int.from_bytes(device.netmask)
        net = (int.from_bytes(device.address) & mask).to_bytes(4)
        name = device.name
        rows.append(_ROUTE % (name, _hex4(zero), _hex4(gateway), 3, _hex4(zero)))
        rows.append(_ROUTE % (name, _hex4(net), _hex4(zero), 1, _hex4(device.netmask)))
    return b"".join(row.ljust(127) + b"\n" for row in rows)


def if_inet6(task: Task) -> bytes:
    """/proc/net/if_inet6."""
    return b"".join(
        b"%s %02x %02x 10 80 %8s\n" % (d.address6.hex().encode(), d.index, d.prefix6, d.name)
        for d in _devices(task)
        if d.address6 is not None
    )


def _inodes(task: Task) -> set[bytes]:
    """The socket inodes that the container's processes hold."""
    found = set()
    for process in task.process.container.pids.values():
        directory = b"/proc/%d/fd" % process.host_pid
        try:
            names = os.listdir(directory) if process.host_pid else []
        except OSError:
            continue
        for name in names:
            try:
                target = os.readlink(directory + b"/" + name)
            except OSError:
                continue
            if target.startswith(b"socket:["):
                found.add(target[8:-1])
    return found


def _sockets(name: str, column: int, domain: int) -> Maker:
    path = b"/proc/net/" + name.encode()

    def content(task: Task) -> bytes:
        header, _, rest = host.read(path).partition(b"\n")
        mine = _inodes(task) if rest else set()
        rows: list[bytes] = []
        for line in rest.splitlines():
            fields = line.split()
            if len(fields) > column and fields[column] in mine:
                rows.append(_shown(_network(task), domain, len(rows), line, fields))
        return b"".join(row + b"\n" for row in [header, *rows])

    return content


def _shown(network: Any, domain: int, number: int, line: bytes, fields: list[bytes]) -> bytes:
    """A row of /proc/net/tcp and its like under the container's addresses."""
    if network is not None:
        local, remote = _decode(domain, fields[1]), _decode(domain, fields[2])
        peer = remote if sockaddr.port(remote) else None
        shown = _encode(network.show_local(local, peer, None))
        line = line.replace(fields[1], shown, 1)
        if peer is not None:
            line = line.replace(fields[2], _encode(network.show_remote(remote, local)), 1)
    return b"%4d:" % number + line.partition(b":")[2]


def _decode(domain: int, text: bytes) -> bytes:
    """A sockaddr of the hexadecimal `ADDRESS:PORT`, whose words are in host order."""
    words, _, port = text.partition(b":")
    raw = bytes.fromhex(words.decode())
    address = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    if domain == socket.AF_INET:
        return sockaddr.inet(address, int(port, 16))
    return sockaddr.inet6(address, int(port, 16))


def _encode(packed: bytes) -> bytes:
    address = packed[4:8] if sockaddr.family(packed) == socket.AF_INET else packed[8:24]
    words = b"".join(address[i : i + 4][::-1] for i in range(0, len(address), 4))
    return words.hex().upper().encode() + b":%04X" % sockaddr.port(packed)


def unix(task: Task) -> bytes:
    """/proc/net/unix: without names, which the host knows by its own paths."""
    mine = _inodes(task)
    rows = []
    for line in host.read(b"/proc/net/unix").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 6 and fields[6] in mine:
            rows.append(b" ".join([b"0" * 16 + b":", *fields[1:7]]) + b"\n")
    return _UNIX_HEAD + b"".join(rows)


def _header_of(name: str) -> Maker:
    path = b"/proc/net/" + name.encode()
    return lambda _task: host.read(path).partition(b"\n")[0] + b"\n"


def _same(name: str) -> Maker:
    path = b"/proc/net/" + name.encode()
    return lambda _task: host.read(path)


def _nothing(_task: Task) -> bytes:
    return b""


FILES: Final[dict[str, Maker]] = {
    "arp": lambda _task: (
        b"IP address       HW type     Flags       HW address            Mask     Device\n"
    ),
    "dev": dev,
    "dev_mcast": _nothing,
    "fib_trie": _nothing,
    "icmp": _header_of("icmp"),
    "if_inet6": if_inet6,
    "igmp": _nothing,
    "ipv6_route": _nothing,
    "netlink": _header_of("netlink"),
    "netstat": _same("netstat"),
    "packet": _header_of("packet"),
    "protocols": _same("protocols"),
    "ptype": _header_of("ptype"),
    "raw": _header_of("raw"),
    "raw6": _header_of("raw6"),
    "route": route,
    "rt_cache": _nothing,
    "snmp": _same("snmp"),
    "snmp6": _same("snmp6"),
    "sockstat": _same("sockstat"),
    "sockstat6": _same("sockstat6"),
    "tcp": _sockets("tcp", 9, socket.AF_INET),
    "tcp6": _sockets("tcp6", 9, socket.AF_INET6),
    "udp": _sockets("udp", 9, socket.AF_INET),
    "udp6": _sockets("udp6", 9, socket.AF_INET6),
    "unix": unix,
}
