"""The part of the assembler every ISA shares: a buffer, labels, fixups and the memo of encodings.

An ISA's module adds operand spelling and branch encodings. Instructions are encoded by Keystone
once (10-40 us each) and remembered by their text, in memory and optionally on disk, so that
generating the stub again costs dictionary look-ups.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgpack


class Label:
    """A position in the code; bound once, referred to from anywhere."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.offset: int | None = None

    def __repr__(self) -> str:
        return f"<label {self.name}>"


@dataclass(frozen=True)
class Fixup:
    """`width` bytes at `offset` take the value `encode(target address, address after them)`."""

    offset: int
    label: Label
    width: int
    encode: Callable[[int, int], int]


class Memo:
    """Instruction text -> bytes, kept in a file between runs; a damaged file is ignored."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.known: dict[str, bytes] = {}
        self._fresh = False
        if path is not None:
            with contextlib.suppress(OSError, ValueError, msgpack.UnpackException):
                loaded = msgpack.unpackb(path.read_bytes())
                if isinstance(loaded, dict):
                    self.known = loaded

    def encode(self, text: str, encoder: Callable[[str], bytes]) -> bytes:
        """The bytes of `text`, from memory if it was ever encoded."""
        found = self.known.get(text)
        if found is None:
            found = self.known[text] = encoder(text)
            self._fresh = True
        return found

    def save(self) -> None:
        """Write the file if anything new was encoded; atomic, failures are harmless."""
        if self.path is None or not self._fresh:
            return
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.path.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(msgpack.packb(self.known))
            os.replace(name, self.path)
            self._fresh = False


class Assembler:
    """Bytes being laid out from `base` on."""

    def __init__(self, base: int, memo: Memo | None = None) -> None:
        self.base = base
        self.memo = memo or Memo()
        self.code = bytearray()
        self.listing: list[tuple[int, str]] = []
        self.labels: list[Label] = []
        self.places: list[Label] = []  # labels outside the code
        self._fixups: list[Fixup] = []

    @property
    def here(self) -> int:
        """The address of the next byte."""
        return self.base + len(self.code)

    def label(self, name: str) -> Label:
        """A new label, not yet bound."""
        return Label(name)

    def bind(self, label: Label | str) -> Label:
        """Give `label` the present position."""
        if isinstance(label, str):
            label = Label(label)
        if label.offset is not None:
            raise ValueError(f"{label} is bound already")
        label.offset = len(self.code)
        self.labels.append(label)
        return label

    def place(self, label: Label, address: int) -> None:
        """Give `label` an address that is not in the code."""
        label.offset = address - self.base
        self.places.append(label)

    def emit(self, data: bytes, text: str) -> None:
        """Append raw bytes; `text` stands in the listing."""
        self.listing.append((len(self.code), text))
        self.code += data

    def fixup(self, label: Label, width: int, encode: Callable[[int, int], int]) -> None:
        """Append `width` bytes to be filled when all labels are bound."""
        self._fixups.append(Fixup(len(self.code), label, width, encode))
        self.code += bytes(width)

    def align(self, boundary: int, filler: bytes) -> None:
        """Pad with `filler` up to a multiple of `boundary`."""
        while len(self.code) % boundary:
            self.code += filler

    def pointer(self, label: Label) -> None:
        """An 8-byte absolute address."""
        self.listing.append((len(self.code), f".quad {label.name}"))
        self.fixup(label, 8, lambda target, _after: target)

    def address(self, label: Label) -> int:
        """The bound label's address."""
        if label.offset is None:
            raise ValueError(f"{label} was never bound")
        return self.base + label.offset

    def finish(self) -> bytes:
        """Resolve every fixup; the finished bytes."""
        for fix in self._fixups:
            value = fix.encode(self.address(fix.label), self.base + fix.offset + fix.width)
            limit = 1 << (8 * fix.width)
            self.code[fix.offset : fix.offset + fix.width] = (value % limit).to_bytes(
                fix.width, "little"
            )
        self._fixups.clear()
        return bytes(self.code)
