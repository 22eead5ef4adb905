"""An image layer's tar stream becomes a layer directory, without root and without trusting the tar.

Every member's directory is looked up inside the new tree, component by component: a link on the way
is followed as a process rooted there would follow it, and a member that would leave the tree is
refused. What the host cannot hold - owners, device nodes, attributes, whiteouts - goes to the
layer's index. The result appears under its name by one rename, or not at all.

The format: pax(1), GNU tar's extensions, and the OCI image layer specification for whiteouts.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from typing import IO, Any, Final, Self

from kernel.fs.layerindex import save
from kernel.fs.metadata import BLOCK, CHARACTER, DIRECTORY, FIFO, REGULAR, SYMLINK
from kernel.fs.overlay import fresh_record, host_bits
from kernel.fs.owners import PLAIN, Record
from kernel.fs.tmpfs import remove_tree

_CHUNK: Final = 1 << 20
_MAX_LINKS: Final = 40
WHITEOUT: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"
_XATTR: Final = "SCHILY.xattr."


class LayerError(ValueError):
    """The layer cannot be accepted; the text says why and names the member."""


class _StrictTarInfo(tarfile.TarInfo):
    """tarfile takes a broken header for the end of the archive; we do not."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile)
        except _BROKEN as error:
            raise LayerError(f"corrupt tar: {error}") from None


_BROKEN = (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError)  # type: ignore[attr-defined]


def strict_tar(stream: Any) -> tarfile.TarFile:
    """`stream` (anything with `read`) as an uncompressed tar; a broken header is a LayerError."""
    return tarfile.open(
        fileobj=stream,
        mode="r|",
        tarinfo=_StrictTarInfo,
        encoding="utf-8",
        errors="surrogateescape",
    )


def member_attributes(member: tarfile.TarInfo) -> tuple[dict[bytes, bytes], int]:
    """(extended attributes, modification time in nanoseconds) of a member."""
    xattrs = {
        _bytes(key[len(_XATTR) :]): _bytes(value)
        for key, value in member.pax_headers.items()
        if key.startswith(_XATTR)
    }
    text = member.pax_headers.get("mtime")
    if text is None:
        return xattrs, int(member.mtime) * 10**9
    try:
        return xattrs, int(Decimal(text) * 10**9)
    except ArithmeticError:
        raise LayerError(f"{member.name}: bad time {text!r}") from None


def unpack(stream: IO[bytes], directory: bytes) -> int:
    """Make layer directory `directory` of the uncompressed tar `stream`; the sum of file sizes.

    Its parent is made if need be. Raises LayerError for a tar that is corrupt, truncated or
    hostile, OSError for what the host refuses; then nothing is left behind.
    """
    parent = os.path.dirname(directory)
    os.makedirs(parent, exist_ok=True)
    temporary = tempfile.mkdtemp(prefix=b".unpack-", dir=parent)
    try:
        size = apply_layer(stream, temporary)
        os.chmod(temporary, 0o755)
        os.rename(temporary, directory)
    except BaseException:
        remove_tree(temporary)
        raise
    return size


def apply_layer(stream: IO[bytes], directory: str | bytes) -> int:
    """Fill the existing `directory` with a layer's `root` and index; the sum of file sizes.

    The whole stream is read, also what follows the archive's end. Raises as `unpack` does, and
    leaves neither `root` nor index then.
    """
    place = os.fsencode(directory)
    root, index = place + b"/root", place + b"/index.msgpack"
    os.mkdir(root, 0o755)
    try:
        unpacker = _Unpacker(root)
        unpacker.read(stream)
        unpacker.finish(index)
    except BaseException:
        remove_tree(root)
        raise
    return unpacker.size


def remove_layer(directory: bytes) -> None:
    """Remove a layer directory or an upper directory with all it holds; a missing one is fine."""
    remove_tree(directory)


