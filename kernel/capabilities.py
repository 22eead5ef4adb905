"""Capability numbers, Docker's choice of them, and how a file carries them (capabilities(7))."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable

from kernel.errors import LinuxError

(
    CAP_CHOWN,
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_FOWNER,
    CAP_FSETID,
    CAP_KILL,
    CAP_SETGID,
    CAP_SETUID,
    CAP_SETPCAP,
    CAP_LINUX_IMMUTABLE,
    CAP_NET_BIND_SERVICE,
    CAP_NET_BROADCAST,
    CAP_NET_ADMIN,
    CAP_NET_RAW,
    CAP_IPC_LOCK,
    CAP_IPC_OWNER,
    CAP_SYS_MODULE,
    CAP_SYS_RAWIO,
    CAP_SYS_CHROOT,
    CAP_SYS_PTRACE,
    CAP_SYS_PACCT,
    CAP_SYS_ADMIN,
    CAP_SYS_BOOT,
    CAP_SYS_NICE,
    CAP_SYS_RESOURCE,
    CAP_SYS_TIME,
    CAP_SYS_TTY_CONFIG,
    CAP_MKNOD,
    CAP_LEASE,
    CAP_AUDIT_WRITE,
    CAP_AUDIT_CONTROL,
    CAP_SETFCAP,
    CAP_MAC_OVERRIDE,
    CAP_MAC_ADMIN,
    CAP_SYSLOG,
    CAP_WAKE_ALARM,
    CAP_BLOCK_SUSPEND,
    CAP_AUDIT_READ,
    CAP_PERFMON,
    CAP_BPF,
    CAP_CHECKPOINT_RESTORE,
) = range(41)
CAP_LAST = CAP_CHECKPOINT_RESTORE
NUMBERS: dict[str, int] = {
    name.removeprefix("CAP_"): number
    for name, number in list(globals().items())
    if name.startswith("CAP_") and name != "CAP_LAST"
}
ALL_CAPABILITIES = (1 << (CAP_LAST + 1)) - 1


def mask(*capabilities: int) -> int:
    """The bit mask of these capability numbers."""
    result = 0
    for capability in capabilities:
        result |= 1 << capability
    return result


# What dockerd grants without --cap-add or --privileged: 0xa80425fb.
DOCKER_DEFAULT = mask(
    CAP_CHOWN,
    CAP_DAC_OVERRIDE,
    CAP_FOWNER,
    CAP_FSETID,
    CAP_KILL,
    CAP_SETGID,
    CAP_SETUID,
    CAP_SETPCAP,
    CAP_NET_BIND_SERVICE,
    CAP_NET_RAW,
    CAP_SYS_CHROOT,
    CAP_MKNOD,
    CAP_AUDIT_WRITE,
    CAP_SETFCAP,
)
# The capabilities that follow the file system uid (CAP_FS_SET in linux/capability.h).
FILE_SYSTEM_SET = mask(
    CAP_CHOWN,
    CAP_MKNOD,
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_FOWNER,
    CAP_FSETID,
    CAP_LINUX_IMMUTABLE,
    CAP_MAC_OVERRIDE,
)

_VFS_CAP_REVISION_1 = 0x01000000
_VFS_CAP_REVISION_2 = 0x02000000
_VFS_CAP_REVISION_3 = 0x03000000


def parse_file_capabilities(attribute: bytes) -> tuple[int, int, bool]:
    """(permitted, inheritable, effective) of a security.capability attribute (vfs_cap_data)."""
    if len(attribute) < 12:
        raise LinuxError(errno.EINVAL)
    magic = struct.unpack_from("<I", attribute)[0]
    revision = magic & 0xFF000000
    sizes = {_VFS_CAP_REVISION_1: 12, _VFS_CAP_REVISION_2: 20, _VFS_CAP_REVISION_3: 24}
    if sizes.get(revision) != len(attribute):
        raise LinuxError(errno.EINVAL)
    permitted, inheritable = struct.unpack_from("<II", attribute, 4)
    if revision != _VFS_CAP_REVISION_1:
        high_permitted, high_inheritable = struct.unpack_from("<II", attribute, 12)
        permitted |= high_permitted << 32
        inheritable |= high_inheritable << 32
    return permitted & ALL_CAPABILITIES, inheritable & ALL_CAPABILITIES, bool(magic & 1)


def capability_number(name: str) -> int:
    """The number of `NET_ADMIN` or `cap_net_admin`; ValueError if there is none."""
    upper = name.upper().removeprefix("CAP_")
    try:
        return NUMBERS[upper]
    except KeyError:
        raise ValueError(f"unknown capability: {name!r}") from None


def docker_capabilities(add: Iterable[str], drop: Iterable[str], privileged: bool) -> int:
    """The bounding mask for --cap-add, --cap-drop and --privileged; ValueError for a wrong name.

    As in moby's TweakCapabilities: "ALL" names every one, and what is both added and dropped is
    dropped only when ALL is added.
    """
    if privileged:
        return ALL_CAPABILITIES
    added = {name.upper() for name in add}
    dropped = {name.upper() for name in drop}
    add_mask = mask(*(capability_number(name) for name in added - {"ALL"}))
    drop_mask = mask(*(capability_number(name) for name in dropped - {"ALL"}))
    if "ALL" in added:
        return ALL_CAPABILITIES & ~drop_mask
    if "ALL" in dropped:
        return add_mask
    return DOCKER_DEFAULT & ~drop_mask | add_mask
