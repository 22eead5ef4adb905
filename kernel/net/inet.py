"""bind, listen, connect and datagrams with addresses, for AF_INET and AF_INET6 sockets.

Everything works on `fd`, the kernel's duplicate of the guest's socket. The host is asked, never
remembered: a bind that would collide with a socket on another of the guest's addresses is found by
trying that address with a throw-away socket. No await stands between such a trial and what relies
on it, so within a container it cannot race.
"""

from __future__ import annotations

import errno
import random
import select
import socket
import struct
from typing import TYPE_CHECKING, Final

from kernel.errors import LinuxError
from kernel.net import hostsock, plan, sockaddr, waiting
from kernel.net.network import ANY4, ANY6, Network, Target, host_primary_address

if TYPE_CHECKING:
    from kernel.task import Task

_TCP_SYN_SENT: Final = 2
_TCP_CLOSE: Final = 7
_IP_PKTINFO: Final = 8
_EPHEMERAL: Final = range(32768, 61000)
_ATTEMPTS: Final = 64
_LOCAL_ANSWER_SECONDS: Final = 0.005
_REFUSED: Final = (-errno.ECONNREFUSED, -errno.ECONNRESET)
_CMSG_PKTINFO: Final = struct.Struct("<QiiI4s4s4x")
_FAILED: Final = select.POLLERR | select.POLLHUP


def parse(domain: int, name: bytes, disconnect: bool = False) -> tuple[bytes, int]:
    """(packed address, port) of a guest sockaddr; EINVAL or EAFNOSUPPORT as ip(7), ipv6(7) say."""
    if domain == sockaddr.AF_INET:
        if len(name) < 16:
            raise LinuxError(errno.EINVAL)
    elif len(name) < 24:
        raise LinuxError(errno.EINVAL)
    family = sockaddr.family(name)
    if family != domain:
        unspecified = family == sockaddr.AF_UNSPEC and domain == sockaddr.AF_INET
        if not unspecified or disconnect or name[4:8] != ANY4:
            raise LinuxError(errno.EAFNOSUPPORT)
        return ANY4, sockaddr.port(name)
    return sockaddr.address(name), sockaddr.port(name)


