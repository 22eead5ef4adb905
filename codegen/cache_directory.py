"""Where the cache's files are: epochs, their owners and locks.

    DIR/<code revision>-<stub entry>-<epoch>/
        journal   what is known: file identities, patched texts, their slots
        table     the site table (codegen.site_table)
        text/     <content hash>.<version>: an executable segment with its sites patched
        lock      held by the one process that writes
        planning  bytes of it held by whoever decides about the patches of a content
        alive     shared lock of every process that uses this epoch

Slots are never taken back, because running guests hold them. When few are left, the next daemon
begins another epoch with an empty table; the old one is removed once nobody uses it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from codegen.cache_journal import Journal
from codegen.cache_texts import State
from codegen.layout import SITE_LIMIT

_SLOTS_LIMIT: Final = SITE_LIMIT * 9 // 10
_JOURNAL_LIMIT: Final = 16 << 20
_FLOCK: Final = struct.Struct("hhqqi4x")  # type, whence, start, length, pid


class Epochs:
    """The epochs of one revision of the code and one stub."""

    def __init__(self, root: Path, name: str) -> None:
        self._root = root
        self._name = name

    def path(self, epoch: int) -> Path:
        """An epoch's directory."""
        return self._root / f"{self._name}-{epoch}"

    def newest(self) -> int:
        """The highest epoch there is; 0 if there is none."""
        prefix = f"{self._name}-"
        names = [p.name.removeprefix(prefix) for p in self._root.glob(f"{prefix}*")]
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def renew(self) -> None:
        """Begin a new epoch if the newest is used up; remove directories nobody uses."""
        keep = self.newest()
        if _used_up(self.path(keep)):
            keep += 1
            self.path(keep).mkdir(mode=0o755)
        for old in self._root.iterdir():
            if old != self.path(keep) and (old / "alive").exists():
                unused = fcntl.LOCK_EX | fcntl.LOCK_NB
                with contextlib.suppress(OSError), locked(old / "alive", unused):
                    shutil.rmtree(old, ignore_errors=True)


def require_own(path: Path) -> None:
    """Raise ValueError if somebody else could put code into this directory."""
    info = path.stat()
    if info.st_uid not in {0, os.geteuid()} or info.st_mode & 0o022:
        raise ValueError(f"others may write {path}")


def declare_alive(path: Path) -> int:
    """Keep the epoch from being removed while the descriptor is open (also in forked children)."""
    fd = os.open(path / "alive", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


@contextlib.contextmanager
def locked(path: Path, operation: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock on a file, which is created if need be.

    It is opened anew each time: descriptors inherited over fork would share the lock.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, operation)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def locked_content(path: Path, digest: bytes) -> Iterator[None]:
    """Be the only one, of all processes, who holds `path` for this content.

    A lock of one byte, which belongs to the open file and not to the process (fcntl(2), "Open file
    description locks"): threads exclude each other, and the end of a process gives it back.
    """
    place = int.from_bytes(digest[:7])
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0))
        yield
    finally:
        os.close(fd)


def _used_up(path: Path) -> bool:
    try:
        journal, state = Journal(str(path / "journal"), writable=False), State()
    except (OSError, ValueError):
        return False
    state.take(journal.read())
    journal.close()
    return state.next_slot > _SLOTS_LIMIT or journal.size > _JOURNAL_LIMIT
