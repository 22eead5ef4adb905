"""Compressed streams of images, told by their first bytes. Codecs are imported when met."""

from __future__ import annotations

import gzip
import io
from typing import BinaryIO, cast

_GZIP, _BZIP2, _XZ, _ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"


class _Rewound(io.RawIOBase):
    """A stream with the bytes that were peeked put back in front."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._head[: len(buffer)] or self._rest.read(len(buffer))
        self._head = self._head[len(data) :]
        buffer[: len(data)] = data
        return len(data)


def decompressed(stream: BinaryIO) -> BinaryIO:
    """The stream's content, decompressed if it is gzip, bzip2, xz or zstd."""
    head = stream.read(8)
    rewound = cast(BinaryIO, io.BufferedReader(_Rewound(head, stream), 1 << 18))
    if head.startswith(_GZIP):
        return cast(BinaryIO, gzip.GzipFile(fileobj=rewound, mode="rb"))
    if head.startswith(_ZSTD):
        import zstandard  # noqa: PLC0415 - an idle daemon does without

        reader = zstandard.ZstdDecompressor().stream_reader(rewound, read_across_frames=True)
        return cast(BinaryIO, reader)
    if head.startswith(_BZIP2):
        import bz2  # noqa: PLC0415

        return cast(BinaryIO, bz2.BZ2File(rewound))
    if head.startswith(_XZ):
        import lzma  # noqa: PLC0415

        return cast(BinaryIO, lzma.LZMAFile(rewound))
    return rewound
