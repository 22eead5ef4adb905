"""The records of a container's log file, and how chunks become lines.

A record is one chunk as it was read from the container: 20 bytes of header (magic, stream, time,
length), then the bytes. A record cut off by a crash is not whole and counts as not written.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_HEADER = struct.Struct("<IIQI")  # magic, stream, time in ns, length
_MAGIC = 0x676F6C64
_MAX_LINE_BYTES = 16 << 10  # Docker splits longer lines into messages of this size


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line (with its newline, if it had one) and the time of the chunk that began it."""

    stream: int
    time_ns: int
    text: bytes


def header_of(stream: int, time_ns: int, data: bytes) -> bytes:
    """What precedes a chunk in the file."""
    return _HEADER.pack(_MAGIC, stream, time_ns, len(data))


class LineSplitter:
    """Cuts chunks into lines, each stream for itself; keeps its place in the file between calls."""

    def __init__(self) -> None:
        self._open_lines: dict[int, tuple[int, bytes]] = {}

    def lines(self, file: BinaryIO) -> Iterator[LogLine]:
        """The lines that end between the file's position and its end."""
        for stream, time_ns, data in _records(file):
            began, rest = self._open_lines.pop(stream, (time_ns, b""))
            *whole, rest = (rest + data).split(b"\n")
            for text in whole:
                yield from _pieces(stream, began, text + b"\n")
                began = time_ns
            if rest:
                self._open_lines[stream] = (began, rest)

    def rest(self) -> Iterator[LogLine]:
        """The unfinished last lines, as they are."""
        for stream, (began, text) in self._open_lines.items():
            yield from _pieces(stream, began, text)
        self._open_lines.clear()


def _pieces(stream: int, time_ns: int, text: bytes) -> Iterator[LogLine]:
    for start in range(0, len(text), _MAX_LINE_BYTES):
        yield LogLine(stream, time_ns, text[start : start + _MAX_LINE_BYTES])


def _records(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Whole records from the file's position; leaves the position before a cut-off one."""
    while True:
        start = file.tell()
        header = file.read(_HEADER.size)
        if len(header) == _HEADER.size:
            magic, stream, time_ns, length = _HEADER.unpack(header)
            data = file.read(length) if magic == _MAGIC else b""
            if magic == _MAGIC and len(data) == length:
                yield stream, time_ns, data
                continue
        file.seek(start)
        return


def whole_records(descriptor: int) -> int:
    """The size of the file without a cut-off record at its end."""
    size = os.fstat(descriptor).st_size
    position = 0
    while position + _HEADER.size <= size:
        magic, _, _, length = _HEADER.unpack(os.pread(descriptor, _HEADER.size, position))
        following = position + _HEADER.size + length
        if magic != _MAGIC or following > size:
            break
        position = following
    return position