def members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Each member; unlike iteration over `tar` this does not keep every header until the end."""
    while (member := tar.next()) is not None:
        yield member
        vars(tar)["members"].clear()


class _Counted:
    """A stream that knows whether anything was in it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.count = 0

    def read(self, size: int) -> bytes:
        """As the stream's own."""
        data = self._stream.read(size)
        self.count += len(data)
        return data


class _Unpacker:
    def __init__(self, root: bytes) -> None:
        self.root = root
        self.size = 0
        self.records: dict[bytes, Record] = {}
        self.whiteouts: dict[bytes, set[bytes]] = {}
        self.opaque: set[bytes] = set()
        self.times: dict[bytes, int] = {}  # directories' mtimes, set when all is written
        self.directories: set[bytes] = {b""}  # known to be real directories

    def read(self, stream: IO[bytes]) -> None:
        counted = _Counted(stream)
        try:
            with strict_tar(counted) as tar:
                for member in members(tar):
                    self.member(tar, member)
            while stream.read(_CHUNK):
                pass
        except (tarfile.TarError, EOFError) as error:
            if not counted.count:
                return  # no bytes at all: a layer without files
            raise LayerError(f"corrupt tar: {error}") from None

    def member(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        """Unpack one member."""
        name = clean(_bytes(member.name), member.name)
        if not name:
            if member.isdir():
                self.attributes(b"", member, DIRECTORY)
            return
        above, _, last = name.rpartition(b"/")
        above = self.enter(above, member.name)
        path = above + b"/" + last if above else last
        if last.startswith(WHITEOUT):
            self.whiteout(above, last)
            return
        self.clear(path, member.isdir())
        host = self.root + b"/" + path
        if member.isdir():
            if path not in self.directories:
                os.mkdir(host, 0o700)
                self.directories.add(path)
            self.attributes(path, member, DIRECTORY)
        elif member.issym():
            os.symlink(_bytes(member.linkname), host)
            self.attributes(path, member, SYMLINK)
        elif member.islnk():
            self.hard_link(path, member)
        elif member.isfile():
            self.file(tar, member, host)
            self.attributes(path, member, REGULAR)
        elif member.isfifo():
            os.mkfifo(host)
            self.attributes(path, member, FIFO)
        elif member.ischr() or member.isblk():
            os.close(os.open(host, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            self.attributes(path, member, CHARACTER if member.ischr() else BLOCK)
        else:
            raise LayerError(f"{member.name}: unknown member type {member.type!r}")

    def enter(self, path: bytes, member: str) -> bytes:
        """The real directory at `path` inside the tree, made if missing; LayerError if outside."""
        if path in self.directories:
            return path
        done: list[bytes] = []
        pending = path.split(b"/")[::-1]
        links = 0
        while pending:
            name = pending.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                if not done:
                    raise LayerError(f"{member}: a link on its path leads out of the layer")
                done.pop()
                continue
            here = b"/".join([*done, name])
            if here in self.directories:
                done.append(name)
                continue
            host = self.root + b"/" + here
            try:
                target = os.readlink(host)
            except FileNotFoundError:
                os.mkdir(host, 0o755)
                self.directories.add(here)
            except OSError:
                if not os.path.isdir(host):
                    raise LayerError(f"{member}: {os.fsdecode(here)} is not a directory") from None
                self.directories.add(here)
            else:
                links += 1
                if links > _MAX_LINKS:
                    raise LayerError(f"{member}: too many links on its path")
                if target.startswith(b"/"):
                    done.clear()
                pending += target.split(b"/")[::-1]
                continue
            done.append(name)
        return b"/".join(done)

    def whiteout(self, above: bytes, name: bytes) -> None:
        if name == OPAQUE:
            self.opaque.add(above)
        elif name != WHITEOUT and not name.startswith(WHITEOUT + WHITEOUT):
            self.whiteouts.setdefault(above, set()).add(name[len(WHITEOUT) :])

    def clear(self, path: bytes, is_directory: bool) -> None:
        """An earlier member of the same name gives way, unless both are directories."""
        host = self.root + b"/" + path
        if path in self.directories:
            if is_directory:
                return
            remove_tree(host)
            inside = path + b"/"
            for known in [p for p in self.directories if p == path or p.startswith(inside)]:
                self.directories.discard(known)
                self.times.pop(known, None)
                self.opaque.discard(known)
                self.whiteouts.pop(known, None)
            for known in [p for p in self.records if p == path or p.startswith(inside)]:
                del self.records[known]
        else:
            try:
                os.unlink(host)
            except FileNotFoundError:
                return
            self.records.pop(path, None)

    def file(self, tar: tarfile.TarFile, member: tarfile.TarInfo, host: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        source: Any = tar.fileobj
        source.seek(member.offset_data)
        with open(os.open(host, flags, 0o600), "wb", buffering=0) as target:
            sparse = getattr(member, "sparse", None)
            if sparse is None:
                self._copy(source, target, member, member.size)
            else:
                for offset, size in sparse:
                    target.seek(offset)
                    self._copy(source, target, member, size)
                target.truncate(member.size)
        self.size += member.size

    @staticmethod
    def _copy(source: Any, target: IO[bytes], member: tarfile.TarInfo, size: int) -> None:
        while size > 0:
            data = source.read(min(size, _CHUNK))
            if not data:
                raise LayerError(f"{member.name}: the tar ends inside its content")
            target.write(data)
            size -= len(data)

    def hard_link(self, path: bytes, member: tarfile.TarInfo) -> None:
        target = clean(_bytes(member.linkname), member.name)
        above, _, last = target.rpartition(b"/")
        above = self.enter(above, member.name)
        source = above + b"/" + last if above else last
        try:
            os.link(self.root + b"/" + source, self.root + b"/" + path, follow_symlinks=False)
        except OSError as error:
            raise LayerError(
                f"{member.name}: cannot link to {member.linkname}: {error.strerror}"
            ) from None
        if source in self.records:
            self.records[path] = self.records[source]

    def attributes(self, path: bytes, member: tarfile.TarInfo, kind: int) -> None:
        """Set what the host can hold and record the rest."""
        host = self.root + b"/" + path if path else self.root
        mode = kind | (member.mode & 0o7777 if kind != SYMLINK else 0o777)
        rdev = 0
        if kind in (CHARACTER, BLOCK):
            rdev = os.makedev(member.devmajor, member.devminor)
        record = fresh_record(mode, (member.uid, member.gid), rdev)
        xattrs, mtime_ns = member_attributes(member)
        if xattrs:
            record = record._replace(xattrs=xattrs)
        if record == PLAIN:
            self.records.pop(path, None)
        else:
            self.records[path] = record
        if kind != SYMLINK:
            os.chmod(host, host_bits(mode))
        if kind == DIRECTORY:
            self.times[path] = mtime_ns
        else:
            os.utime(host, ns=(mtime_ns, mtime_ns), follow_symlinks=False)

    def finish(self, index: bytes) -> None:
        """Write the index; last of all the directories' times."""
        root = self.root

        def ino(path: bytes) -> int:
            return os.lstat(root + b"/" + path if path else root).st_ino

        for path in [*self.whiteouts, *self.opaque]:
            self.enter(path, os.fsdecode(path))
        save(
            index,
            ino(b""),
            [(path, ino(path), record) for path, record in sorted(self.records.items())],
            [(path, ino(path), sorted(names)) for path, names in sorted(self.whiteouts.items())],
            [(path, ino(path)) for path in sorted(self.opaque)],
        )
        for path, mtime_ns in sorted(self.times.items(), reverse=True):
            os.utime(root + b"/" + path if path else root, ns=(mtime_ns, mtime_ns))


def clean(name: bytes, shown: str) -> bytes:
    """`name` relative to the layer's root, without dots; LayerError if it leaves the root."""
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise LayerError(f"{shown}: path leads out of the layer")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    if any(len(part) > 255 for part in parts):
        raise LayerError(f"{shown}: file name too long")
    if b"\0" in name:
        raise LayerError(f"{shown!r}: NUL in a name")
    return b"/".join(parts)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
