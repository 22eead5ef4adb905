"""From a path to a node: the one walk that every path call makes.

Links are walked here, inside the container's tree: an absolute target starts at the process's root,
`..` stops there, and leaving a mount goes to the parent of its mountpoint. The host is asked about
single names only.

Whole paths are remembered per starting directory. An entry is valid while its node is not `gone`;
what could redirect a path without removing its last node - renaming or removing a directory or a
link, mounting, changing a directory's permissions - clears everything. Only walks through
directories that everybody may search enter the shared dictionaries, so a hit needs no permission
check.
"""

from __future__ import annotations

import errno
import itertools
from typing import TYPE_CHECKING, Final

from codegen.poll_layout import FILES, Entry
from kernel.errors import LinuxError
from kernel.fs.metadata import DIRECTORY, SYMLINK
from kernel.fs.permissions import CAP_DAC_READ_SEARCH, MAY_EXEC, permitted
from kernel.host.linux_fs import (
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
)

if TYPE_CHECKING:
    from kernel.fs.answers import Answers
    from kernel.fs.node import Node
    from kernel.task import Task

PATH_MAX: Final = 4096
MAX_LINKS: Final = 40
_MAX_REMEMBERED: Final = 50_000

Walks = dict[bytes, "Node"]


class Remembered:
    """Remembered walks from one directory, and the number by which the poll loop knows it.

    `common`: (follow, no-follow) walks that anybody may repeat; `private`: those that only a
    process with CAP_DAC_READ_SEARCH may.
    """

    __slots__ = ("common", "number", "private")
    _numbers = itertools.count(FILES + 1)

    def __init__(self) -> None:
        self.common: tuple[Walks, Walks] = ({}, {})
        self.private: tuple[Walks, Walks] = ({}, {})
        self.number = next(self._numbers)

    def clear(self) -> None:
        """Forget them."""
        for walk in (*self.common, *self.private):
            walk.clear()


class Memory:
    """Remembered walks of processes that share a root directory."""

    __slots__ = ("_by_start", "answers", "count")

    def __init__(self, answers: Answers) -> None:
        self._by_start: dict[Node, Remembered] = {}
        self.answers = answers
        self.count = 0

    def of(self, start: Node) -> Remembered:
        """The walks from `start`."""
        found = self._by_start.get(start)
        if found is None:
            found = self._by_start[start] = Remembered()
        return found

    def clear(self) -> None:
        """Forget all walks, and all answers."""
        self.count = 0
        self.answers.clear()
        for start, walks in list(self._by_start.items()):
            walks.clear()
            if start.gone:
                del self._by_start[start]


class Walk:
    """The state of one resolution. `remember`: whether its result may be remembered."""

    __slots__ = ("links", "private", "remember", "root", "scope", "slash", "task", "top")

    def __init__(self, task: Task, root: Node, scope: int = 0, top: Node | None = None) -> None:
        """`scope`: RESOLVE_* flags of openat2(2), relative to the directory `top`."""
        self.task = task
        self.root = root
        self.scope = scope
        self.top = top
        if scope & RESOLVE_IN_ROOT and top is not None:
            self.root = top
        self.links = 0
        self.remember = True
        self.private = False  # some directory on the way is not for everybody
        self.slash = False  # the path, or a link's text at its end, ends in a slash

    def run(self, node: Node, path: bytes, follow: bool) -> Node:
        """Walk `path` from `node`; the last node may be negative, or a link if not `follow`.

        A trailing slash asks for a directory (and follows a last link).
        """
        if path[:1] == b"/":
            node = self._from_root()
        pending = path.split(b"/")
        pending.reverse()
        self.slash = not pending[0]
        while pending:
            if len(pending) > 2 and not node.fs.cached:
                node = self._skip(node, pending)
            name = pending.pop()
            if not name:
                continue
            kind = node.kind
            if kind != DIRECTORY:
                raise LinuxError(errno.ENOTDIR if kind else errno.ENOENT)
            if node.mode & 0o111 != 0o111 or not node.fs.cached:
                self._search(node)
            if name == b".":
                continue
            if name == b"..":
                node = self.up(node)
                continue
            child = node.children.get(name) or node.lookup(name)
            if child.mounted is not None or not child.fs.cached:
                child = self._cross(child)
            if child.kind == SYMLINK and (follow or self.slash or any(pending)):
                node = self._follow(node, child, pending)
            else:
                node = child
        if self.slash and node.kind != DIRECTORY:
            if node.kind:
                raise LinuxError(errno.ENOTDIR)
            self.remember = False
        return node

    def _skip(self, node: Node, pending: list[bytes]) -> Node:
        """Go over plain directories in one step where the tree can; all but the last name.

        Only for those who may search any directory: nobody looks at what is skipped.
        """
        if self.scope or not self.task.credentials.can(CAP_DAC_READ_SEARCH):
            return node
        names: list[bytes] = []
        for name in reversed(pending[1:]):
            if name in (b"", b".", b".."):
                break
            names.append(name)
        reached = node.fs.shortcut(node, names) if len(names) > 1 else None
        if reached is None:
            return node
        del pending[-len(names) :]
        return reached

    def _from_root(self) -> Node:
        if self.scope & RESOLVE_BENEATH:
            raise LinuxError(errno.EXDEV)
        return self.root

    def _cross(self, child: Node) -> Node:
        """Into what is mounted on `child`; what is not cached ends remembering."""
        while child.mounted is not None:
            if self.scope & RESOLVE_NO_XDEV:
                raise LinuxError(errno.EXDEV)
            child = child.mounted.root
        if not child.fs.cached:
            self.remember = False
            child.fs.visited(self.task)
        return child

    def _follow(self, node: Node, link: Node, pending: list[bytes]) -> Node:
        """Follow `link`, found in `node`: where to go on, its text's names put before `pending`."""
        self.links += 1
        if self.links > MAX_LINKS or self.scope & RESOLVE_NO_SYMLINKS:
            raise LinuxError(errno.ELOOP)
        target = link.jump(self.task)
        if target is not None:
            if self.scope:
                _refuse_magic(self.scope)
            self.remember = False
            return target
        text = link.readlink(self.task)
        if not text:
            raise LinuxError(errno.ENOENT)
        if text[:1] == b"/":
            node = self._from_root()
        parts = text.split(b"/")
        parts.reverse()
        if not parts[0] and not any(pending):
            self.slash = True
        pending += parts
        return node

    def up(self, node: Node) -> Node:
        """`..` of `node`."""
        root = self.root
        if node is self.top and self.scope & RESOLVE_BENEATH:
            raise LinuxError(errno.EXDEV)
        while node is not root:
            if node.parent is not None:
                return node.parent
            if node.fs.mountpoint is None:
                break
            if self.scope & RESOLVE_NO_XDEV:
                raise LinuxError(errno.EXDEV)
            node = node.fs.mountpoint
        return node

    def _search(self, node: Node) -> None:
        who = self.task.credentials
        if who.can(CAP_DAC_READ_SEARCH):
            self.private = True
            return
        node.refresh()
        if not permitted(node, who, MAY_EXEC):
            raise LinuxError(errno.EACCES)
        self.remember = False


