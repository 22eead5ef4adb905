"""Patched arm64 texts of files: kept by content, on disk and in shared memory.

    DIR/svc/<code revision>-<stub entries>-<page size>/<content hash>.<distance>
        whole pages of text, then the area of its trampolines (codegen.svc_patch)
    DIR/svc/.../<content hash>.sites
        the sites that were found, where instructions with x18 are among them

Such a file never changes: it appears by one rename. What a guest maps is one of these, or a sealed
memfd with the same bytes where nothing can be written or the area must lie elsewhere; so nothing
executable changes after it was looked at, whatever becomes of the guest's file.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import inspect
import logging
import os
import shutil
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from codegen import code_pages, layout, svc_patch, x18
from codegen.cache_directory import require_own
from codegen.code_pages import FileLayout
from codegen.site_table import write_file
from codegen.svc_patch import Entries, Site

_LOG = logging.getLogger(__name__)
MEMFD_NAME: Final = "ddock-text"  # as /proc/PID/maps of the host names our copies
_SETTLED_NS: Final = 100_000_000  # a file changed this recently may change unnoticed
_KEPT_TEXTS: Final = 512
_F_ADD_SEALS: Final = 1033
_ALL_SEALS: Final = 0xF  # F_SEAL_SEAL | SHRINK | GROW | WRITE (fcntl(2))

Key = tuple[int, ...]  # device, inode, size, mtime ns, ctime ns, offset, length


class PatchedFile:
    """A descriptor of text followed by its area, open for reading only; closed with this object."""

    def __init__(self, fd: int, distance: int) -> None:
        self.fd = fd
        self.distance = distance

    def __del__(self) -> None:
        os.close(self.fd)


class Text(NamedTuple):
    """The pages of a file mapping that hold code, and what is to be replaced in them."""

    first: int  # file offset of the first page
    size: int  # bytes, whole pages
    sites: tuple[Site, ...]  # offsets count from `first`
    layout: FileLayout | None
    digest: bytes
    page: int  # bytes
    copy: PatchedFile | None  # None: there is nothing to replace

    @property
    def area_size(self) -> int:
        """Bytes of trampolines, in whole pages."""
        return svc_patch.area_size(self.sites, self.page)


class TextStore:
    """The texts as one kernel knows them."""

    def __init__(
        self,
        directory: str | os.PathLike[str] | None,
        entries: Entries,
        page: int,
        *,
        strict: bool = False,
    ) -> None:
        """Open what is kept in `directory`, made if need be.

        `page`: bytes; texts and areas are whole numbers of it. `strict`: see codegen.svc_patch;
        texts without sites are then copied too. Instructions with x18 are sites if `entries` has an
        entry for them.
        """
        self.entries = entries
        self.page = page
        self.strict = strict
        self._texts: OrderedDict[Key, Text | None] = OrderedDict()
        self._moved: OrderedDict[tuple[bytes, int], PatchedFile] = OrderedDict()
        self._path: Path | None = None
        if directory is not None:
            try:
                self._path = _open(Path(directory) / "svc", entries, page)
            except (OSError, ValueError) as error:
                _LOG.warning("patched texts are not kept in %s: %s", directory, error)

    def find_sites(self, code: bytes, sections: Sequence[tuple[int, int]]) -> list[Site]:
        """The sites in `code`, whose instructions lie in these byte ranges.

        `strict` trusts no such ranges: what else lies in pages of code can be executed too.
        """
        found = svc_patch.find_sites(code, self.strict, sections if self.entries.x18 else ())
        if self.strict:
            return found
        return [s for s in found if any(first <= s.offset < last for first, last in sections)]

    def look(self, fd: int, offset: int, length: int) -> Text | None:
        """The code of a mapping of file pages [offset, + length); None if it has none.

        Two microseconds for what was seen before; else the code is read, about 3 ms a MB. OSError.
        """
        status = os.fstat(fd)
        key = (
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
            offset, length,
        )  # fmt: skip
        try:
            text = self._texts[key]
        except KeyError:
            text = self._read(fd, offset, min(length, max(status.st_size - offset, 0)))
            if time.time_ns() - status.st_ctime_ns > _SETTLED_NS:
                self._texts[key] = text
                if len(self._texts) > _KEPT_TEXTS:
                    self._texts.popitem(last=False)
        else:
            self._texts.move_to_end(key)
        return text

    def _read(self, fd: int, offset: int, length: int) -> Text | None:
        file = code_pages.read(fd, self.page)
        ranges = code_pages.within(file, offset, length, self.page) if length else []
        if not ranges:
            return None
        first, size = ranges[0][0], ranges[-1][1] - ranges[0][0]
        code = _read_all(fd, first, size)
        code += bytes(-len(code) % self.page)
        sections = code_pages.sections_within(file, first, len(code))
        key = repr((self.strict, sections)).encode()
        digest = hashlib.blake2b(code, digest_size=16, key=hashlib.blake2b(key).digest()).digest()
        sites = self._sites(code, sections, digest)
        text = Text(first, len(code), sites, file, digest, self.page, None)
        if not sites and not self.strict:
            return text
        return text._replace(copy=self._usual(text, code))

    def _sites(
        self, code: bytes, sections: list[tuple[int, int]], digest: bytes
    ) -> tuple[Site, ...]:
        """As `find_sites`, but where that takes long (0.2 s for a libc) its result is kept."""
        if self._path is None or not self.entries.x18:
            return tuple(self.find_sites(code, sections))
        path = self._path / f"{digest.hex()}.sites"
        with contextlib.suppress(FileNotFoundError):
            return svc_patch.unpack_sites(path.read_bytes())
        sites = tuple(self.find_sites(code, sections))
        try:
            write_file(str(path), svc_patch.pack_sites(sites))
        except OSError as error:
            _LOG.warning("the sites of a text are not kept: %s", error)
        return sites

    def _usual(self, text: Text, code: bytes) -> PatchedFile:
        """The copy whose area lies where it is tried first; kept on disk if there is a place."""
        distance = usual_distance(text)
        if not svc_patch.reaches(text.sites, distance):
            distance = text.size
        path = self._path / f"{text.digest.hex()}.{distance:x}" if self._path is not None else None
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                return PatchedFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC), distance)
        content = b"".join(svc_patch.patch(code, text.sites, distance, self.entries, self.page))
        if path is not None:
            try:
                write_file(str(path), content)
                return PatchedFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC), distance)
            except OSError as error:
                _LOG.warning("a patched text is not kept: %s", error)
        return PatchedFile(sealed_file(content), distance)

    def at(self, text: Text, distance: int) -> PatchedFile:
        """The copy whose area lies `distance` bytes from the text. UnreachableError, OSError."""
        usual = text.copy
        if usual is None:
            raise ValueError("nothing to replace")
        if usual.distance == distance or not text.sites:
            return usual
        key = text.digest, distance
        found = self._moved.get(key)
        if found is None:
            code = _read_all(usual.fd, 0, text.size)
            content = b"".join(svc_patch.patch(code, text.sites, distance, self.entries, self.page))
            found = self._moved[key] = PatchedFile(sealed_file(content), distance)
            if len(self._moved) > _KEPT_TEXTS:
                self._moved.popitem(last=False)
        else:
            self._moved.move_to_end(key)
        return found


def usual_distance(text: Text) -> int:
    """From the text to the first page behind its file's image (behind itself, if unknown)."""
    image = text.layout.image_of(text.first) if text.layout is not None else None
    return max(image[1], text.size) if image is not None else text.size


