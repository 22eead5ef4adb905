"""A file that execve is about to run: opened, checked, its first bytes read."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from kernel import elf
from kernel.errors import LinuxError
from kernel.fs.metadata import REGULAR
from kernel.fs.permissions import MAY_EXEC, check
from kernel.fs.resolver import walk

if TYPE_CHECKING:
    from kernel.credentials import Credentials
    from kernel.fs.node import Node
    from kernel.task import Task

_HEAD_BYTES = 256
_parsed: dict[tuple[int, int, int, int, int], elf.Elf] = {}


class Executable:
    """`fd` is a host descriptor, ours until `close`; `node` is None for an anonymous file."""

    def __init__(self, fd: int, node: Node | None) -> None:
        self.fd = fd
        self.node = node
        self.head = os.pread(fd, _HEAD_BYTES, 0)

    def parse(self, machine: int) -> elf.Elf:
        """Its ELF headers, remembered by file identity. LinuxError(ENOEXEC)."""
        status = os.fstat(self.fd)
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, machine)
        found = _parsed.get(key)
        if found is None:
            found = _parsed[key] = elf.parse(self.fd, machine)
        return found

    def credentials(self, who: Credentials) -> tuple[Credentials, bool]:
        """Who the program runs as, and whether that makes it a secure execution (AT_SECURE)."""
        if self.node is None:
            return who.executing(0o755, who.euid, who.egid)
        node = self.node
        capabilities = node.file_capabilities() if node.mode & 0o111 else None
        return who.executing(node.mode, node.uid, node.gid, capabilities)

    def close(self) -> None:
        """Give the descriptor back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def open_executable(task: Task, path: bytes, start: Node | None = None) -> Executable:
    """Resolve and open `path` for execution. ENOENT, EACCES (also for directories), ELOOP, ..."""
    if not path:
        raise LinuxError(errno.ENOENT)
    node = walk(task, start or task.fs.cwd, path)
    if not node.kind:
        raise LinuxError(errno.ENOENT)
    if node.kind != REGULAR:
        raise LinuxError(errno.EACCES)
    node.refresh()
    check(node, task.credentials, MAY_EXEC)
    if b"noexec" in node.fs.options:
        raise LinuxError(errno.EACCES)
    fd, _ = node.open(task, os.O_RDONLY)
    return Executable(fd, node)
