"""The stub as a static ELF file: what the host executes in every guest process.

One read-only, executable segment at STUB_BASE holding the ELF header, the code and its tables; no
writable data (a thread's data is its slot). Built once per set of tables and templates, kept in the
cache directory under the hash of its bytes.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from codegen.asm.assembler import Memo
from codegen.layout import PAGE, STUB_BASE
from codegen.variant import ORDINARY, Variant

_EM = {"x86_64": 62, "arm64": 183}
_PT_LOAD, _PT_GNU_STACK = 1, 0x6474_E551
_R, _W, _X = 4, 2, 1


@dataclass(frozen=True)
class StubImage:
    """A built stub: its file and the addresses the rest of the system needs."""

    path: Path
    text_start: int
    text_end: int
    symbols: Mapping[str, int]
    listing: Sequence[tuple[int, str]]

    @property
    def entry(self) -> int:
        """Where patched sites and traps go."""
        return self.symbols["entry"]

    @property
    def empty_string(self) -> int:
        """Address of a "" in read-only memory: the only path execveat may name."""
        return self.symbols["empty_string"]


def encodings(isa: str, cache: Path) -> Path:
    """The file of encodings known from former builds; without it the assembler is loaded."""
    return cache / f"encodings-{isa}.msgpack"


def build_stub(
    isa: str,
    numbers: Mapping[str, int],
    rows: Sequence[Sequence[tuple[int, int]]],
    cache: Path,
    variant: Variant = ORDINARY,
) -> StubImage:
    """Assemble the stub of `isa` and place its ELF in `cache` (made if need be)."""
    template = import_module(f"codegen.templates.{isa}.stub")
    memo = Memo(encodings(isa, cache))
    stub = template.build(numbers, rows, memo, variant)
    text = stub.a.finish()
    memo.save()
    symbols = {name: stub.a.address(label) for name, label in stub.names.items()}
    data = _elf(isa, symbols["boot"], template.TEXT_START - STUB_BASE, text)
    path = cache / f"stub-{isa}-{hashlib.blake2b(data, digest_size=8).hexdigest()}"
    _place(path, data)
    start = template.TEXT_START
    return StubImage(path, start, start + len(text), symbols, stub.a.listing)


def _elf(isa: str, entry: int, offset: int, text: bytes) -> bytes:
    """An ET_EXEC with one PT_LOAD that covers header and text (elf(5))."""
    size = offset + len(text)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01" + bytes(9),
        2, _EM[isa], 1, entry, 64, 0, 0, 64, 56, 2, 64, 0, 0,
    )  # fmt: skip
    load = struct.pack("<IIQQQQQQ", _PT_LOAD, _R | _X, 0, STUB_BASE, STUB_BASE, size, size, PAGE)
    stack = struct.pack("<IIQQQQQQ", _PT_GNU_STACK, _R | _W, 0, 0, 0, 0, 0, 16)
    return (header + load + stack).ljust(offset, b"\0") + text


def _place(path: Path, data: bytes) -> None:
    """Write once, atomically; a file of that name has those bytes."""
    if path.exists() and path.stat().st_size == len(data):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
    os.chmod(name, 0o555)
    os.replace(name, path)
