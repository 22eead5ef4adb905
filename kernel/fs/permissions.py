"""Discretionary access control, as fs/namei.c and fs/attr.c do it, on the emulated owners.

Host permissions never decide anything inside the container's own trees (host files are always
readable and writable by us); these checks do.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from kernel.errors import LinuxError
from kernel.fs.metadata import DIRECTORY

if TYPE_CHECKING:
    from kernel.credentials import Credentials
    from kernel.fs.node import Node

CAP_CHOWN: Final = 0
CAP_DAC_OVERRIDE: Final = 1
CAP_DAC_READ_SEARCH: Final = 2
CAP_FOWNER: Final = 3
CAP_FSETID: Final = 4
CAP_LINUX_IMMUTABLE: Final = 9
CAP_SYS_CHROOT: Final = 18
CAP_SYS_ADMIN: Final = 21
CAP_MKNOD: Final = 27
READS_ALL: Final = 1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH  # either does

MAY_EXEC: Final = 1
MAY_WRITE: Final = 2
MAY_READ: Final = 4


def permitted(node: Node, who: Credentials, want: int) -> bool:
    """Whether `who` has all of `want` (MAY_* bits) on `node`."""
    mode = node.mode
    if who.fsuid == node.uid:
        granted = mode >> 6
    elif node.gid == who.fsgid or node.gid in who.groups:
        granted = mode >> 3
    else:
        granted = mode
    missing = want & ~granted & 7
    if not missing:
        return True
    if node.kind == DIRECTORY:
        if not missing & MAY_WRITE and who.can(CAP_DAC_READ_SEARCH):
            return True
        return who.can(CAP_DAC_OVERRIDE)
    if missing == MAY_READ and who.can(CAP_DAC_READ_SEARCH):
        return True
    if want & MAY_EXEC and not mode & 0o111:
        return False
    return who.can(CAP_DAC_OVERRIDE)


def check(node: Node, who: Credentials, want: int) -> None:
    """`permitted`, or EACCES."""
    if not permitted(node, who, want):
        raise LinuxError(errno.EACCES)


def owns(node: Node, who: Credentials) -> bool:
    """Whether `who` may do what only the owner may (chmod, utimes ...)."""
    return who.fsuid == node.uid or who.can(CAP_FOWNER)


def check_delete(directory: Node, victim: Node, who: Credentials) -> None:
    """May `who` remove `victim` from `directory`: write and search, and the sticky bit's rule."""
    check(directory, who, MAY_WRITE | MAY_EXEC)
    if (
        directory.mode & 0o1000
        and who.fsuid not in {victim.uid, directory.uid}
        and not who.can(CAP_FOWNER)
    ):
        raise LinuxError(errno.EPERM)
