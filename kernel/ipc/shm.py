"""System V shared memory: a segment is a nameless host memory file, mapped shared by the guests.

How often it is attached is not counted but looked up in the guests' mappings: fork, exec, exit and
munmap need not tell us, and a guest that dies in whatever way leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING, Final

from kernel.errors import LinuxError
from kernel.ipc.objects import Object, Registry
from kernel.pages import rounded

if TYPE_CHECKING:
    from kernel.container import Container
    from kernel.credentials import Credentials
    from kernel.process import Process
    from kernel.task import Task

SHMMAX: Final = (1 << 64) - 1 - (1 << 24)
SHMMNI: Final = 4096
SHM_DEST: Final = 0o1000
SHM_LOCKED: Final = 0o2000
_SHM_HUGETLB: Final = 0o4000
_SHM_RDONLY: Final = 0o10000
_LARGEST: Final = 1 << 46


class Segment(Object):
    """A segment; `fd` is its memory."""

    def __init__(
        self, key: int, mode: int, who: Credentials, size: int, pid: int, page: int
    ) -> None:
        super().__init__(key, mode, who)
        self.size = size
        self.creator_pid = pid
        self.last_pid = 0
        self.attached = self.detached = 0  # times
        self.doomed = False
        self.locked = False
        try:
            self.fd = os.memfd_create(f"SYSV{key & 0xFFFFFFFF:08x}", os.MFD_CLOEXEC)
            os.ftruncate(self.fd, rounded(size, page))
        except OSError as error:
            raise LinuxError(error.errno or errno.ENOMEM) from None
        self.inode = os.fstat(self.fd).st_ino

    def close(self) -> None:
        """Free the memory once nobody has it mapped."""
        os.close(self.fd)


class Segments:
    """All segments of a container."""

    def __init__(self) -> None:
        self.registry: Registry[Segment] = Registry(SHMMNI)

    def close(self) -> None:
        """The container has ended."""
        for segment in list(self.registry.objects.values()):
            self._destroy(segment)

    def get(self, task: Task, key: int, size: int, flags: int) -> int:
        """shmget(2)."""

        def fits(found: Segment) -> None:
            if size > found.size:
                raise LinuxError(errno.EINVAL)

        found = self.registry.get(task, key, flags, fits)
        if found is not None:
            return found.id
        if not 1 <= size <= SHMMAX:
            raise LinuxError(errno.EINVAL)
        if flags & _SHM_HUGETLB or size > _LARGEST:
            raise LinuxError(errno.ENOMEM)
        page = task.process.container.page_size
        return self.registry.add(
            Segment(key, flags, task.credentials, size, task.process.pid, page)
        )

    def find(self, task: Task, identifier: int) -> Segment:
        """By identifier; a removed segment lives while it is attached. EINVAL."""
        segment = self.registry.find(identifier)
        if segment.doomed and not attachments(task.process.container, segment):
            self._destroy(segment)
            raise LinuxError(errno.EINVAL)
        return segment

    def remove(self, task: Task, segment: Segment) -> None:
        """IPC_RMID: at once, or when the last process has detached it."""
        segment.doomed = True
        self.registry.forget_key(segment)
        segment.key = 0
        if not attachments(task.process.container, segment):
            self._destroy(segment)

    def settle(self, task: Task, segment: Segment) -> None:
        """After a detach."""
        segment.detached = int(time.time())
        segment.last_pid = task.process.pid
        if segment.doomed and not attachments(task.process.container, segment):
            self._destroy(segment)

    def _destroy(self, segment: Segment) -> None:
        self.registry.drop(segment)
        segment.close()

    def at(self, process: Process, address: int) -> tuple[Segment, int] | None:
        """(segment, bytes mapped) of the attachment that begins at `address`."""
        by_inode = {segment.inode: segment for segment in self.registry.objects.values()}
        total, found, end = 0, None, address
        for start, stop, offset, inode in _mappings(process):
            segment = by_inode.get(inode)
            if segment is None or start != end or offset != end - address:
                continue
            if found is None and start == address:
                found = segment
            if segment is found:
                total, end = total + stop - start, stop
        return (found, total) if found is not None else None


def duplicate(segment: Segment, flags: int) -> int:
    """A descriptor of the segment's memory for a guest to map, read-only if it asked for that."""
    if not flags & _SHM_RDONLY:
        return os.dup(segment.fd)
    return os.open(f"/proc/self/fd/{segment.fd}", os.O_RDONLY | os.O_CLOEXEC)


def attachments(container: Container, segment: Segment) -> int:
    """shm_nattch: how many mappings of the segment's beginning there are in all processes."""
    return sum(
        1
        for process in container.pids.values()
        if not process.zombie
        for _, _, offset, inode in _mappings(process)
        if inode == segment.inode and not offset
    )


def _mappings(process: Process) -> list[tuple[int, int, int, int]]:
    """(start, end, file offset, inode) of a process's mappings of System V segments."""
    found = []
    with contextlib.suppress(OSError), open(f"/proc/{process.host_pid}/maps", "rb") as maps:
        for line in maps:
            if b"/memfd:SYSV" not in line:
                continue
            area, _, offset, _, inode = line.split(None, 5)[:5]
            start, _, end = area.partition(b"-")
            found.append((int(start, 16), int(end, 16), int(offset, 16), int(inode)))
    return found