def _refuse_magic(scope: int) -> None:
    if scope & RESOLVE_NO_MAGICLINKS:
        raise LinuxError(errno.ELOOP)
    if scope & (RESOLVE_BENEATH | RESOLVE_IN_ROOT | RESOLVE_NO_XDEV):
        raise LinuxError(errno.EXDEV)


def walk(task: Task, start: Node, path: bytes, follow: bool = True) -> Node:
    """The node at `path` (relative to `start`), negative if the last name does not exist.

    Raises LinuxError ENOENT, ENOTDIR, EACCES, ELOOP or ENAMETOOLONG.
    """
    context = task.fs
    if path[:1] == b"/":
        start = context.root
    remembered = context.memory.of(start)
    index = 0 if follow else 1
    node = remembered.common[index].get(path)
    if node is not None and not node.gone:
        return node
    if remembered.private[index]:
        node = remembered.private[index].get(path)
        if node is not None and not node.gone and task.credentials.can(CAP_DAC_READ_SEARCH):
            return node
    if not path:
        raise LinuxError(errno.ENOENT)
    if len(path) >= PATH_MAX:
        raise LinuxError(errno.ENAMETOOLONG)
    if not start.fs.cached:
        return Walk(task, context.root).run(start, path, follow)
    state = Walk(task, context.root)
    node = state.run(start, path, follow)
    if state.remember and path[-1:] not in (b"/", b"."):
        memory = context.memory
        memory.count += 1
        if memory.count > _MAX_REMEMBERED:
            memory.clear()
        (remembered.private if state.private else remembered.common)[index][path] = node
    return node


def recall(task: Task, start: Node, path: bytes, follow: bool, want: int) -> Node:
    """`walk` for a call that need not come here again: what it `want`s will be known.

    `want`: flags of codegen.poll_layout.Entry. Only walks from the two directories that the poll
    loop knows of are; and only what has been asked for before.
    """
    context = task.fs
    if path[:1] == b"/":
        start = context.root
    elif start is not context.cwd:
        return walk(task, start, path, follow)
    remembered = context.memory.of(start)
    index, need = 0 if follow else 1, 0
    node = remembered.common[index].get(path)
    if node is None:
        node = remembered.private[index].get(path)
        if node is None or not task.credentials.can(CAP_DAC_READ_SEARCH):
            return walk(task, start, path, follow)
        need = Entry.NEEDS_SEARCH
    if node.gone:
        return walk(task, start, path, follow)
    context.memory.answers.learn(remembered.number, path, follow, node, want, need)
    return node


def resolve(task: Task, start: Node, path: bytes, follow: bool = True) -> Node:
    """`walk`, with ENOENT when nothing has that name."""
    node = walk(task, start, path, follow)
    if not node.kind:
        raise LinuxError(errno.ENOENT)
    return node


def resolve_parent(task: Task, start: Node, path: bytes) -> tuple[Node, bytes, bool]:
    """(directory, last name, whether a slash follows it). The last name is not looked up.

    The name is b"." or b".." or b"" (the path is the root) where the path ends so.
    """
    if not path:
        raise LinuxError(errno.ENOENT)
    if len(path) >= PATH_MAX:
        raise LinuxError(errno.ENAMETOOLONG)
    bare = path.rstrip(b"/")
    above, _, name = bare.rpartition(b"/")
    if not bare:
        return task.fs.root, b"", True
    if above:
        directory = resolve(task, start, above)
    else:
        directory = task.fs.root if path[:1] == b"/" else start
    if directory.kind != DIRECTORY:
        raise LinuxError(errno.ENOTDIR)
    if directory.mode & 0o111 != 0o111:
        directory.refresh()
        if not permitted(directory, task.credentials, MAY_EXEC):
            raise LinuxError(errno.EACCES)
    return directory, name, len(bare) != len(path)


def covered(node: Node) -> Node:
    """What is seen at `node`: the root of what is mounted there, or the node itself."""
    while node.mounted is not None:
        node = node.mounted.root
    return node
