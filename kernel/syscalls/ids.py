"""User and group ids, supplementary groups and capability sets (credentials(7)).

The rules are in kernel.credentials. Like on Linux these calls change one thread: it is the C
library that makes setuid(2) a property of the process.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Final

from kernel.abi import Gid, InBuffer, Int, Pointer, Uid
from kernel.errors import LinuxError
from kernel.reply import Reply
from kernel.syscalls.declare import syscall

if TYPE_CHECKING:
    from kernel.credentials import Credentials
    from kernel.reply import Answer
    from kernel.task import Task

_NGROUPS_MAX: Final = 65536
_CAPABILITY_1, _CAPABILITY_2, _CAPABILITY_3 = 0x19980330, 0x20071026, 0x20080522
_HEADER = struct.Struct("<Ii")
_SETS = struct.Struct("<III")
_LOW: Final = 0xFFFFFFFF


@syscall()
def getuid(task: Task) -> int:
    """getuid(2)."""
    return task.credentials.uid


@syscall()
def geteuid(task: Task) -> int:
    """geteuid(2)."""
    return task.credentials.euid


@syscall()
def getgid(task: Task) -> int:
    """getgid(2)."""
    return task.credentials.gid


@syscall()
def getegid(task: Task) -> int:
    """getegid(2)."""
    return task.credentials.egid


def _become(task: Task, who: Credentials) -> int:
    task.credentials = who
    return 0


@syscall()
def setuid(task: Task, uid: Uid) -> int:
    """setuid(2)."""
    return _become(task, task.credentials.setuid(uid))


@syscall()
def setgid(task: Task, gid: Gid) -> int:
    """setgid(2)."""
    return _become(task, task.credentials.setgid(gid))


@syscall()
def setreuid(task: Task, ruid: Uid, euid: Uid) -> int:
    """setreuid(2)."""
    return _become(task, task.credentials.setreuid(ruid, euid))


@syscall()
def setregid(task: Task, rgid: Gid, egid: Gid) -> int:
    """setregid(2)."""
    return _become(task, task.credentials.setregid(rgid, egid))


@syscall()
def setresuid(task: Task, ruid: Uid, euid: Uid, suid: Uid) -> int:
    """setresuid(2)."""
    return _become(task, task.credentials.setresuid(ruid, euid, suid))


@syscall()
def setresgid(task: Task, rgid: Gid, egid: Gid, sgid: Gid) -> int:
    """setresgid(2)."""
    return _become(task, task.credentials.setresgid(rgid, egid, sgid))


@syscall()
def setfsuid(task: Task, uid: Uid) -> int:
    """setfsuid(2): always answers the previous id."""
    before = task.credentials
    task.credentials = before.setfsuid(uid)
    return before.fsuid


@syscall()
def setfsgid(task: Task, gid: Gid) -> int:
    """setfsgid(2): always answers the previous id."""
    before = task.credentials
    task.credentials = before.setfsgid(gid)
    return before.fsgid


def _three(addresses: tuple[int, int, int], ids: tuple[int, int, int]) -> Reply:
    pairs = zip(addresses, ids, strict=True)
    return Reply.out(0, *((address, struct.pack("<I", number)) for address, number in pairs))


@syscall()
def getresuid(task: Task, ruid: Pointer, euid: Pointer, suid: Pointer) -> Answer:
    """getresuid(2)."""
    who = task.credentials
    return _three((ruid, euid, suid), (who.uid, who.euid, who.suid))


@syscall()
def getresgid(task: Task, rgid: Pointer, egid: Pointer, sgid: Pointer) -> Answer:
    """getresgid(2)."""
    who = task.credentials
    return _three((rgid, egid, sgid), (who.gid, who.egid, who.sgid))


@syscall()
def getgroups(task: Task, gidsetsize: Int, grouplist: Pointer) -> Answer:
    """getgroups(2): in ascending order, as Linux keeps them."""
    groups = sorted(task.credentials.groups)
    if gidsetsize < 0:
        return -errno.EINVAL
    if not gidsetsize:
        return len(groups)
    if len(groups) > gidsetsize:
        return -errno.EINVAL
    if not groups:
        return 0
    return Reply.out(len(groups), (grouplist, struct.pack(f"<{len(groups)}I", *groups)))


@syscall(missing="a group named twice is listed once; more than 16384 groups")
async def setgroups(task: Task, gidsetsize: Int, grouplist: InBuffer) -> Answer:
    """setgroups(2)."""
    who = task.credentials.setgroups(())  # EPERM comes first
    if not 0 <= gidsetsize <= _NGROUPS_MAX:
        return -errno.EINVAL
    if gidsetsize and not grouplist:
        return -errno.EFAULT
    if len(grouplist) < 4 * gidsetsize:
        return -errno.ENOMEM
    task.credentials = who.setgroups(struct.unpack(f"<{gidsetsize}I", grouplist))
    return 0


async def _capability_header(task: Task, header: int) -> tuple[int, int, int]:
    """(version, pid, words a set) of a cap_user_header_t; words is 0 for an unknown version."""
    version, pid = _HEADER.unpack(await task.copy_in(header, _HEADER.size))
    words = {_CAPABILITY_1: 1, _CAPABILITY_2: 2, _CAPABILITY_3: 2}.get(version, 0)
    return version, pid, words


def _find(task: Task, pid: int) -> Task:
    """The thread `pid`, 0 being the caller. ESRCH."""
    if pid in (0, task.tid):
        return task
    for process in task.process.container.pids.values():
        found = process.tasks.get(pid)
        if found is not None:
            return found
    raise LinuxError(errno.ESRCH)


@syscall()
async def capget(task: Task, header: Pointer, data: Pointer) -> Answer:
    """capget(2): an unknown version is answered with the preferred one."""
    _, pid, words = await _capability_header(task, header)
    if not words:
        await task.copy_out(header, struct.pack("<I", _CAPABILITY_3))
        return -errno.EINVAL if data else 0
    if pid < 0:
        return -errno.EINVAL
    who = _find(task, pid).credentials
    if not data:
        return 0
    values = (who.effective, who.permitted, who.inheritable)
    sets = b"".join(_SETS.pack(*(value >> 32 * i & _LOW for value in values)) for i in range(words))
    return Reply.out(0, (data, sets))


@syscall()
async def capset(task: Task, header: Pointer, data: Pointer) -> Answer:
    """capset(2): of the calling thread only."""
    _, pid, words = await _capability_header(task, header)
    if not words:
        await task.copy_out(header, struct.pack("<I", _CAPABILITY_3))
        return -errno.EINVAL
    if pid not in (0, task.tid):
        return -errno.EPERM
    raw = await task.copy_in(data, _SETS.size * words)
    effective = permitted = inheritable = 0
    for i, (e, p, h) in enumerate(_SETS.iter_unpack(raw)):
        effective |= e << 32 * i
        permitted |= p << 32 * i
        inheritable |= h << 32 * i
    return _become(task, task.credentials.capset(effective, permitted, inheritable))
