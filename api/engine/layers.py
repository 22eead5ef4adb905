"""The layer store: each layer unpacked once, named by the digest of its uncompressed tar (diff id).

`<home>/layers/<hex>/` holds what the kernel mounts (made by `kernel.fs.layer`) and, beside it,
`layer.tar.zst`: the exact tar, so that `docker save` gives back the same digests.
A layer is built in scratch space and renamed into place when its digest is known to be right.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from api.engine.compression import decompressed
from api.engine.errors import EngineError, InvalidParameter
from api.engine.home import Home, read_json, remove_tree, write_json
from kernel.fs.layer import LayerError, apply_layer

_TAR_NAME = "layer.tar.zst"
_FACTS_NAME = "layer.json"
_CHUNK_BYTES = 1 << 20


class CorruptLayer(InvalidParameter):
    """The archive is damaged, hostile, or not what its digest says."""


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A stored layer: bytes of its regular files, and of its tar."""

    diff_id: str
    size_bytes: int
    tar_bytes: int


class LayerStore:
    """All methods block on the disk: call the slow ones (`add`, `tar_chunks`) in a thread."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._known: dict[str, Layer] = {}
        self._placing = threading.Lock()  # layers are added in worker threads

    def directory(self, diff_id: str) -> Path:
        """Where the layer lies (or would)."""
        return self._home.layers / diff_id.removeprefix("sha256:")

    def find(self, diff_id: str) -> Layer | None:
        """The stored layer, or None."""
        layer = self._known.get(diff_id)
        if layer is None:
            try:
                facts = read_json(self.directory(diff_id) / _FACTS_NAME)
            except (OSError, ValueError):
                return None
            layer = self._known[diff_id] = Layer(diff_id, facts["size"], facts["tar_size"])
        return layer

    def add(self, archive: BinaryIO, expected: str = "") -> Layer:
        """Store the layer in a tar (plain, or compressed any way images use).

        Raises CorruptLayer when it is no tar, would write outside its root, or has another digest
        than `expected`; nothing is left behind then.
        """
        scratch = self._home.scratch("layer")
        try:
            diff_id, layer = self._build(archive, scratch)
            if expected and diff_id != expected:
                raise CorruptLayer(
                    f'invalid diffID for layer: expected "{expected}", got "{diff_id}"'
                )
            with self._placing:
                if self.find(diff_id) is None:
                    target = self.directory(diff_id)
                    remove_tree(target)
                    os.rename(scratch, target)
                self._known[diff_id] = layer
            return layer
        finally:
            remove_tree(scratch)

    def tar_chunks(self, diff_id: str) -> Iterator[bytes]:
        """The layer's uncompressed tar, exactly as its digest was taken."""
        with (self.directory(diff_id) / _TAR_NAME).open("rb") as file:
            stream = decompressed(file)
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk

    def remove(self, diff_id: str) -> None:
        """Forget and delete a layer; the caller knows that nothing uses it."""
        self._known.pop(diff_id, None)
        directory = self.directory(diff_id)
        doomed = self._home.scratch("removed") / "layer"
        with suppress(FileNotFoundError):
            os.rename(directory, doomed)
        remove_tree(doomed.parent)

    def stored(self) -> list[str]:
        """The diff ids of all layers on disk."""
        return [f"sha256:{name}" for name in os.listdir(self._home.layers)]

    def _build(self, archive: BinaryIO, scratch: Path) -> tuple[str, Layer]:
        with (scratch / _TAR_NAME).open("wb") as copy:
            tee = _Tee(decompressed(archive), copy)
            size = _unpack(tee, scratch)
            tee.finish()
        write_json(scratch / _FACTS_NAME, {"size": size, "tar_size": tee.count})
        diff_id = f"sha256:{tee.digest.hexdigest()}"
        return diff_id, Layer(diff_id, size, tee.count)


class _Tee:
    """Reads a tar for the unpacker while hashing it and keeping a compressed copy."""

    def __init__(self, source: _Readable, copy: BinaryIO) -> None:
        import zstandard  # noqa: PLC0415 - an idle daemon does without

        self.digest = hashlib.sha256()
        self.count = 0
        self._source = source
        self._copy = zstandard.ZstdCompressor(level=1).stream_writer(copy, closefd=False)

    def read(self, size: int = -1) -> bytes:
        """As a file's read; a damaged compressed stream is a CorruptLayer."""
        try:
            data = self._source.read(size)
        except (OSError, EOFError, ValueError) as error:
            raise CorruptLayer(f"Error processing tar file(exit status 1): {error}") from None
        except Exception as error:
            if type(error).__module__.partition(".")[0] in ("zlib", "zstandard", "zstd", "lzma"):
                raise CorruptLayer(f"Error processing tar file(exit status 1): {error}") from None
            raise
        self.digest.update(data)
        self._copy.write(data)
        self.count += len(data)
        return data

    def finish(self) -> None:
        """Read what the unpacker left (padding counts for the digest) and end the copy."""
        while self.read(_CHUNK_BYTES):
            pass
        self._copy.close()  # type: ignore[no-untyped-call]


def _unpack(stream: Any, directory: Path) -> int:
    try:
        return apply_layer(stream, os.fspath(directory))
    except CorruptLayer:
        raise
    except LayerError as error:
        raise CorruptLayer(f"Error processing tar file(exit status 1): {error}") from None
    except OSError as error:
        raise EngineError(f"cannot store the layer: {error}") from None
