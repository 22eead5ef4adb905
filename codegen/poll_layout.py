"""What the kernel's poll loop in generated code shares with Python: offsets, bits, sizes.

All of it is the kernel's own memory; guests see none of it. Offsets are bytes.
"""

from __future__ import annotations

from typing import Final


class Poll:
    """The control block: one a kernel process."""

    BELLS: Final = 0x00  # address of the first bell, in this process
    COUNT: Final = 0x08  # slots in use: so many bells
    NEXT: Final = 0x10  # the bell to look at first
    BUDGET: Final = 0x18  # looks at all bells in vain before `poll` returns
    LIMIT: Final = 0x20  # requests answered before `poll` returns
    KINDS: Final = 0x28  # address of a byte a call number (see Kind)
    RECORDS: Final = 0x30  # address of the records
    ENTRIES: Final = 0x38  # address of the answers
    STAT_SIZE: Final = 0x48  # bytes of the guests' struct stat
    NOT_PLAIN: Final = 0x50  # flags of open(2) that Python looks at
    PY_LONG: Final = 0x58  # address of PyLong_FromLong
    PY_ADDRESS: Final = 0x60  # address of PyLong_AsUnsignedLongLong
    ANSWERED: Final = 0x68  # requests answered here so far
    DESCRIPTOR: Final = 0x80  # two programs that receive a descriptor: plain, close-on-exec
    DESCRIPTOR_SIZE: Final = 128
    SIZE: Final = 0x1000


class Record:
    """What `poll` must know of a slot's thread; all zero: Python serves it."""

    SLOT: Final = 0x00  # the slot's address in this process
    ROOT: Final = 0x08  # number of the walks from its root directory
    CWD: Final = 0x10  # and from its working directory; 0: nothing is remembered there
    MAY: Final = 0x18  # of Entry.NEEDS_*, what it may
    TRAPS: Final = 0x20  # of Slot.TRAPS, those that Python has seen
    HOLD: Final = 0x28  # not 0: Python must see the next request
    SOCKET: Final = 0x30  # the kernel's end of the process's control socket
    NUMBER: Final = 0x38  # of the last message sent to this slot
    SIZE: Final = 64


class Entry:
    """A remembered answer: what `path`, from where ROOT or CWD says, is.

    Or, from FILES, which identity and owner fstat(2) is to say that a file has: the beginning of
    STAT, in the canonical layout.
    """

    CURRENT: Final = -8  # before the first entry: the generation whose answers count
    HASH: Final = 0x00  # 0: none
    KEY: Final = 0x08  # number of the walks * 2 + 1 if a last link is not followed
    GENERATION: Final = 0x10
    FLAGS: Final = 0x18  # u32
    TEXT_LENGTH: Final = 0x1C  # u32
    LENGTH: Final = 0x20  # of the path
    PATH: Final = 0x28  # padded with zeros
    PATH_SIZE: Final = 128
    STAT: Final = 0xA8  # as the guest wants it
    STAT_SIZE: Final = 144
    TEXT: Final = 0x138  # a link's text, or where the file is on the host
    TEXT_SIZE: Final = 0x1C8
    SIZE: Final = 0x300
    BUCKET: Final = 2  # entries that a hash may be in
    BUCKET_BITS: Final = 11

    NEEDS_SEARCH: Final = 1  # CAP_DAC_READ_SEARCH, to get there
    NEEDS_READ: Final = 2  # a capability that reads any file, to open it
    NEEDS: Final = NEEDS_SEARCH | NEEDS_READ
    NEGATIVE: Final = 4  # nothing is there
    HAS_STAT: Final = 8
    HAS_LINK: Final = 16  # TEXT is a link's
    NO_LINK: Final = 32  # it is there and no link
    LIVE_MODE: Final = 128  # of a file: its mode is what the host says
    HAS_FILE: Final = 64  # TEXT is a regular file's that may be opened for reading


FILES: Final = 1  # the number of no walks: a "path" is a file's device and inode on the host


class Kind:
    """How a call asks; a byte in KINDS, 0: Python serves it."""

    STAT: Final = 1
    OPEN: Final = 2
    ACCESS: Final = 3
    READLINK: Final = 4
    FSTAT: Final = 5  # the host's answer lies in the payload
    WHAT: Final = 7
    AT: Final = 8  # a directory comes before the path
    NOFOLLOW: Final = 16
    FLAGS: Final = 32  # a fourth argument, 0 or AT_SYMLINK_NOFOLLOW


KIND_LIMIT: Final = 512  # call numbers
MULTIPLIER: Final = 0x9E37_79B9_7F4A_7C15
SHIFT: Final = 29

PLAIN: Final = (
    1 << 16
)  # added to a slot's number: its request has been looked at, but for what it asks
IDLE: Final = -1  # `poll`: the budget is used up
ENOUGH: Final = -2  # LIMIT requests have been answered


def hashed(key: int, path: bytes) -> int:
    """The hash that generated code computes of a path of at most PATH_SIZE bytes."""
    value = key
    for i in range(0, len(path), 8):
        value = (value ^ int.from_bytes(path[i : i + 8], "little")) * MULTIPLIER % (1 << 64)
        value ^= value >> SHIFT
    return value or 1
