"""The cache's journal: an append-only file that many processes read and one at a time extends.

    bytes 0..7     magic
    bytes 8..15    committed: where the last complete record ends
    4096...        records: u32 length, u32 CRC-32, msgpack

`committed` is written last, so that a record either counts or does not; readers map it and see new
records at the price of one memory load. A record that fails its checksum (power was lost between
the two writes) ends the journal: the next writer continues there.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterable
from typing import Any, Final

import msgpack

_MAGIC: Final = b"ddocktc\n"
_HEADER = struct.Struct("<8sQ")
_FRAME = struct.Struct("<II")
_START: Final = 4096
_RECORD_LIMIT = 1 << 22


class Journal:
    """One process's view; a writer, who holds the writers' lock meanwhile, creates it.

    Raises OSError if the file cannot be had, ValueError if it is no journal.
    """

    def __init__(self, path: str, *, writable: bool) -> None:
        flags = os.O_CLOEXEC | (os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY)
        self._fd = os.open(path, flags, 0o644)
        try:
            if writable and os.fstat(self._fd).st_size < _START:
                os.ftruncate(self._fd, _START)
                os.pwrite(self._fd, _HEADER.pack(_MAGIC, _START), 0)
            if os.fstat(self._fd).st_size < _START:
                raise ValueError("the journal has no header")
            self._header = mmap.mmap(self._fd, _START, mmap.MAP_SHARED, mmap.PROT_READ)
            if self._header[:8] != _MAGIC:
                raise ValueError("not a journal of ours")
        except BaseException:
            os.close(self._fd)
            raise
        self._words = memoryview(self._header).cast("Q")
        self._seen = _START  # committed when last read
        self._read_to = _START

    def close(self) -> None:
        """Give up the descriptor and the mapping."""
        self._words.release()
        self._header.close()
        os.close(self._fd)

    @property
    def has_news(self) -> bool:
        """Whether records were added since `read`. Costs one load of shared memory."""
        return self._words[1] != self._seen

    @property
    def size(self) -> int:
        """Bytes in use."""
        return self._read_to

    def read(self) -> list[Any]:
        """The records added since the last call."""
        committed = self._words[1]
        self._seen = committed
        data = os.pread(self._fd, max(0, committed - self._read_to), self._read_to)
        records, at = [], 0
        while at + _FRAME.size <= len(data):
            length, checksum = _FRAME.unpack_from(data, at)
            body = data[at + _FRAME.size : at + _FRAME.size + length]
            if len(body) != length or zlib.crc32(body) != checksum:
                break
            records.append(msgpack.unpackb(body))
            at += _FRAME.size + length
        self._read_to += at
        return records

    def append(self, records: Iterable[Any]) -> None:
        """Add records. The caller holds the writers' lock and has read everything."""
        data = bytearray()
        for record in records:
            body = msgpack.packb(record)
            if len(body) > _RECORD_LIMIT:
                raise ValueError("record too large")
            data += _FRAME.pack(len(body), zlib.crc32(body)) + body
        os.pwrite(self._fd, data, self._read_to)
        os.fdatasync(self._fd)
        os.pwrite(self._fd, _HEADER.pack(_MAGIC, self._read_to + len(data)), 0)
