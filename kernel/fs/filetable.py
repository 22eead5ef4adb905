"""A process's flagged descriptors, and the byte a descriptor that tells the stub about them."""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kernel.fs.openfile import OpenFile

FLAG_COUNT: Final = 4096  # descriptors from here on always come to the kernel


class FileTable:
    """fd -> OpenFile. `flags[fd]` is 1 exactly for the descriptors in here, below FLAG_COUNT."""

    __slots__ = ("_cloexec", "_files", "_flags")

    def __init__(self, flags: MutableSequence[int] | memoryview | None = None) -> None:
        """`flags`: the shared bytes the stub reads; a private array without one (tests)."""
        self._files: dict[int, OpenFile] = {}
        self._cloexec: set[int] = set()
        self._flags = bytearray(FLAG_COUNT) if flags is None else flags

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[int]:
        return iter(self._files)

    def get(self, fd: int) -> OpenFile | None:
        """The open file behind a flagged descriptor."""
        return self._files.get(fd)

    def items(self) -> list[tuple[int, OpenFile]]:
        """All (fd, open file) pairs, a snapshot."""
        return list(self._files.items())

    def set(self, fd: int, file: OpenFile, cloexec: bool = False) -> None:
        """Descriptor `fd` now is `file`; what it was before is closed."""
        file.references += 1
        self.drop(fd)
        self._files[fd] = file
        if cloexec:
            self._cloexec.add(fd)
        if fd < FLAG_COUNT:
            self._flags[fd] = 1

    def drop(self, fd: int) -> None:
        """Descriptor `fd` is closed, or has become an unflagged one."""
        file = self._files.pop(fd, None)
        if file is None:
            return
        self._cloexec.discard(fd)
        if fd < FLAG_COUNT:
            self._flags[fd] = 0
        file.references -= 1
        if not file.references:
            file.closed()

    def cloexec(self, fd: int) -> bool:
        """Whether execve(2) closes `fd`."""
        return fd in self._cloexec

    def set_cloexec(self, fd: int, cloexec: bool) -> None:
        """F_SETFD; unknown descriptors are ignored."""
        if cloexec and fd in self._files:
            self._cloexec.add(fd)
        else:
            self._cloexec.discard(fd)

    def copy(self, flags: MutableSequence[int] | memoryview | None = None) -> FileTable:
        """fork(2): the same open files under the same numbers, in a table of their own."""
        table = FileTable(flags)
        for fd, file in self._files.items():
            table.set(fd, file, fd in self._cloexec)
        return table

    def drop_cloexec(self) -> None:
        """execve(2)."""
        for fd in list(self._cloexec):
            self.drop(fd)

    def drop_range(self, first: int, last: int) -> None:
        """close_range(2)."""
        for fd in [fd for fd in self._files if first <= fd <= last]:
            self.drop(fd)

    def clear(self) -> None:
        """The process has ended."""
        for fd in list(self._files):
            self.drop(fd)
