"""Socket files: from a guest's path to a host socket.

In the container's trees a socket is a node of kind SOCKET whose host file is a small regular one
(the owner, mode and kind are in the ownership index). Its content is the host's name of the socket
bound there: abstract, random, so a forged one leads nowhere. So a path of any length works, the
file may be renamed or linked, and two containers that share a volume meet in it. A socket file that
a host process made in a bind mount is a real one, and is connected to as such.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from kernel.errors import LinuxError
from kernel.fs.metadata import SOCKET
from kernel.fs.naming import make_node
from kernel.fs.permissions import MAY_WRITE, check
from kernel.fs.resolver import resolve
from kernel.net import hostsock, sockaddr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernel.fs.node import Node
    from kernel.net.unix import Ucred, UnixNames
    from kernel.task import Task

_PREFIX: Final = b"\0ddock-path-"
_CONTENT_LIMIT: Final = 108


def bind_path(task: Task, names: UnixNames, fd: int, path: bytes, owner: Ucred) -> None:
    """bind(2) to a path. EINVAL for a bound socket, EADDRINUSE if the file exists, EACCES."""
    local = hostsock.getsockname(fd)
    if isinstance(local, bytes) and len(local) > 2:
        raise LinuxError(errno.EINVAL)
    try:
        node = make_node(task, task.fs.cwd, path, SOCKET | 0o777, 0)
    except LinuxError as error:
        if error.errno == errno.EEXIST:
            raise LinuxError(errno.EADDRINUSE) from None
        raise
    host = _PREFIX + secrets.token_hex(16).encode()
    with _opened(node, os.O_WRONLY) as file:
        os.write(file, host)
    result = hostsock.bind(fd, sockaddr.unix(host))
    if result < 0:
        raise LinuxError(-result)
    names.remember(host, path, owner)


@contextmanager
def located(task: Task, names: UnixNames, name: bytes) -> Iterator[bytes]:
    """The host sockaddr of the guest's sockaddr_un `name`, valid within the `with` block.

    ECONNREFUSED if the file is no socket or nobody is bound to it any more.
    """
    path = sockaddr.unix_path(name)
    if not path or path[0] == 0:
        yield sockaddr.unix(names.abstract(path)) if path else name[:2]
        return
    node = resolve(task, task.fs.cwd, path)
    node.refresh()
    check(node, task.credentials, MAY_WRITE)
    if node.kind != SOCKET:
        raise LinuxError(errno.ECONNREFUSED)
    with _opened(node, os.O_PATH) as file:
        if stat.S_ISSOCK(os.fstat(file).st_mode):
            yield sockaddr.unix(b"/proc/self/fd/%d" % file)
            return
    with _opened(node, os.O_RDONLY) as file:
        host = os.read(file, _CONTENT_LIMIT)
    if not host.startswith(_PREFIX):
        raise LinuxError(errno.ECONNREFUSED)
    yield sockaddr.unix(host)


@contextmanager
def _opened(node: Node, flags: int) -> Iterator[int]:
    """The node's host file. A bind mount opens it its own, safe way."""
    own: Any = getattr(node, "opened", None)
    try:
        if own is not None:
            with own(flags) as fd:
                yield fd
            return
        host = node.host_path()
        if host is None:
            raise LinuxError(errno.ECONNREFUSED)
        fd = os.open(host, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise LinuxError(error.errno or errno.EIO) from None
    try:
        yield fd
    finally:
        os.close(fd)
