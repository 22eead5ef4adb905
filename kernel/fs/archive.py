"""The container's files as tar streams: `docker export`, `cp` both ways, and the layer of a commit.

Everything is a generator, so that a kernel which is serving guests can take turns between its
steps. Headers are pax(1) with SCHILY.xattr records, as image tools expect.
"""

from __future__ import annotations

import errno
import os
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Final

from kernel.errors import LinuxError
from kernel.fs.changes import DELETED, Change
from kernel.fs.layer import (
    OPAQUE,
    WHITEOUT,
    LayerError,
    clean,
    member_attributes,
    members,
    strict_tar,
)
from kernel.fs.metadata import BLOCK, CHARACTER, DIRECTORY, FIFO, REGULAR, SYMLINK, Attributes
from kernel.fs.node import Node
from kernel.fs.resolver import covered, walk
from kernel.fs.synthetic import SyntheticFs

if TYPE_CHECKING:
    from kernel.task import Task

_CHUNK: Final = 256 << 10
END: Final = bytes(1024)
_TYPES: Final = {
    DIRECTORY: tarfile.DIRTYPE,
    REGULAR: tarfile.REGTYPE,
    SYMLINK: tarfile.SYMTYPE,
    CHARACTER: tarfile.CHRTYPE,
    BLOCK: tarfile.BLKTYPE,
    FIFO: tarfile.FIFOTYPE,
}
_Links = dict[tuple[int, int], bytes]


def export(task: Task, root: Node) -> Iterator[bytes]:
    """The tree below `root` without what is mounted on it, as one tar."""
    links: _Links = {}
    for name in _names(task, root):
        yield from _tree(task, root.lookup(name), name, links, mounts=False)
    yield END


def get(task: Task, node: Node, name: bytes) -> Iterator[bytes]:
    """`node` and what is below it, mounts included, as members called `name`."""
    yield from _tree(task, node, name, {}, mounts=True)
    yield END


def layer(task: Task, root: Node, changes: list[Change]) -> Iterator[bytes]:
    """The tar of a layer that makes `changes` (of `kernel.fs.changes`) to the layers below."""
    links: _Links = {}
    for change in changes:
        path = change.path.lstrip(b"/")
        above, _, last = path.rpartition(b"/")
        prefix = above + b"/" if above else b""
        if change.kind == DELETED:
            yield _empty(prefix + WHITEOUT + last)
            continue
        node: Node = root
        for name in path.split(b"/"):
            node = node.lookup(name)
        yield from _member(task, node, path, links)
        if change.opaque:
            yield _empty(path + b"/" + OPAQUE)
    yield END


def _names(task: Task, directory: Node) -> list[bytes]:
    return sorted(entry.name for entry in directory.entries(task))


def _tree(task: Task, node: Node, name: bytes, links: _Links, mounts: bool) -> Iterator[bytes]:
    pending = [(node, name)]
    while pending:
        node, name = pending.pop()
        if not node.kind:
            continue
        yield from _member(task, node, name, links)
        if node.kind != DIRECTORY or isinstance(node.fs, SyntheticFs):
            continue
        for below in reversed(_names(task, node)):
            child = node.lookup(below)
            pending.append((covered(child) if mounts else child, name + b"/" + below))


def _member(task: Task, node: Node, name: bytes, links: _Links) -> Iterator[bytes]:
    """One member: header and content, nothing for sockets (which tar does not know)."""
    a = node.attributes()
    kind = _TYPES.get(node.kind)
    if kind is None:
        return
    first = (
        links.setdefault((a.dev, a.ino), name) if a.nlink > 1 and node.kind != DIRECTORY else b""
    )
    if first and first != name:
        yield _header(name, a, tarfile.LNKTYPE, first, 0, {})
        return
    target = node.readlink(task) if node.kind == SYMLINK else b""
    size = a.size if node.kind == REGULAR else 0
    yield _header(name, a, kind, target, size, node.xattrs())
    if not size:
        return
    fd, _ = node.open(task, os.O_RDONLY)
    try:
        left = size
        while left:
            data = os.read(fd, min(left, _CHUNK)) or bytes(min(left, _CHUNK))
            left -= len(data)
            yield data
    finally:
        os.close(fd)
    yield bytes(-size % 512)


def _header(
    name: bytes, a: Attributes, kind: bytes, target: bytes, size: int, xattrs: dict[bytes, bytes]
) -> bytes:
    info = tarfile.TarInfo(_text(name) + ("/" if kind == tarfile.DIRTYPE else ""))
    info.type = kind
    info.mode = a.mode & 0o7777
    info.uid, info.gid = a.uid, a.gid
    info.size = size
    info.linkname = _text(target)
    info.devmajor, info.devminor = os.major(a.rdev), os.minor(a.rdev)
    seconds, nanoseconds = divmod(a.mtime_ns, 10**9)
    info.mtime = seconds
    info.pax_headers = {"SCHILY.xattr." + _text(key): _text(xattrs[key]) for key in xattrs}
    if nanoseconds:
        info.pax_headers["mtime"] = f"{seconds}.{nanoseconds:09}"
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _empty(name: bytes) -> bytes:
    return tarfile.TarInfo(_text(name)).tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


# -- the other way ---------------------------------------------------------------------------------


