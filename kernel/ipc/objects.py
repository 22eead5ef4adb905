"""What the three System V families share: keys, identifiers, owners and permissions."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from kernel.capabilities import CAP_IPC_OWNER, CAP_SYS_ADMIN
from kernel.errors import LinuxError

if TYPE_CHECKING:
    from kernel.credentials import Credentials
    from kernel.task import Task

IPC_PRIVATE: Final = 0
IPC_CREAT, IPC_EXCL, IPC_NOWAIT = 0o1000, 0o2000, 0o4000
IPC_RMID, IPC_SET, IPC_STAT, IPC_INFO = 0, 1, 2, 3
READ, WRITE, EXECUTE = 4, 2, 1


class Object:
    """Struct kern_ipc_perm: who made and who owns a System V object."""

    def __init__(self, key: int, mode: int, who: Credentials) -> None:
        self.id = -1
        self.key = key
        self.mode = mode & 0o777
        self.uid = self.creator_uid = who.euid
        self.gid = self.creator_gid = who.egid
        self.changed = int(time.time())
        self.removed = False

    def check(self, who: Credentials, want: int) -> None:
        """EACCES unless `who` has all of READ, WRITE, EXECUTE in `want` (ipcperms)."""
        if who.euid in (self.creator_uid, self.uid):
            granted = self.mode >> 6
        elif {self.creator_gid, self.gid} & ({who.egid} | who.groups):
            granted = self.mode >> 3
        else:
            granted = self.mode
        if want & ~granted & 7 and not who.can(CAP_IPC_OWNER):
            raise LinuxError(errno.EACCES)

    def check_owner(self, who: Credentials) -> None:
        """EPERM unless `who` may change or remove it."""
        if who.euid not in (self.creator_uid, self.uid) and not who.can(CAP_SYS_ADMIN):
            raise LinuxError(errno.EPERM)

    def set(self, uid: int, gid: int, mode: int) -> None:
        """IPC_SET."""
        self.uid, self.gid, self.mode = uid, gid, mode & 0o777
        self.changed = int(time.time())

    def permissions(self, prefix: str, mode_flags: int = 0) -> dict[str, int]:
        """Members of the struct ipc64_perm called `prefix`."""
        return {
            f"{prefix}.key": self.key,
            f"{prefix}.uid": self.uid,
            f"{prefix}.gid": self.gid,
            f"{prefix}.cuid": self.creator_uid,
            f"{prefix}.cgid": self.creator_gid,
            f"{prefix}.mode": self.mode | mode_flags,
            f"{prefix}.seq": self.id >> 15,
        }


T = TypeVar("T", bound=Object)


class Registry(Generic[T]):
    """The objects of one family by identifier and key. Identifiers are not reused."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.objects: dict[int, T] = {}
        self._keys: dict[int, T] = {}
        self._next = 0

    def get(self, task: Task, key: int, flags: int, fits: Callable[[T], None]) -> T | None:
        """The object of `key`, None if one is to be made. ENOENT, EEXIST, EACCES, ENOSPC.

        `fits` raises if an existing object is not what the caller asks for.
        """
        found = None if key == IPC_PRIVATE else self._keys.get(key)
        if found is not None:
            if flags & IPC_CREAT and flags & IPC_EXCL:
                raise LinuxError(errno.EEXIST)
            fits(found)
            found.check(task.credentials, flags >> 6 | flags >> 3 | flags)
            return found
        if key != IPC_PRIVATE and not flags & IPC_CREAT:
            raise LinuxError(errno.ENOENT)
        if len(self.objects) >= self.limit:
            raise LinuxError(errno.ENOSPC)
        return None

    def add(self, made: T) -> int:
        """Enter a new object; its identifier."""
        made.id = self._next
        self._next = (self._next + 1) & 0x7FFFFFFF
        self.objects[made.id] = made
        if made.key != IPC_PRIVATE:
            self._keys[made.key] = made
        return made.id

    def find(self, identifier: int) -> T:
        """By identifier. EINVAL."""
        found = self.objects.get(identifier)
        if found is None:
            raise LinuxError(errno.EINVAL)
        return found

    def at_index(self, index: int) -> T:
        """By position, for *_STAT: our identifiers are their own index. EINVAL."""
        return self.find(index)

    @property
    def highest(self) -> int:
        """The highest index in use (IPC_INFO)."""
        return max(self.objects, default=0)

    def forget_key(self, gone: T) -> None:
        """A removed object can no longer be found by its key."""
        if self._keys.get(gone.key) is gone:
            del self._keys[gone.key]

    def drop(self, gone: T) -> None:
        """Remove an object altogether."""
        gone.removed = True
        self.forget_key(gone)
        self.objects.pop(gone.id, None)
