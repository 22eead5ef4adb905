"""What a path call starts from: root directory, working directory, umask (clone(2), CLONE_FS)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel.fs.resolver import Memory, Walks

if TYPE_CHECKING:
    from kernel.fs.node import Node


class FsContext:
    """Shared by the threads of a process; fork(2) takes a `copy`.

    `absolute` and `relative` are the remembered (following) walks from `root` and `cwd`, and
    `absolute_links` and `relative_links` those that do not follow a last link: the hot path.
    """

    __slots__ = (
        "absolute",
        "absolute_links",
        "cwd",
        "memory",
        "relative",
        "relative_links",
        "root",
        "umask",
    )

    def __init__(self, root: Node, cwd: Node, memory: Memory, umask: int = 0o022) -> None:
        self.umask = umask
        self.change_root(root, memory)
        self.change_directory(cwd)

    def change_directory(self, node: Node) -> None:
        """chdir(2)."""
        self.cwd = node
        self.relative, self.relative_links = self._walks(node)

    def change_root(self, node: Node, memory: Memory) -> None:
        """chroot(2): `memory` belongs to processes with that root."""
        self.root = node
        self.memory = memory
        self.absolute, self.absolute_links = self._walks(node)

    def copy(self) -> FsContext:
        """fork(2) without CLONE_FS."""
        return FsContext(self.root, self.cwd, self.memory, self.umask)

    def _walks(self, start: Node) -> tuple[Walks, Walks]:
        return self.memory.of(start)[:2]