def put(
    task: Task,
    directory: Node,
    stream: IO[bytes],
    owner: tuple[int, int] | None = None,
    keep_kind: bool = False,
) -> Iterator[None]:
    """Unpack the tar `stream` below `directory`, following the container's links inside it.

    `owner`: give all files to these ids instead of the tar's. `keep_kind`: a directory does not
    replace a file nor the reverse. Raises LayerError (the tar) or LinuxError (the container).
    """
    directories: list[tuple[Node, int]] = []
    try:
        with strict_tar(stream) as tar:
            for member in members(tar):
                name = clean(member.name.encode("utf-8", "surrogateescape"), member.name)
                if name:
                    made = _put_member(task, directory, tar, member, name, keep_kind)
                    _finish(made, member, owner, directories)
                yield
    except tarfile.TarError as error:
        raise LayerError(f"corrupt tar: {error}") from None
    for node, mtime_ns in reversed(directories):
        node.set_times(mtime_ns, mtime_ns)


def _put_member(
    task: Task,
    directory: Node,
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    name: bytes,
    keep_kind: bool,
) -> Node:
    above, _, last = name.rpartition(b"/")
    parent = _make_parents(task, directory, above)
    if parent.fs.readonly:
        raise LinuxError(errno.EROFS)
    child = covered(parent.lookup(last))
    if child.kind:
        if member.isdir() and child.kind == DIRECTORY:
            return child
        if keep_kind and (child.kind == DIRECTORY) != member.isdir():
            kinds = ("directory", "non-directory")
            old, new = kinds if child.kind == DIRECTORY else reversed(kinds)
            raise LayerError(f'cannot overwrite {old} "{member.name}" with {new}')
        if child.mounted is not None or child is child.fs.root:
            if child.kind == REGULAR and member.isfile():
                return _overwrite(task, child, tar, member)
            raise LinuxError(errno.EBUSY)
        _remove(task, parent, child)
        child = parent.lookup(last)
    mode = member.mode & 0o7777
    if member.isdir():
        parent.make_directory(child, mode, (0, 0))
    elif member.issym():
        parent.make_symlink(child, member.linkname.encode("utf-8", "surrogateescape"), (0, 0))
    elif member.islnk():
        target = clean(member.linkname.encode("utf-8", "surrogateescape"), member.name)
        source = walk(task, directory, target, follow=False)
        if not source.kind or source.fs is not parent.fs:
            raise LayerError(f"{member.name}: cannot link to {member.linkname}")
        parent.make_link(child, source)
    elif member.isfile():
        fd = parent.create(child, mode, (0, 0), os.O_WRONLY)
        _fill(fd, tar, member)
    elif member.isfifo():
        parent.make_node(child, FIFO | mode, 0, (0, 0))
    elif member.ischr() or member.isblk():
        kind = CHARACTER if member.ischr() else BLOCK
        rdev = os.makedev(member.devmajor, member.devminor)
        parent.make_node(child, kind | mode, rdev, (0, 0))
    else:
        raise LayerError(f"{member.name}: unknown member type {member.type!r}")
    return parent.lookup(last)


def _make_parents(task: Task, directory: Node, path: bytes) -> Node:
    node = directory
    parts = path.split(b"/") if path else []
    for i, _ in enumerate(parts):
        child = walk(task, directory, b"/".join(parts[: i + 1]))
        if not child.kind:
            assert child.parent is not None
            child.parent.make_directory(child, 0o755, (0, 0))
            child = walk(task, directory, b"/".join(parts[: i + 1]))
        if child.kind != DIRECTORY:
            raise LinuxError(errno.ENOTDIR)
        node = child
    return node


def _overwrite(task: Task, node: Node, tar: tarfile.TarFile, member: tarfile.TarInfo) -> Node:
    fd, _ = node.open(task, os.O_WRONLY | os.O_TRUNC)
    _fill(fd, tar, member)
    return node


def _fill(fd: int, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    source: Any = tar.extractfile(member)
    with open(fd, "wb", buffering=0) as target:
        left = member.size
        while left:
            data = source.read(min(left, _CHUNK))
            if not data:
                raise LayerError(f"{member.name}: the tar ends inside its content")
            target.write(data)
            left -= len(data)


def _remove(task: Task, parent: Node, child: Node) -> None:
    if child.kind != DIRECTORY:
        parent.unlink(child)
        return
    for name in _names(task, child):
        below = child.lookup(name)
        if below.mounted is not None:
            raise LinuxError(errno.EBUSY)
        _remove(task, child, below)
    parent.remove_directory(child)


def _finish(
    node: Node,
    member: tarfile.TarInfo,
    owner: tuple[int, int] | None,
    directories: list[tuple[Node, int]],
) -> None:
    """Attributes and times; a directory's times wait until all is in it."""
    if member.islnk():
        return
    xattrs, mtime_ns = member_attributes(member)
    uid, gid = owner or (member.uid, member.gid)
    node.change_owner(uid, gid, member.mode & 0o7777 if node.kind != SYMLINK else 0o777)
    if xattrs:
        with suppress(LinuxError):
            node.set_xattrs({**node.xattrs(), **xattrs})
    if node.kind == DIRECTORY:
        directories.append((node, mtime_ns))
    else:
        node.set_times(mtime_ns, mtime_ns)
