"""The site table: what every guest maps at low addresses so that patched sites find the stub.

One file, laid out like the addresses it is mapped at (file offset = address - JUMP_TABLE):

    address         what                                 in the file        mapped
    JUMP_TABLE      pointer to trampoline i              constant           shared, R-X
    ENTRY_POINTER   the stub's entry                     constant           shared, R-X
    TRAMPOLINES     trampoline i, 32 bytes each          written once each  shared, R-X
    RETURN_TABLE    return address of site i             not in it          private, RW-, anonymous

A guest needs two mappings: the file, and anonymous memory for the return table, which the kernel
fills when it maps patched text. The file must be opened read-only, so that no guest can
make its shared mapping writable.

Trampolines are written while other processes run from the same page: a slot's bytes are written
before any text that jumps to it is known, and never change after that, so nobody executes bytes
that are being written. The hardware keeps instruction caches coherent for that (Intel SDM,
"Handling Self- and Cross-Modifying Code").
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Mapping
from typing import Final

from codegen.layout import (
    ENTRY_POINTER,
    JUMP_TABLE,
    LOW_END,
    RETURN_TABLE,
    SITE_LIMIT,
    TRAMPOLINE_SIZE,
    TRAMPOLINES,
)

SIZE: Final = RETURN_TABLE - JUMP_TABLE
RETURN_TABLE_SIZE: Final = LOW_END - RETURN_TABLE
_ENTRY_OFFSET = ENTRY_POINTER - JUMP_TABLE
_TRAMPOLINES_OFFSET = TRAMPOLINES - JUMP_TABLE
_TAIL = b"\x48\x8b\x0c\x25"  # mov rcx, [abs32]: how every trampoline ends what it moved


class SiteTable:
    """The file; a writer creates it. Raises OSError if it cannot be had or mapped executable."""

    def __init__(self, path: str, entry: int, *, writable: bool) -> None:
        self._path = path
        if writable and not os.path.exists(path):
            _create(path, entry)
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(self.fd).st_size != SIZE:
                raise OSError(f"{path} has the wrong size")
            if os.pread(self.fd, 8, _ENTRY_OFFSET) != struct.pack("<Q", entry):
                raise OSError(f"{path} is for another stub")
            # A file system mounted noexec refuses this, and would refuse the guest.
            mmap.mmap(self.fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_EXEC).close()
        except BaseException:
            os.close(self.fd)
            raise

    def close(self) -> None:
        """Give up the descriptor."""
        os.close(self.fd)

    def write(self, trampolines: Mapping[int, bytes]) -> None:
        """Store new slots' trampolines durably. The caller holds the writers' lock."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for slot, code in trampolines.items():
                os.pwrite(fd, code, _TRAMPOLINES_OFFSET + slot * TRAMPOLINE_SIZE)
            os.fdatasync(fd)
        finally:
            os.close(fd)

    def original_address(self, address: int, return_address: int) -> int:
        """Where a thread stopped in a trampoline would be in unpatched text.

        `return_address` is its slot's entry of the process's return table. For signal frames: a
        thread may be resumed at the trampoline's address, or at the result if that is the site's
        `syscall` (two bytes before the return address).
        """
        slot, within = divmod(address - TRAMPOLINES, TRAMPOLINE_SIZE)
        code = os.pread(self.fd, TRAMPOLINE_SIZE, _TRAMPOLINES_OFFSET + slot * TRAMPOLINE_SIZE)
        moved = code.find(_TAIL + struct.pack("<I", RETURN_TABLE + 8 * slot))
        return return_address - 2 - max(0, moved - within)


def slot_at(address: int) -> int | None:
    """The slot whose trampoline holds this address."""
    if TRAMPOLINES <= address < RETURN_TABLE:
        return (address - TRAMPOLINES) // TRAMPOLINE_SIZE
    return None


def _create(path: str, entry: int) -> None:
    """Make the file, complete or not at all. The caller holds the writers' lock."""
    content = bytearray(SIZE)
    for slot in range(SITE_LIMIT):
        struct.pack_into("<Q", content, 8 * slot, TRAMPOLINES + slot * TRAMPOLINE_SIZE)
    struct.pack_into("<Q", content, _ENTRY_OFFSET, entry)
    content[_TRAMPOLINES_OFFSET:] = b"\xcc" * (SIZE - _TRAMPOLINES_OFFSET)
    write_file(path, content)


def write_file(path: str, content: bytes | bytearray) -> None:
    """Write a whole file durably under a temporary name, then rename it into place."""
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(temporary, path)
