"""The translation cache: patched copies of executable segments, shared by every guest of a home.

A file is known by its content. Hashing is remembered per identity: device, inode, size, mtime, and
ctime, because a guest can set the others. Patches are decided for a whole file from its content
alone, so all versions agree about a site; a version that others may have mapped never changes.

The first trap in a file makes it wanted; `flush` then patches it, usually all its sites at once.
Slots are a common good (8192): when they become scarce only sites that trapped get one, and when
they are gone sites stay on the trap.

    text = cache.lookup(fd)                                  # at mmap with PROT_EXEC
    if text and text.patched and (part := text.patched.part_of(offset, length)):
        skip, text_offset, size = part
        ...map text.patched.fd at text_offset over [address + skip, + size),
        ...copy text.patched.return_addresses(address - offset) into the return table
    if text.wants(site):                                     # at a trap
        cache.record(text, site, fd)
    await asyncio.to_thread(cache.flush)                     # soon after, while has_pending
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import inspect
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from codegen import (
    cache_journal,
    layout,
    patch,
    patch_elf,
    patch_padding,
    patch_text,
    site_table,
)
from codegen.asm import decode
from codegen.cache_directory import (
    Epochs,
    declare_alive,
    locked,
    locked_content,
    require_own,
)
from codegen.cache_journal import Journal
from codegen.cache_texts import (
    FileText,
    Identity,
    PatchedText,
    State,
    TextRecord,
    place,
    slots_of,
)
from codegen.layout import SITE_LIMIT
from codegen.site_table import SiteTable, write_file

__all__ = ["CacheStats", "FileText", "PatchedText", "TranslationCache"]

_LOG = logging.getLogger(__name__)
_RECORD_FORMAT: Final = b"1"
_HASH_BYTES: Final = 16
_HASH_AT_ONCE: Final = 32 << 20  # larger files are hashed by `flush`, not while a guest waits
_CHUNK: Final = 1 << 20
_SETTLED_NS: Final = 100_000_000  # a file changed this recently may change unnoticed
_LASTING_NS: Final = 60_000_000_000  # identities of younger files are not worth writing down
_MEMO_LIMIT: Final = 100_000
_PLENTY: Final = 4  # a file gets slots for all its sites if there are so many times more


@dataclass(frozen=True)
class CacheStats:
    """For `ddock doctor`."""

    path: str | None
    writable: bool
    files: int
    sites: int
    refused: int
    slots_free: int


class TranslationCache:
    """The cache as one process sees it. Cheap to fork: the zygote opens it, kernels inherit it.

    Only `flush` may run in another thread. A directory that cannot be used makes a cache that knows
    nothing: `site_table_fd` is None and every site stays on the trap. One that cannot be written is
    read, and `record` does nothing.
    """

    def __init__(
        self, directory: str | os.PathLike[str], entry: int, *, renew: bool = False
    ) -> None:
        """`entry`: address of the stub's entry. `renew`: begin a new epoch if this one is full."""
        self.writable = False
        self.path = Path()  # the epoch's directory
        self._entry = entry
        self._journal: Journal | None = None
        self._table: SiteTable | None = None
        self._alive = -1
        self._state = State()
        self._texts: dict[bytes, FileText] = {}
        self._identities: dict[Identity, FileText | None] = {}
        self._unhashed: set[Identity] = set()
        self._fresh: dict[Identity, bytes] = {}  # identities to write down with the next flush
        self._dirty: dict[FileText, tuple[int, Identity]] = {}
        self._dirty_lock = threading.Lock()
        try:
            self._open(Path(directory), renew)
        except (OSError, ValueError) as error:
            _LOG.warning("no translation cache in %s: %s", directory, error)

    # ----------------------------------------------------------------------------------- reading
    @property
    def site_table(self) -> SiteTable | None:
        """The site table; None: no cache, every site stays on the trap."""
        return self._table

    def site_table_fd(self) -> int | None:
        """The site table's descriptor, to be mapped by every guest as codegen.site_table says."""
        return self._table.fd if self._table else None

    def lookup(self, fd: int, stat: os.stat_result | None = None) -> FileText | None:
        """What is known about an open file; None if it is no ELF file.

        Two microseconds for a file seen before; a new one is hashed (1 ms a MB). A `stat` given
        instead of taken must be of now.
        """
        journal = self._journal
        if journal is None:
            return None
        if journal.has_news:
            self._learn(journal)
        identity = _identity(stat or os.fstat(fd))
        try:
            return self._identities[identity]
        except KeyError:
            return self._identify(fd, identity)

    def _learn(self, journal: Journal) -> None:
        for digest in self._state.take(journal.read()):
            if digest in self._texts:
                self._update(self._texts[digest], self._state.records[digest])
        for identity in self._unhashed & self._state.memo.keys():
            self._unhashed.discard(identity)
            self._identities.pop(identity, None)

    def _update(self, text: FileText, record: TextRecord) -> None:
        text.update(record, str(self.path / "text" / _text_name(record)))

    def _text(self, digest: bytes) -> FileText:
        text = self._texts.get(digest)
        if text is None:
            text = self._texts[digest] = FileText(digest)
            record = self._state.records.get(digest)
            if record is not None:
                self._update(text, record)
        return text

    def _identify(self, fd: int, identity: Identity) -> FileText | None:
        if len(self._identities) > _MEMO_LIMIT:
            self._identities.clear()
        text: FileText | None
        if os.pread(fd, 4, 0) != b"\x7fELF":
            text = None
        elif (known := self._state.memo.get(identity)) is not None:
            text = self._text(known)
        elif identity[2] > _HASH_AT_ONCE:
            text = FileText(None)
            self._unhashed.add(identity)
        else:
            digest, age_ns = _hash(fd, identity)
            text = self._text(digest)
            if age_ns < _SETTLED_NS:
                return text
            if age_ns > _LASTING_NS:
                self._fresh[identity] = digest
        self._identities[identity] = text
        return text

    # ----------------------------------------------------------------------------------- writing
    def record(self, text: FileText, site: int, fd: int) -> None:
        """Note that the `syscall` at this file offset trapped. `fd` is duplicated."""
        if not self.writable or not text.wants(site):
            return
        text.pending.add(site)
        with self._dirty_lock:
            if text not in self._dirty:
                copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
                self._dirty[text] = (copy, _identity(os.fstat(fd)))

    @property
    def has_pending(self) -> bool:
        """Whether `flush` has files to patch."""
        return bool(self._dirty)

    def flush(self) -> int:
        """Patch what was recorded; how many files got a new version. About 0.1 s for a libc.

        May run in a thread of its own. Its results appear with the next `lookup`.
        """
        with self._dirty_lock:
            dirty, self._dirty = self._dirty, {}
            fresh, self._fresh = self._fresh, {}
        made = 0
        for text, (fd, identity) in dirty.items():
            try:
                made += self._translate(fd, identity, set(text.pending))
            except (OSError, ValueError) as error:
                _LOG.warning("cannot translate: %s", error)
            finally:
                os.close(fd)
        if fresh and self.writable:
            with contextlib.suppress(OSError), self._writing() as (journal, state):
                journal.append(
                    ("file", *identity, digest)
                    for identity, digest in fresh.items()
                    if identity not in state.memo
                )
        return made

    def prepare(self, fd: int) -> bool:
        """Patch a file before anything trapped in it; whether there is a new version."""
        text = self.lookup(fd)
        if text is None or text.complete or not self.writable:
            return False
        return self._translate(fd, _identity(os.fstat(fd)), set())

    def _translate(self, fd: int, identity: Identity, wanted: set[int]) -> bool:
        """Make the next version of one file's text; False if there is nothing to add.

        Containers that start together meet the same new files. One of them decides about a file's
        patches, which takes processor time and memory that a kernel keeps; the others wait for it.
        """
        digest, age_ns = _hash(fd, identity)
        settled = age_ns > _SETTLED_NS
        with locked_content(self.path / "planning", digest):
            with self._writing() as (journal, state):
                old = state.records.get(digest)
                if settled and identity not in state.memo:
                    journal.append([("file", *identity, digest)])
            if old and old.complete:
                return False
            content = b"".join(_chunks(fd, identity[2]))
            if _digest(content) != digest:
                return False  # changed meanwhile: it is another file now
            image = patch_elf.read_image(content)
            plan = patch.Patcher(image).plan() if image else None
            with self._writing() as (journal, state):
                if image is None or plan is None:
                    new = TextRecord(digest, 0, 0, 0, [], [], complete=True)
                else:
                    new = self._version(digest, image, plan, wanted, old, state.next_slot)
                if new != old:
                    journal.append([("text", *new)])
        return new != old and new.length > 0

    def _version(
        self,
        digest: bytes,
        image: patch_elf.Image,
        plan: patch.Plan,
        wanted: set[int],
        old: TextRecord | None,
        next_slot: int,
    ) -> TextRecord:
        """Give slots to as many patches as may have one; write their trampolines and the text."""
        assert self._table is not None
        by_return = {image.file_offset + p.returns_to: p for p in plan.patches}
        runs = list(old.runs) if old else []
        slots = slots_of(runs)
        taken = set(slots.values())
        missing = [r for r in by_return if r not in taken]
        free = SITE_LIMIT - next_slot
        if len(missing) * _PLENTY > free:
            missing = [r for r in missing if r - 2 in wanted]
        added = place(runs, missing, next_slot, free)
        slots |= added
        complete = len(slots) == len(by_return)
        refused = wanted - {r - 2 for r in slots.values()} | set(old.refused if old else ())
        kept = [] if complete else sorted(refused)
        if old and not added:
            return old._replace(refused=kept, complete=complete)
        version = old.version + 1 if old else 1
        length = len(image.text) if slots else 0
        new = TextRecord(digest, version, image.file_offset, length, runs, kept, complete)
        if slots:
            patches = {slot: by_return[r] for slot, r in slots.items()}
            self._table.write({slot: patches[slot].trampoline(slot) for slot in added})
            text = patch.apply(image, patches)
            write_file(str(self.path / "text" / _text_name(new)), text)
        return new

    # ----------------------------------------------------------------------------------- storage
    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[Journal, State]]:
        """Be the one writer, with a view of one's own that is up to date."""
        with locked(self.path / "lock"):
            journal, state = Journal(str(self.path / "journal"), writable=True), State()
            try:
                state.take(journal.read())
                yield journal, state
            finally:
                journal.close()

    def _open(self, root: Path, renew: bool) -> None:
        epochs = Epochs(root, f"{_revision()}-{self._entry:x}")
        with contextlib.suppress(OSError):
            root.mkdir(parents=True, exist_ok=True, mode=0o755)
            if renew:
                epochs.renew()
        self.path = epochs.path(epochs.newest())
        try:
            (self.path / "text").mkdir(parents=True, exist_ok=True, mode=0o755)
            with locked(self.path / "lock"):
                self._open_files(writable=True)
            self.writable = True
        except OSError:  # a read-only file system, or another user's directory
            self._open_files(writable=False)

    def _open_files(self, *, writable: bool) -> None:
        require_own(self.path)
        table = SiteTable(str(self.path / "table"), self._entry, writable=writable)
        try:
            journal = Journal(str(self.path / "journal"), writable=writable)
        except (OSError, ValueError):
            table.close()
            raise
        with contextlib.suppress(OSError):
            self._alive = declare_alive(self.path)
        self._learn(journal)
        self._table, self._journal = table, journal

    def close(self) -> None:
        """Give up the descriptors. The cache then knows nothing."""
        if self._journal is not None and self._table is not None:
            self._journal.close()
            self._table.close()
            if self._alive >= 0:
                os.close(self._alive)
        self._journal = self._table = None
        self.writable = False
        for fd, _ in self._dirty.values():
            os.close(fd)
        self._dirty.clear()

    def stats(self) -> CacheStats:
        """Counts, as of now."""
        if self._journal is not None and self._journal.has_news:
            self._learn(self._journal)
        records = self._state.records.values()
        return CacheStats(
            path=str(self.path) if self._journal else None,
            writable=self.writable,
            files=sum(1 for r in records if r.length),
            sites=sum(len(slots_of(r.runs)) for r in records),
            refused=sum(len(r.refused) for r in records),
            slots_free=SITE_LIMIT - self._state.next_slot,
        )


