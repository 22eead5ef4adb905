"""A slot's memory as the kernel sees it: one POSIX shared-memory object a guest thread.

The slot is the whole conversation with a thread (codegen.layout.Slot). The object's name is removed
the moment it exists, so nothing can be left in /dev/shm; guests receive its descriptor. Every value
read here may have been written by a hostile guest: it is used as a number, never as a pointer.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

import posix_ipc

from codegen.layout import (
    ALT_STACK,
    ALT_STACK_SIZE,
    BELLS_BASE,
    BELLS_FIRST,
    FD_FLAGS,
    FD_FLAGS_SIZE,
    PAGE,
    PAYLOAD,
    SLOT_SIZE,
    SLOTS_BASE,
    STUB_FDS,
    Slot,
)
from codegen.poll_layout import Record
from kernel.host.linux import address_of

if TYPE_CHECKING:
    from kernel.records import Records

_MASK64 = (1 << 64) - 1
_RESULT, _OPS = Slot.RESULT // 8, Slot.OPS // 8
_OUT_ADDRESS, _OUT_LENGTH = Slot.OUT_ADDRESS // 8, Slot.OUT_LENGTH // 8
_ZERO_HEADER = bytes(PAGE)
_FRESH_FLAGS = bytearray(FD_FLAGS_SIZE)
for _fd in STUB_FDS:
    _FRESH_FLAGS[_fd] = 1


def shared_memory(size: int) -> int:
    """A descriptor of a fresh, nameless shared-memory object of `size` bytes."""
    name = f"/ddock-{os.getpid()}-{os.urandom(6).hex()}"
    memory = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600, size=size)
    posix_ipc.unlink_shared_memory(name)
    os.set_inheritable(memory.fd, False)
    return int(memory.fd)


class SlotMemory:
    """Slot `index` of a container: `q` is the header as u64s, `mm` all of it as bytes."""

    def __init__(self, index: int, record: memoryview | None = None) -> None:
        """`record`: what the poll loop knows of its thread (kernel.records); None: no loop does."""
        self.index = index
        self.record = record or memoryview(bytearray(Record.SIZE)).cast("Q")
        self.address = SLOTS_BASE + index * SLOT_SIZE
        self.fd = shared_memory(SLOT_SIZE)
        self.mm = mmap.mmap(self.fd, SLOT_SIZE)
        self.futex_address = address_of(self.mm) + Slot.STATE
        view = memoryview(self.mm)
        self.q = view.cast("Q")
        self.words = view.cast("I")
        self.flags_view = view[FD_FLAGS : FD_FLAGS + FD_FLAGS_SIZE]

    def reset(self) -> None:
        """Make it as new for another thread."""
        self.mm[0:PAGE] = _ZERO_HEADER
        q = self.q
        q[Slot.SELF // 8] = self.address
        q[Slot.BELL // 8] = BELLS_BASE + BELLS_FIRST + self.index
        q[Slot.FLAGS_POINTER // 8] = self.address + FD_FLAGS
        q[Slot.ALT_DESCRIPTOR // 8] = self.address + ALT_STACK
        q[Slot.ALT_DESCRIPTOR // 8 + 2] = ALT_STACK_SIZE

    def reset_flags(self) -> None:
        """No descriptor is flagged but the stub's own."""
        self.mm[FD_FLAGS : FD_FLAGS + FD_FLAGS_SIZE] = _FRESH_FLAGS

    def write_result(self, result: int) -> None:
        """A plain answer."""
        q = self.q
        q[_RESULT] = result & _MASK64
        q[_OPS] = 0
        q[_OUT_LENGTH] = 0

    def write_out(self, result: int, address: int, data: bytes) -> None:
        """A plain answer with one block for guest memory."""
        q = self.q
        q[_RESULT] = result & _MASK64
        q[_OPS] = 0
        q[_OUT_ADDRESS] = address & _MASK64
        q[_OUT_LENGTH] = n = len(data)
        self.mm[PAYLOAD : PAYLOAD + n] = data

    def write_payload(self, data: bytes | bytearray) -> None:
        """The payload a program refers to."""
        self.mm[PAYLOAD : PAYLOAD + len(data)] = data

    def read_payload(self, offset: int, length: int) -> bytes:
        """Bytes the stub copied in."""
        return self.mm[PAYLOAD + offset : PAYLOAD + offset + length]

    def write_program(self, ops: Sequence[bytes]) -> None:
        """The ops of a reply program."""
        data = b"".join(ops)
        self.mm[Slot.PROGRAM : Slot.PROGRAM + len(data)] = data
        self.q[_OPS] = len(ops)

    def write_ready(self, ops: bytes, count: int) -> None:
        """Ops that were packed beforehand."""
        self.mm[Slot.PROGRAM : Slot.PROGRAM + len(ops)] = ops
        self.q[_OPS] = count

    def write_packed(self, ops: struct.Struct, parts: Sequence[bytes | int], count: int) -> None:
        """Ops that are packed here, `count` of them."""
        ops.pack_into(self.mm, Slot.PROGRAM, *parts)
        self.q[_OPS] = count

    def read(self, address: int, length: int) -> bytes:
        """Bytes of the slot by guest address; ValueError when not within it."""
        offset = address - self.address
        if not 0 <= offset <= SLOT_SIZE - length:
            raise ValueError("address is outside the slot")
        return self.mm[offset : offset + length]

    def write(self, address: int, data: bytes) -> None:
        """Overwrite bytes of the slot by guest address; ValueError when not within it."""
        offset = address - self.address
        if not 0 <= offset <= SLOT_SIZE - len(data):
            raise ValueError("address is outside the slot")
        self.mm[offset : offset + len(data)] = data

    def close(self) -> None:
        """Give the memory back."""
        self.q.release()
        self.words.release()
        self.flags_view.release()
        # from_buffer in address_of holds an export of mm; the mapping dies with the object.
        os.close(self.fd)


class SlotPool:
    """Slots of a container, reused; a slot whose thread may still run is held back.

    Those in stock are reset already: fork(2) waits for its slot, nobody for one that comes back.
    """

    def __init__(self, limit: int, records: Records) -> None:
        self._limit = limit
        self._records = records
        self._free: list[SlotMemory] = []
        self.count = 0

    def take(self) -> SlotMemory | None:
        """A fresh slot, or None when the container has as many threads as it may."""
        if self._free:
            return self._free.pop()
        if self.count >= self._limit:
            return None
        slot = SlotMemory(self.count, self._records.view(self.count))
        self.count += 1
        slot.reset()
        slot.reset_flags()
        return slot

    def give(self, slot: SlotMemory) -> None:
        """Take back a slot no thread uses any more."""
        slot.reset()
        slot.reset_flags()
        self._free.append(slot)
