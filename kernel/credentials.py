"""Who a task is: ids, groups and capabilities, and every rule by which they change.

A `Credentials` never changes; each rule returns a new one or raises LinuxError. So a fork shares
the parent's object, the VFS may cache a decision by identity, and a failed call changes nothing.
The rules are those of kernel/sys.c and security/commoncap.c, told in credentials(7) and
capabilities(7), for a process that lives in one user namespace.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from kernel.capabilities import (
    ALL_CAPABILITIES,
    CAP_LAST,
    CAP_SETGID,
    CAP_SETPCAP,
    CAP_SETUID,
    DOCKER_DEFAULT,
    FILE_SYSTEM_SET,
    parse_file_capabilities,
)
from kernel.errors import LinuxError

# prctl(PR_SET_SECUREBITS) bits; each has a lock bit just above it.
SECBIT_NOROOT = 1 << 0
SECBIT_NO_SETUID_FIXUP = 1 << 2
SECBIT_KEEP_CAPS = 1 << 4
SECBIT_NO_CAP_AMBIENT_RAISE = 1 << 6
_SECURE_ALL = 0x55
_SECURE_LOCKS = 0xAA

KEEP = 0xFFFFFFFF  # the -1 of setresuid and its family: leave this id alone
_S_ISUID = 0o4000
_S_ISGID = 0o2000
_S_IXGRP = 0o010


@dataclass(frozen=True, slots=True)
class Credentials:
    """One task's identity; capability sets are bit masks (capabilities(7))."""

    uid: int = 0
    euid: int = 0
    suid: int = 0
    fsuid: int = 0
    gid: int = 0
    egid: int = 0
    sgid: int = 0
    fsgid: int = 0
    groups: frozenset[int] = frozenset()
    permitted: int = DOCKER_DEFAULT
    effective: int = DOCKER_DEFAULT
    inheritable: int = 0
    bounding: int = DOCKER_DEFAULT
    ambient: int = 0
    securebits: int = 0
    no_new_privs: bool = False

    # ------------------------------------------------------------------------------ questions
    def can(self, capability: int) -> bool:
        """Whether `capability` is effective."""
        return bool(self.effective >> capability & 1)

    def in_group(self, gid: int) -> bool:
        """Whether the file system group or a supplementary group is `gid`."""
        return gid == self.fsgid or gid in self.groups

    def require(self, capability: int) -> None:
        """Raise EPERM unless `capability` is effective."""
        if not self.effective >> capability & 1:
            raise LinuxError(errno.EPERM)

    # ------------------------------------------------------------------------------- user ids
    def setuid(self, uid: int) -> Credentials:
        """setuid(2): all four ids with CAP_SETUID, else back to the real or saved one."""
        if uid == KEEP:
            raise LinuxError(errno.EINVAL)
        if self.can(CAP_SETUID):
            return self._with_uids(uid, uid, uid)
        if uid not in (self.uid, self.suid):
            raise LinuxError(errno.EPERM)
        return self._with_uids(self.uid, uid, self.suid)

    def setreuid(self, ruid: int, euid: int) -> Credentials:
        """setreuid(2); the saved id follows the effective one when the real id was named."""
        privileged = self.can(CAP_SETUID)
        if ruid != KEEP and not privileged and ruid not in (self.uid, self.euid):
            raise LinuxError(errno.EPERM)
        if euid != KEEP and not privileged and euid not in (self.uid, self.euid, self.suid):
            raise LinuxError(errno.EPERM)
        real = self.uid if ruid == KEEP else ruid
        effective = self.euid if euid == KEEP else euid
        saved = self.suid
        if ruid != KEEP or euid not in (KEEP, self.uid):
            saved = effective
        return self._with_uids(real, effective, saved)

    def setresuid(self, ruid: int, euid: int, suid: int) -> Credentials:
        """setresuid(2): each to one of the present three unless CAP_SETUID."""
        _check_any_of((ruid, euid, suid), (self.uid, self.euid, self.suid), self.can(CAP_SETUID))
        return self._with_uids(
            self.uid if ruid == KEEP else ruid,
            self.euid if euid == KEEP else euid,
            self.suid if suid == KEEP else suid,
        )

    def setfsuid(self, uid: int) -> Credentials:
        """setfsuid(2): never fails, an id it may not set leaves things as they are."""
        allowed = uid in (self.uid, self.euid, self.suid, self.fsuid) or self.can(CAP_SETUID)
        if uid in (self.fsuid, KEEP) or not allowed:
            return self
        effective = self.effective
        if not self.securebits & SECBIT_NO_SETUID_FIXUP:
            if self.fsuid == 0:
                effective &= ~FILE_SYSTEM_SET
            elif uid == 0:
                effective |= FILE_SYSTEM_SET & self.permitted
        return replace(self, fsuid=uid, effective=effective)

    def _with_uids(self, uid: int, euid: int, suid: int) -> Credentials:
        """New ids and what they do to capabilities (cap_emulate_setxuid in commoncap.c)."""
        permitted, effective, ambient = self.permitted, self.effective, self.ambient
        if not self.securebits & SECBIT_NO_SETUID_FIXUP:
            had_root = 0 in (self.uid, self.euid, self.suid)
            if had_root and 0 not in (uid, euid, suid):
                if not self.securebits & SECBIT_KEEP_CAPS:
                    permitted = effective = 0
                ambient = 0
            if self.euid == 0 and euid != 0:
                effective = 0
            elif self.euid != 0 and euid == 0:
                effective = permitted
        return replace(
            self,
            uid=uid,
            euid=euid,
            suid=suid,
            fsuid=euid,
            permitted=permitted,
            effective=effective,
            ambient=ambient,
        )

    # ------------------------------------------------------------------------------ group ids
    def setgid(self, gid: int) -> Credentials:
        """setgid(2)."""
        if gid == KEEP:
            raise LinuxError(errno.EINVAL)
        if self.can(CAP_SETGID):
            return replace(self, gid=gid, egid=gid, sgid=gid, fsgid=gid)
        if gid not in (self.gid, self.sgid):
            raise LinuxError(errno.EPERM)
        return replace(self, egid=gid, fsgid=gid)

    def setregid(self, rgid: int, egid: int) -> Credentials:
        """setregid(2)."""
        privileged = self.can(CAP_SETGID)
        if rgid != KEEP and not privileged and rgid not in (self.gid, self.egid):
            raise LinuxError(errno.EPERM)
        if egid != KEEP and not privileged and egid not in (self.gid, self.egid, self.sgid):
            raise LinuxError(errno.EPERM)
        real = self.gid if rgid == KEEP else rgid
        effective = self.egid if egid == KEEP else egid
        saved = self.sgid
        if rgid != KEEP or egid not in (KEEP, self.gid):
            saved = effective
        return replace(self, gid=real, egid=effective, sgid=saved, fsgid=effective)

    def setresgid(self, rgid: int, egid: int, sgid: int) -> Credentials:
        """setresgid(2)."""
        _check_any_of((rgid, egid, sgid), (self.gid, self.egid, self.sgid), self.can(CAP_SETGID))
        effective = self.egid if egid == KEEP else egid
        return replace(
            self,
            gid=self.gid if rgid == KEEP else rgid,
            egid=effective,
            sgid=self.sgid if sgid == KEEP else sgid,
            fsgid=effective,
        )

    def setfsgid(self, gid: int) -> Credentials:
        """setfsgid(2)."""
        allowed = gid in (self.gid, self.egid, self.sgid, self.fsgid) or self.can(CAP_SETGID)
        return replace(self, fsgid=gid) if allowed and gid != KEEP else self

    def setgroups(self, groups: Iterable[int]) -> Credentials:
        """setgroups(2); a set, so a group named twice is listed once."""
        self.require(CAP_SETGID)
        return replace(self, groups=frozenset(groups))

    # --------------------------------------------------------------------------- capabilities
    def capset(self, effective: int, permitted: int, inheritable: int) -> Credentials:
        """capset(2): permitted may only shrink; the bounds of capabilities(7) hold."""
        effective, permitted, inheritable = (
            value & ALL_CAPABILITIES for value in (effective, permitted, inheritable)
        )
        if not self.can(CAP_SETPCAP) and inheritable & ~(self.inheritable | self.permitted):
            raise LinuxError(errno.EPERM)
        if inheritable & ~(self.inheritable | self.bounding):
            raise LinuxError(errno.EPERM)
        if permitted & ~self.permitted or effective & ~permitted:
            raise LinuxError(errno.EPERM)
        return replace(
            self,
            effective=effective,
            permitted=permitted,
            inheritable=inheritable,
            ambient=self.ambient & permitted & inheritable,
        )

    def drop_bounding(self, capability: int) -> Credentials:
        """prctl(PR_CAPBSET_DROP)."""
        self.require(CAP_SETPCAP)
        if not 0 <= capability <= CAP_LAST:
            raise LinuxError(errno.EINVAL)
        return replace(self, bounding=self.bounding & ~(1 << capability))

    def raise_ambient(self, capability: int) -> Credentials:
        """prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE)."""
        if not 0 <= capability <= CAP_LAST:
            raise LinuxError(errno.EINVAL)
        bit = 1 << capability
        if not self.permitted & self.inheritable & bit:
            raise LinuxError(errno.EPERM)
        if self.securebits & SECBIT_NO_CAP_AMBIENT_RAISE:
            raise LinuxError(errno.EPERM)
        return replace(self, ambient=self.ambient | bit)

    def lower_ambient(self, capability: int | None) -> Credentials:
        """prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_LOWER); None clears the whole set."""
        if capability is None:
            return replace(self, ambient=0)
        if not 0 <= capability <= CAP_LAST:
            raise LinuxError(errno.EINVAL)
        return replace(self, ambient=self.ambient & ~(1 << capability))

    def with_keep_caps(self, keep: bool) -> Credentials:
        """prctl(PR_SET_KEEPCAPS)."""
        if self.securebits & SECBIT_KEEP_CAPS << 1:
            raise LinuxError(errno.EPERM)
        bits = self.securebits | SECBIT_KEEP_CAPS if keep else self.securebits & ~SECBIT_KEEP_CAPS
        return replace(self, securebits=bits)

    def with_securebits(self, bits: int) -> Credentials:
        """prctl(PR_SET_SECUREBITS): needs CAP_SETPCAP, locked bits stay as they are."""
        locked = self.securebits & _SECURE_LOCKS
        changes = self.securebits ^ bits
        if (
            locked >> 1 & changes
            or locked & ~bits
            or bits & ~(_SECURE_ALL | _SECURE_LOCKS)
            or not self.can(CAP_SETPCAP)
        ):
            raise LinuxError(errno.EPERM)
        return replace(self, securebits=bits)

    def with_no_new_privs(self) -> Credentials:
        """prctl(PR_SET_NO_NEW_PRIVS); there is no way back."""
        return replace(self, no_new_privs=True)

    # ----------------------------------------------------------------------------------- exec
    def executing(
        self,
        mode: int,
        owner: int,
        group: int,
        file_capabilities: bytes | None = None,
        nosuid: bool = False,
    ) -> Execution:
        """execve(2) of a file with these attributes: who the program runs as.

        `file_capabilities` is the raw security.capability attribute, `nosuid` the mount's flag.
        Raises EPERM when the file asks for capabilities the bounding set denies.
        """
        bits = mode & (_S_ISUID | _S_ISGID | _S_IXGRP)
        return _executing(self, bits, owner, group, file_capabilities, nosuid)

    def from_file(self, attribute: bytes) -> tuple[int, bool]:
        """(capabilities, whether they are effective) that a security.capability grants us."""
        permitted, inheritable, effective = parse_file_capabilities(attribute)
        granted = (self.bounding & permitted) | (self.inheritable & inheritable)
        if effective and permitted & ~granted:
            raise LinuxError(errno.EPERM)
        return granted, effective


