"""Rows of the marshal table: what a stub copies in before it posts a call (codegen.layout.Marshal).

A row: 6 kinds, 2 bytes unused, 6 u16 parameters, 12 bytes unused.
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen.layout import Marshal

ROW_SIZE = 32
Row = Sequence[tuple[int, int]]  # (Marshal kind, parameter) for each argument


def pack(row: Row) -> bytes:
    """The row's bytes; missing arguments are not copied."""
    full = [*row, *[(Marshal.NONE, 0)] * (6 - len(row))]
    data = bytes(kind for kind, _ in full) + bytes(2)
    data += b"".join(parameter.to_bytes(2, "little") for _, parameter in full)
    return data.ljust(ROW_SIZE, b"\0")
