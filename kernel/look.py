"""Looking at the container's files from outside any process: before a start, for the daemon."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from kernel.errors import LinuxError
from kernel.fs.metadata import DIRECTORY, REGULAR
from kernel.fs.permissions import MAY_EXEC, permitted
from kernel.fs.resolver import walk

if TYPE_CHECKING:
    from kernel.container import Container
    from kernel.credentials import Credentials
    from kernel.fs.context import FsContext
    from kernel.fs.node import Node
    from kernel.task import Task

_READ_LIMIT_BYTES = 4 << 20


class _NoProcess:
    """The process of somebody who is none."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.pid = 0
        self.host_pid = 0


class Look:
    """Has what the VFS asks of a task: credentials, fs, process."""

    def __init__(self, container: Container, credentials: Credentials, fs: FsContext) -> None:
        self.process = _NoProcess(container)
        self.credentials = credentials
        self.fs = fs
        self.tid = 0

    @property
    def task(self) -> Task:
        """This object, for functions that ask for a Task."""
        return self  # type: ignore[return-value]

    def node(self, path: bytes) -> Node:
        """The node at `path`, perhaps negative. LinuxError."""
        return walk(self.task, self.fs.cwd, path)

    def read(self, path: bytes) -> bytes | None:
        """A regular file's content (at most 4 MiB); None when there is none to read."""
        with contextlib.suppress(LinuxError, OSError):
            node = self.node(path)
            if node.kind != REGULAR:
                return None
            fd, _ = node.open(self.task, os.O_RDONLY)
            try:
                return os.pread(fd, _READ_LIMIT_BYTES, 0)
            finally:
                os.close(fd)
        return None

    def executable(self, path: bytes) -> int:
        """0 if `path` may be executed, else ENOENT or EACCES."""
        try:
            node = self.node(path)
        except LinuxError as error:
            return error.errno
        if not node.kind:
            return errno.ENOENT
        if node.kind != REGULAR:
            return errno.EACCES
        node.refresh()
        return 0 if permitted(node, self.credentials, MAY_EXEC) else errno.EACCES

    def make_directories(self, path: bytes) -> Node:
        """The directory at `path`, made with its parents (0755, root's) where missing."""
        node = self.fs.root
        for part in path.split(b"/"):
            if not part:
                continue
            child = walk(self.task, node, part)
            if not child.kind:
                node.make_directory(child, 0o755, (0, 0))
                child = walk(self.task, node, part)
            if child.kind != DIRECTORY:
                raise LinuxError(errno.ENOTDIR)
            node = child
        return node
