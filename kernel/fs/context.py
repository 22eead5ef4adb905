"""What a path call starts from: root directory, working directory, umask (clone(2), CLONE_FS)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codegen.poll_layout import Record
from kernel.fs.resolver import Memory

if TYPE_CHECKING:
    from kernel.fs.node import Node

_ROOT, _CWD = Record.ROOT // 8, Record.CWD // 8


class FsContext:
    """Shared by the threads of a process; fork(2) takes a `copy`.

    The walks from `root` and from `cwd` have numbers, which the records of its users hold.
    """

    __slots__ = (
        "cwd",
        "cwd_number",
        "memory",
        "root",
        "root_number",
        "umask",
        "users",
    )

    def __init__(self, root: Node, cwd: Node, memory: Memory, umask: int = 0o022) -> None:
        self.umask = umask
        self.users: dict[int, memoryview] = {}  # by slot: the records of threads that have it
        self.change_root(root, memory)
        self.change_directory(cwd)

    def change_directory(self, node: Node) -> None:
        """chdir(2)."""
        self.cwd = node
        self.cwd_number = self.memory.of(node).number
        self._tell()

    def change_root(self, node: Node, memory: Memory) -> None:
        """chroot(2): `memory` belongs to processes with that root."""
        self.root = node
        self.memory = memory
        self.root_number = memory.of(node).number

    def copy(self) -> FsContext:
        """fork(2) without CLONE_FS."""
        return FsContext(self.root, self.cwd, self.memory, self.umask)

    def _tell(self) -> None:
        for record in self.users.values():
            record[_ROOT], record[_CWD] = self.root_number, self.cwd_number