def _identity(s: os.stat_result) -> Identity:
    return (s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)


def _text_name(record: TextRecord) -> str:
    return f"{record.digest.hex()}.{record.version}"


def _chunks(fd: int, size: int) -> Iterator[bytes]:
    """The file in pieces. Not mapped: a guest may truncate it meanwhile."""
    at = 0
    while at < size and (piece := os.pread(fd, min(_CHUNK, size - at), at)):
        yield piece
        at += len(piece)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_HASH_BYTES).digest()


def _hash(fd: int, identity: Identity) -> tuple[bytes, int]:
    """The file's hash, and for how many ns the file had been unchanged before."""
    age_ns = time.time_ns() - identity[4]
    hasher = hashlib.blake2b(digest_size=_HASH_BYTES)
    for piece in _chunks(fd, identity[2]):
        hasher.update(piece)
    return hasher.digest(), age_ns if _identity(os.fstat(fd)) == identity else 0


@functools.cache
def _revision() -> str:
    """Names the code that decides patches and formats: another revision, another directory."""
    hasher = hashlib.blake2b(_RECORD_FORMAT, digest_size=6)
    for module in (
        cache_journal, decode, layout, patch, patch_elf, patch_padding, patch_text, site_table,
    ):  # fmt: skip
        hasher.update(inspect.getsource(module).encode())
    return hasher.hexdigest()
