"""The network devices a container sees: lo and, unless it has no network, eth0.

They exist only as answers. `socket_ioctl` serves the SIOCGIF* family (netdevice(7)); /proc/net and
rtnetlink are built from the same list.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kernel.capabilities import CAP_NET_ADMIN
from kernel.errors import LinuxError
from kernel.net import hostsock, plan, sockaddr
from kernel.net.network import ANY4, LOCALHOST4, LOCALHOST6
from kernel.reply import Reply

if TYPE_CHECKING:
    from kernel.net.network import Network
    from kernel.reply import Answer
    from kernel.task import Task

IFF_UP: Final = 0x1
IFF_BROADCAST: Final = 0x2
IFF_LOOPBACK: Final = 0x8
IFF_RUNNING: Final = 0x40
IFF_MULTICAST: Final = 0x1000
IFF_LOWER_UP: Final = 0x10000
ARPHRD_ETHER: Final = 1
ARPHRD_LOOPBACK: Final = 772

_SIOCGIFNAME, _SIOCGIFCONF, _SIOCGIFFLAGS = 0x8910, 0x8912, 0x8913
_SIOCGIFADDR, _SIOCGIFDSTADDR, _SIOCGIFBRDADDR, _SIOCGIFNETMASK = 0x8915, 0x8917, 0x8919, 0x891B
_SIOCGIFMETRIC, _SIOCGIFMTU, _SIOCGIFHWADDR, _SIOCGIFINDEX = 0x891D, 0x8921, 0x8927, 0x8933
_SIOCGIFCOUNT, _SIOCGIFTXQLEN, _SIOCETHTOOL, _SIOCGIFMAP = 0x8938, 0x8942, 0x8946, 0x8970
_SIOCGARP: Final = 0x8954
_CHANGES: Final = frozenset(
    (
        0x890B, 0x890C, 0x8914, 0x8916, 0x8918, 0x891A, 0x891C, 0x891E, 0x8922, 0x8923, 0x8924,
        0x8931, 0x8932, 0x8943, 0x8953, 0x8955, 0x8971,
    )
)  # fmt: skip
_NATIVE: Final = (0x8905, 0x8906, 0x8907)  # SIOCATMARK, SIOCGSTAMP, SIOCGSTAMPNS
IOCTLS: Final = _CHANGES | {
    _SIOCGIFNAME, _SIOCGIFCONF, _SIOCGIFFLAGS, _SIOCGIFADDR, _SIOCGIFDSTADDR, _SIOCGIFBRDADDR,
    _SIOCGIFNETMASK, _SIOCGIFMETRIC, _SIOCGIFMTU, _SIOCGIFHWADDR, _SIOCGIFINDEX, _SIOCGIFCOUNT,
    _SIOCGIFTXQLEN, _SIOCETHTOOL, _SIOCGIFMAP, _SIOCGARP,
}  # fmt: skip
_IFREQ: Final = 40
_IFCONF = struct.Struct("<i4xQ")


@dataclass(frozen=True, slots=True)
class Interface:
    """One device with its addresses; `address` is packed IPv4."""

    index: int
    name: bytes
    flags: int
    type: int
    mtu: int
    queue: int
    hardware: bytes
    address: bytes
    prefix: int
    address6: bytes | None
    prefix6: int

    @property
    def netmask(self) -> bytes:
        """The packed IPv4 netmask."""
        return (0xFFFFFFFF << 32 - self.prefix & 0xFFFFFFFF).to_bytes(4)

    @property
    def broadcast(self) -> bytes:
        """The packed IPv4 broadcast address."""
        host = 0xFFFFFFFF >> self.prefix
        return (int.from_bytes(self.address) | host).to_bytes(4)


def interfaces(network: Network) -> list[Interface]:
    """The container's devices in index order."""
    up = IFF_UP | IFF_RUNNING | IFF_LOWER_UP
    found = [
        Interface(
            1, b"lo", up | IFF_LOOPBACK, ARPHRD_LOOPBACK, 65536, 1000, bytes(6), LOCALHOST4, 8,
            LOCALHOST6, 128,
        )
    ]  # fmt: skip
    if network.ethernet is not None:
        flags = up | IFF_BROADCAST | IFF_MULTICAST
        hardware = b"\x02\x42" + network.ethernet
        found.append(
            Interface(
                2, b"eth0", flags, ARPHRD_ETHER, 1500, 0, hardware, network.ethernet,
                plan.SUBNET_PREFIX, None, 0,
            )
        )  # fmt: skip
    return found


