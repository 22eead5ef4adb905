"""The kernel's poll loop as code for one process; where there is no template, Python polls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from codegen.asm.assembler import Memo
from codegen.image import encodings


@dataclass(frozen=True)
class PollCode:
    """Position-independent code with a hole at its beginning for the control block's address."""

    text: bytes
    symbols: Mapping[str, int]  # offsets

    def placed(self, control: int) -> bytes:
        """The code that uses the control block at that address."""
        return control.to_bytes(8, "little") + self.text[8:]


@cache
def build_poll(isa: str, cache_directory: Path | None) -> PollCode | None:
    """The code for a kernel that runs on a CPU of `isa`; None where Python must do."""
    name = f"codegen.templates.{isa}.poll"
    if find_spec(name) is None:
        return None
    memo = Memo(encodings(isa, cache_directory) if cache_directory is not None else None)
    stub = import_module(name).build(memo)
    text = stub.a.finish()
    memo.save()
    return PollCode(text, {name: stub.a.address(label) for name, label in stub.names.items()})
