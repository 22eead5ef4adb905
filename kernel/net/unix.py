"""AF_UNIX names: how a container's names look to the host, and who is behind them.

The host sees only abstract names of ours. The guest's abstract names get a prefix of the container;
a path is a random name that stands in the socket file (see `paths`). A connecting socket that has
no name is given one that tells its process's identity: that is how the accepting side learns
SO_PEERCRED, without any state to clean up.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
from collections import OrderedDict
from typing import Final, NamedTuple

from kernel.net import hostsock, sockaddr

_NAME_LIMIT: Final = 107
_BOUND_LIMIT: Final = 65536
OVERFLOW_ID: Final = 65534


class Ucred(NamedTuple):
    """Struct ucred (unix(7)) with the container's own numbers."""

    pid: int
    uid: int
    gid: int


class Bound(NamedTuple):
    """A name some socket was bound to: what the guest calls it and who bound or listens."""

    guest: bytes
    owner: Ucred


class UnixNames:
    """The names of one container. Host names are sun_path bytes, abstract ones with their NUL."""

    def __init__(self, container_id: str) -> None:
        self.token = b"ddock-" + container_id[:12].encode()
        self._abstract = b"\0" + self.token + b"@"
        self._hashed = b"\0" + self.token + b"#"
        self._client = b"\0" + self.token + b"!"
        self._serial = 0
        self._bound: OrderedDict[bytes, Bound] = OrderedDict()

    def close(self) -> None:
        """The container has ended."""
        self._bound.clear()

    def serial(self) -> int:
        """A number never given before."""
        self._serial += 1
        return self._serial

    # -- names -------------------------------------------------------------------------------------

    def abstract(self, guest: bytes) -> bytes:
        """The host's name for the guest's abstract name `guest` (with its leading NUL)."""
        name = self._abstract + guest[1:]
        if len(name) > _NAME_LIMIT + 1:
            # The same long name must always give the same short one; its meaning is in _bound.
            name = self._hashed + _digest(guest)
        return name

    def remember(self, host: bytes, guest: bytes, owner: Ucred) -> None:
        """`host` was bound, or is listened on, by `owner`; the guest knows it as `guest`."""
        self._bound[host] = Bound(guest, owner)
        self._bound.move_to_end(host)
        if len(self._bound) > _BOUND_LIMIT:
            self._bound.popitem(last=False)

    def listens(self, host: bytes, owner: Ucred) -> None:
        """SO_PEERCRED tells who called listen(2), not who bound."""
        bound = self._bound.get(host)
        if bound is not None:
            self._bound[host] = Bound(bound.guest, owner)

    def guest(self, host: bytes) -> bytes:
        """What the guest calls the host name `host`; b"" for unnamed."""
        bound = self._bound.get(host)
        if bound is not None:
            return bound.guest
        if host.startswith(self._abstract):
            return b"\0" + host[len(self._abstract) :]
        if host[:7] == b"\0ddock-":
            return b""
        return host if host[:1] == b"\0" else b""

    def owner(self, host: bytes) -> Ucred | None:
        """Who is behind a host name, as far as the name tells."""
        bound = self._bound.get(host)
        if bound is not None:
            return bound.owner
        prefix, mark, numbers = host.partition(b"!")
        if not mark or not prefix.startswith(b"\0ddock-"):
            return None
        with contextlib.suppress(ValueError):
            pid, uid, gid, _ = (int(number) for number in numbers.split(b"."))
            return Ucred(pid if host.startswith(self._client) else 0, uid, gid)
        return None

    def name_client(self, fd: int, target: bytes, who: Ucred) -> None:
        """Give a socket that is about to connect, if unnamed, a name that tells whose it is.

        Only if one of our own is bound to the host name `target`: nobody else could read it, and a
        socket whose connect fails should stay unbound.
        """
        local = hostsock.getsockname(fd)
        if target in self._bound and isinstance(local, bytes) and len(local) <= 2:
            numbers = b"%d.%d.%d.%d" % (who.pid, who.uid, who.gid, self.serial())
            hostsock.bind(fd, sockaddr.unix(self._client + numbers))

    def autobind(self, fd: int, owner: Ucred) -> int:
        """bind(2) with nothing but the family: a free abstract name of five hexadecimal digits."""
        for _ in range(256):
            guest = b"\0%05x" % secrets.randbelow(1 << 20)
            host = self.abstract(guest)
            result = hostsock.bind(fd, sockaddr.unix(host))
            if result != -errno.EADDRINUSE:
                if result == 0:
                    self.remember(host, guest, owner)
                return result
        return -errno.ENOSPC


def _digest(name: bytes) -> bytes:
    import hashlib  # noqa: PLC0415 - hardly ever needed

    return hashlib.sha256(name).hexdigest()[:40].encode()