class Inet:
    """The operations on one socket of `network`'s container."""

    def __init__(self, network: Network, fd: int, domain: int) -> None:
        self.network = network
        self.fd = fd
        self.domain = domain
        self.kind = hostsock.kind(fd)
        self.ports = self.kind != socket.SOCK_DGRAM or self._is_udp()

    def _is_udp(self) -> bool:
        protocol = hostsock.option(self.fd, socket.SOL_SOCKET, socket.SO_PROTOCOL)
        return protocol not in (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6)

    # -- local addresses ---------------------------------------------------------------------------

    def bind(self, name: bytes) -> None:
        """bind(2)."""
        network = self.network
        if network.mode == "host":
            _raise(hostsock.bind(self.fd, name))
            return
        address, port = parse(self.domain, name)
        state = network.state(self.fd)
        if state is not None and state.pending is not None:
            raise LinuxError(errno.EINVAL)
        kind = network.bind_kind(address, state is not None and state.v6only)
        if not self.ports:
            if kind != plan.ANY4:
                _raise(self._bind_host(plan.host_address(network.owner, kind), port))
            return
        local = hostsock.getsockname(self.fd)
        if isinstance(local, int) or sockaddr.port(local):
            raise LinuxError(errno.EINVAL)
        roaming = kind in (plan.ANY4, plan.ETHERNET4, plan.ANY6, plan.ANY6_ONLY)
        if port or not roaming:
            self._claim(kind, port)
        elif self.kind == socket.SOCK_STREAM:
            # A client or a server? connect and listen know, and bind the host socket then.
            state = network.ensure_state(self.fd)
            state.pending = kind
            state.asked = sockaddr.internet(self.domain, address, 0)
        else:
            # A datagram socket without a port of its own choosing talks to anybody.
            _raise(self._bind_host(ANY4 if self.domain == sockaddr.AF_INET else ANY6, 0))
            self._note_wildcard()
            if kind == plan.ETHERNET4:
                network.ensure_state(self.fd).asked = sockaddr.internet(self.domain, address, 0)

    def _bind_host(self, address: bytes, port: int) -> int:
        return hostsock.bind(self.fd, sockaddr.internet(self.domain, address, port))

    def _claim(self, kind: int, port: int) -> None:
        """Bind to the guest address `kind` and `port` (0: a free one); EADDRINUSE."""
        if port:
            result = self._try_claim(kind, port)
            if result < 0:
                raise LinuxError(-result)
            return
        for _ in range(_ATTEMPTS):
            result = self._try_claim(kind, random.choice(_EPHEMERAL))  # noqa: S311 - no secret
            if result != -errno.EADDRINUSE:
                _raise(result)
                return
        raise LinuxError(errno.EADDRINUSE)

    def _try_claim(self, kind: int, port: int) -> int:
        owner = self.network.owner
        reuse = hostsock.option(self.fd, socket.SOL_SOCKET, socket.SO_REUSEADDR) > 0
        reuse_port = hostsock.option(self.fd, socket.SOL_SOCKET, socket.SO_REUSEPORT) > 0
        for other in plan.COLLIDES[kind]:
            name = sockaddr.inet(*plan.host_endpoint(owner, other, port))
            if hostsock.is_taken(self.kind, name, reuse, reuse_port):
                return -errno.EADDRINUSE
        return self._bind_host(*plan.host_endpoint(owner, kind, port))

    def settle(self) -> None:
        """Give a socket whose bind is pending, or that is about to listen, its host address."""
        network = self.network
        if network.mode == "host":
            return
        state = network.state(self.fd)
        if state is not None and state.pending is not None:
            self._claim(state.pending, 0)
            state.pending = None
            return
        local = hostsock.getsockname(self.fd)
        if isinstance(local, bytes) and not sockaddr.port(local):
            v6only = state is not None and state.v6only
            any6 = plan.ANY6_ONLY if v6only else plan.ANY6
            self._claim(plan.ANY4 if self.domain == sockaddr.AF_INET else any6, 0)

    def local(self) -> bytes:
        """getsockname(2)."""
        host = hostsock.getsockname(self.fd)
        if isinstance(host, int):
            raise LinuxError(-host)
        if self.network.mode == "host":
            return host
        state = self.network.state(self.fd)
        if state is not None and state.pending is not None:
            self.settle()
            return self.local()
        peer = hostsock.getpeername(self.fd)
        return self.network.show_local(host, peer if isinstance(peer, bytes) else None, state)

    def remote(self) -> bytes:
        """getpeername(2)."""
        host = hostsock.getpeername(self.fd)
        if isinstance(host, int):
            raise LinuxError(-host)
        if self.network.mode == "host":
            return host
        local = hostsock.getsockname(self.fd)
        return self.network.show_remote(host, local if isinstance(local, bytes) else None)

    def _note_wildcard(self) -> None:
        local = hostsock.getsockname(self.fd)
        if isinstance(local, bytes):
            self.network.wildcard_udp.add(sockaddr.port(local))

    # -- connecting --------------------------------------------------------------------------------

    async def connect(self, task: Task, name: bytes) -> int:
        """connect(2): 0 or a negative errno; sleeps if the socket is a blocking one."""
        if len(name) >= 2 and sockaddr.family(name) == sockaddr.AF_UNSPEC:
            return hostsock.connect(self.fd, name)
        blocking = hostsock.is_blocking(self.fd)
        if self.network.mode == "host":
            return await self._connect_one(task, name, blocking)
        address, port = parse(self.domain, name, disconnect=True)
        if self.kind == socket.SOCK_STREAM:
            state = hostsock.tcp_state(self.fd)
            if state != _TCP_CLOSE:  # connected, listening, or a restarted call
                return await self._connect_one(task, name, blocking)
        target = self.network.target(self.domain, address, port)
        if target.outside:
            outside = name if target.outside == b"?" else target.outside
            self._forget_pending()
            return await self._connect_one(task, outside, blocking)
        if self.kind != socket.SOCK_STREAM:
            return self._connect_datagram(target, port)
        return await self._connect_inside(task, target, port, blocking)

    def _forget_pending(self) -> None:
        state = self.network.state(self.fd)
        if state is not None:
            state.pending = None
            state.asked = None

    async def _connect_one(self, task: Task, name: bytes, blocking: bool) -> int:
        """Connect to one host address, to the end if `blocking`."""
        result = hostsock.connect_now(self.fd, name, blocking)
        if not blocking or result not in (-errno.EINPROGRESS, -errno.EALREADY):
            return result
        return await self._finish(task, name)

    async def _finish(self, task: Task, name: bytes) -> int:
        """Sleep until a connect under way has come to an end (socket(7), SO_SNDTIMEO)."""
        if not hostsock.poll_now(self.fd, select.POLLOUT):
            limit = waiting.timeout_of(self.fd, waiting.SO_SNDTIMEO)
            if not await waiting.until_writable(task, self.fd, limit):
                return -errno.EINPROGRESS
        # A second connect(2) reports the outcome and completes the socket's state.
        return hostsock.connect_now(self.fd, name, True)

    async def _connect_inside(self, task: Task, target: Target, port: int, blocking: bool) -> int:
        """TCP to a socket of a container: try its receivers, the most specific first."""
        if not port or self._host_has(target.owner, port):
            return -errno.ECONNREFUSED
        bound = self._bind_source(target.kind)
        if bound < 0:
            return bound
        receivers = plan.RECEIVERS[target.kind]
        for kind in receivers:
            host = plan.host_endpoint(target.owner, kind, port)
            name = sockaddr.internet(self.domain, *host)
            result = hostsock.connect_now(self.fd, name, blocking)
            if result != -errno.EINPROGRESS:
                return result
            if kind != receivers[-1]:
                outcome = await self._answered(task)
                if outcome & _FAILED:
                    result = hostsock.connect_now(self.fd, name, blocking)
                    if result in _REFUSED:
                        continue
                    return result
            return await self._finish(task, name) if blocking else -errno.EINPROGRESS
        return -errno.ECONNREFUSED

    async def _answered(self, task: Task) -> int:
        """Poll a loopback connect; the answer is nearly always there already."""
        ready = hostsock.poll_now(self.fd, select.POLLOUT)
        if not ready and await waiting.until_writable(task, self.fd, _LOCAL_ANSWER_SECONDS):
            ready = hostsock.poll_now(self.fd, select.POLLOUT)
        return ready

    def _host_has(self, owner: int, port: int) -> bool:
        """Whether something on the host itself holds this container's port on every address."""
        name = sockaddr.inet(*plan.host_endpoint(owner, plan.SCRATCH, port))
        return hostsock.is_taken(self.kind, name, self.kind == socket.SOCK_STREAM, False)

    def _bind_source(self, kind: int) -> int:
        """Give an unbound socket the address that its peer is to see."""
        local = hostsock.getsockname(self.fd)
        if isinstance(local, int):
            return local
        if sockaddr.port(local) or sockaddr.address(local) not in (ANY4, ANY6):
            return 0
        self._forget_pending()
        hostsock.set_option(self.fd, socket.IPPROTO_IP, hostsock.IP_BIND_ADDRESS_NO_PORT, 1)
        return self._bind_host(plan.host_address(self.network.owner, kind), 0)

    # -- datagrams ---------------------------------------------------------------------------------

    def _connect_datagram(self, target: Target, port: int) -> int:
        if self.ports:
            bound = self._bind_source(target.kind)
            if bound < 0:
                return bound
        return hostsock.connect(self.fd, self._receiver(target, port))

    def _receiver(self, target: Target, port: int) -> bytes:
        """The host address of the socket that is to get a datagram for `target`."""
        owner, kinds = target.owner, plan.RECEIVERS[target.kind]
        if not self.ports or not port:
            address = plan.host_address(owner, kinds[0])
            return sockaddr.internet(self.domain, address, port)
        _, host_port = plan.host_endpoint(owner, plan.SCRATCH, port)
        if self._host_has(owner, port):
            # A wildcard socket holds the port: one of ours, or (not to be reached) the host's.
            if owner == self.network.owner and host_port not in self.network.wildcard_udp:
                raise LinuxError(errno.ECONNREFUSED)
            return sockaddr.internet(self.domain, *plan.host_endpoint(owner, kinds[0], port))
        for kind in kinds:
            name = sockaddr.inet(*plan.host_endpoint(owner, kind, port))
            if hostsock.is_taken(self.kind, name, False, False):
                return sockaddr.internet(self.domain, *plan.host_endpoint(owner, kind, port))
        return sockaddr.internet(self.domain, *plan.host_endpoint(owner, kinds[0], port))

    def destination(self, name: bytes) -> tuple[bytes, bytes]:
        """(host sockaddr, ancillary data that sets the source) of a datagram to guest `name`."""
        if self.network.mode == "host":
            return name, b""
        if len(name) >= 16 and sockaddr.family(name) in (sockaddr.AF_UNSPEC, sockaddr.AF_INET):
            # Linux takes these two on either kind of socket (udp_sendmsg, udpv6_sendmsg).
            name = sockaddr.internet(self.domain, name[4:8], sockaddr.port(name))
        address, port = parse(self.domain, name)
        if not port and self.ports:
            raise LinuxError(errno.EINVAL)
        target = self.network.target(self.domain, address, port)
        local = hostsock.getsockname(self.fd)
        local_address = sockaddr.address(local) if isinstance(local, bytes) else ANY4
        if target.outside:
            outside = name if target.outside == b"?" else target.outside
            # From a private address nothing leaves the host: let the datagram, if not its
            # answer, through with the host's own.
            private = local_address[0] == 127 and len(local_address) == 4
            return outside, _source(host_primary_address()) if private else b""
        control = b""
        if local_address in (ANY4, ANY6) and self.ports:
            control = _source(plan.host_address(self.network.owner, target.kind))
        return self._receiver(target, port), control

    def sent(self) -> None:
        """A datagram was sent: remember the port the host may have given the socket for it."""
        local = hostsock.getsockname(self.fd)
        if isinstance(local, bytes) and sockaddr.address(local) in (ANY4, ANY6) and self.ports:
            self.network.wildcard_udp.add(sockaddr.port(local))


def _source(address: bytes) -> bytes:
    """IP_PKTINFO ancillary data: send from `address` whatever the socket is bound to."""
    return _CMSG_PKTINFO.pack(28, socket.IPPROTO_IP, _IP_PKTINFO, 0, address, ANY4)


def _raise(result: int) -> None:
    if result < 0:
        raise LinuxError(-result)