class Execution(NamedTuple):
    """The outcome of execve's credential rules; `secure` is the AT_SECURE of the new image."""

    credentials: Credentials
    secure: bool


@lru_cache(maxsize=256)
def _executing(
    who: Credentials,
    mode: int,
    owner: int,
    group: int,
    file_capabilities: bytes | None,
    nosuid: bool,
) -> Execution:
    """See Credentials.executing; a few kinds of files are most of all that are executed."""
    euid, egid = who.euid, who.egid
    privileged_file = not nosuid and not who.no_new_privs
    if privileged_file and mode & _S_ISUID:
        euid = owner
    if privileged_file and mode & (_S_ISGID | _S_IXGRP) == _S_ISGID | _S_IXGRP:
        egid = group
    permitted, raise_effective = 0, False
    attribute = None if nosuid else file_capabilities
    if attribute is not None:
        permitted, raise_effective = who.from_file(attribute)
    has_file_caps = attribute is not None
    root = not who.securebits & SECBIT_NOROOT and 0 in (who.uid, euid)
    if root and not (has_file_caps and who.uid != 0 and euid == 0):
        permitted = who.bounding | who.inheritable
        raise_effective = raise_effective or euid == 0
    changed_id = euid != who.uid or egid != who.gid
    if (
        (euid != who.euid or egid != who.egid or permitted & ~who.permitted)
        and who.no_new_privs
    ):  # fmt: skip
        euid, egid = who.uid, who.gid
        permitted &= who.permitted
    ambient = 0 if has_file_caps or changed_id else who.ambient
    permitted |= ambient
    effective = permitted if raise_effective else ambient
    result = replace(
        who,
        euid=euid,
        suid=euid,
        fsuid=euid,
        egid=egid,
        sgid=egid,
        fsgid=egid,
        permitted=permitted,
        effective=effective,
        ambient=ambient,
        securebits=who.securebits & ~SECBIT_KEEP_CAPS,
    )
    secure = changed_id or (who.uid != 0 and (raise_effective or bool(permitted & ~ambient)))
    return Execution(result, secure)


def container_credentials(
    uid: int,
    gid: int,
    groups: Iterable[int],
    bounding: int = DOCKER_DEFAULT,
    no_new_privs: bool = False,
) -> Credentials:
    """What the first process of a container runs with: a user other than root has no capability."""
    held = bounding if uid == 0 else 0
    return Credentials(
        uid=uid,
        euid=uid,
        suid=uid,
        fsuid=uid,
        gid=gid,
        egid=gid,
        sgid=gid,
        fsgid=gid,
        groups=frozenset(groups),
        permitted=held,
        effective=held,
        bounding=bounding,
        no_new_privs=no_new_privs,
    )


def _check_any_of(wanted: tuple[int, ...], present: tuple[int, ...], privileged: bool) -> None:
    if not privileged and any(value != KEEP and value not in present for value in wanted):
        raise LinuxError(errno.EPERM)
