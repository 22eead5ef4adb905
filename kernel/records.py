"""What the poll loop in generated code must know of each slot's thread (codegen.poll_layout).

A record is all zero, but for the number of its last message, while Python is to serve whatever the
slot posts.
"""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING, Final

from codegen.layout import SLOT_LIMIT, Slot
from codegen.poll_layout import Entry, Record
from kernel.fs.permissions import CAP_DAC_READ_SEARCH, READS_ALL
from kernel.host.linux import address_of

if TYPE_CHECKING:
    from kernel.credentials import Credentials
    from kernel.task import Task

_WORDS: Final = Record.SIZE // 8
_RECORD = struct.Struct("<7Q")  # all but NUMBER
_NOBODY = bytes(_RECORD.size)
_MAY = Record.MAY // 8


class Records:
    """The records of a container's slots; `view(n)` is slot n's, as u64s."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, SLOT_LIMIT * Record.SIZE)
        self._words = memoryview(self._memory).cast("Q")
        self.address = address_of(self._memory)

    def view(self, index: int) -> memoryview:
        """Slot `index`'s record."""
        return self._words[index * _WORDS : (index + 1) * _WORDS]

    def attach(self, task: Task) -> None:
        """`task` uses its slot from now on."""
        slot, fs = task.slot, task.fs
        fs.users[slot.index] = slot.record
        _RECORD.pack_into(
            self._memory,
            slot.index * Record.SIZE,
            slot.futex_address - Slot.STATE,
            fs.root_number,
            fs.cwd_number,
            may(task.credentials),
            task.traps_seen,
            0,
            task.process.channel.fileno,
        )

    def detach(self, task: Task) -> None:
        """Nobody uses the slot."""
        index = task.slot.index
        task.fs.users.pop(index, None)
        at = index * Record.SIZE
        self._memory[at : at + _RECORD.size] = _NOBODY


def may(who: Credentials) -> int:
    """Which of Entry.NEEDS_* these credentials have."""
    return (Entry.NEEDS_SEARCH if who.can(CAP_DAC_READ_SEARCH) else 0) | (
        Entry.NEEDS_READ if who.effective & READS_ALL else 0
    )


def set_credentials(record: memoryview, who: Credentials) -> None:
    """The slot's thread acts as `who`."""
    record[_MAY] = may(who)