def sealed_file(content: bytes) -> int:
    """A descriptor of shared memory that nobody can write any more."""
    fd = os.memfd_create(MEMFD_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _read_all(fd: int, offset: int, length: int) -> bytes:
    """What is there of these bytes."""
    parts = []
    while length and (part := os.pread(fd, length, offset)):
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)


def remove_others(directory: str | os.PathLike[str], entries: Entries, page: int) -> None:
    """Texts that other versions of ddock have kept. Who has one open keeps it."""
    root = Path(directory) / "svc"
    with contextlib.suppress(FileNotFoundError):
        for path in root.iterdir():
            if path.name != _name(entries, page):
                shutil.rmtree(path, ignore_errors=True)


def _name(entries: Entries, page: int) -> str:
    return f"{_revision()}-{entries.svc:x}-{entries.set_tls:x}-{entries.x18:x}-{page:x}"


def _open(root: Path, entries: Entries, page: int) -> Path:
    path = root / _name(entries, page)
    path.mkdir(parents=True, exist_ok=True, mode=0o755)
    require_own(path)
    return path


@functools.cache
def _revision() -> str:
    """Names the code that decides what texts look like: another revision, another directory."""
    hasher = hashlib.blake2b(digest_size=6)
    for module in (code_pages, layout, svc_patch, x18):
        hasher.update(inspect.getsource(module).encode())
    return hasher.hexdigest()