async def socket_ioctl(task: Task, fd: int, request: int, argument: int) -> Answer:
    """ioctl(2) with a request of type 0x89: the container's ioctl_handler (sockios.h)."""
    if request in _NATIVE:
        return Reply.hostcall("ioctl", fd, request, argument)
    with hostsock.closing(await task.take_fd(fd)) as host_fd:
        if request not in IOCTLS or hostsock.domain(host_fd) < 0:
            raise LinuxError(errno.ENOTTY)
    network: Network = task.process.container.network
    if request in _CHANGES:
        task.credentials.require(CAP_NET_ADMIN)
        raise LinuxError(errno.EOPNOTSUPP)
    if request == _SIOCGIFCONF:
        return await _ifconf(task, network, argument)
    if request == _SIOCETHTOOL:
        raise LinuxError(errno.EOPNOTSUPP)
    if request == _SIOCGARP:
        raise LinuxError(errno.ENXIO)
    if request == _SIOCGIFCOUNT:
        raise LinuxError(errno.EINVAL)
    ifreq = await task.copy_in(argument, _IFREQ)
    if request == _SIOCGIFNAME:
        index = struct.unpack_from("<i", ifreq, 16)[0]
        device = next((i for i in interfaces(network) if i.index == index), None)
        if device is None:
            raise LinuxError(errno.ENODEV)
        return Reply.out(0, (argument, device.name.ljust(16, b"\0")))
    name = ifreq[:16].split(b"\0", 1)[0].split(b":", 1)[0]
    device = next((i for i in interfaces(network) if i.name == name), None)
    if device is None:
        raise LinuxError(errno.ENODEV)
    return Reply.out(0, (argument + 16, _value(device, request).ljust(24, b"\0")[:24]))


def _value(device: Interface, request: int) -> bytes:
    """What stands in the union of struct ifreq."""
    if request == _SIOCGIFFLAGS:
        return struct.pack("<H", device.flags & 0xFFFF)
    if request in (_SIOCGIFADDR, _SIOCGIFDSTADDR):
        return sockaddr.inet(device.address, 0)
    if request == _SIOCGIFBRDADDR:
        return sockaddr.inet(device.broadcast if device.flags & IFF_BROADCAST else ANY4, 0)
    if request == _SIOCGIFNETMASK:
        return sockaddr.inet(device.netmask, 0)
    if request == _SIOCGIFHWADDR:
        return struct.pack("<H", device.type) + device.hardware
    numbers = {
        _SIOCGIFINDEX: device.index,
        _SIOCGIFMTU: device.mtu,
        _SIOCGIFTXQLEN: device.queue,
    }
    return struct.pack("<i", numbers.get(request, 0))  # metric and map are zero


async def _ifconf(task: Task, network: Network, argument: int) -> Answer:
    length, buffer = _IFCONF.unpack(await task.copy_in(argument, _IFCONF.size))
    entries = b"".join(
        (i.name.ljust(16, b"\0") + sockaddr.inet(i.address, 0)).ljust(_IFREQ, b"\0")
        for i in interfaces(network)
    )
    if not buffer:
        return Reply.out(0, (argument, struct.pack("<i", len(entries))))
    entries = entries[: max(length, 0) // _IFREQ * _IFREQ]
    if not entries:
        return Reply.out(0, (argument, struct.pack("<i", 0)))
    return Reply.out(0, (argument, struct.pack("<i", len(entries))), (buffer, entries))
