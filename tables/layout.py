"""Struct layouts: where a C struct's members are, and packing and unpacking by name."""

from __future__ import annotations

import struct
from functools import cached_property
from typing import Any, NamedTuple

_CODES = {
    (1, False): "B", (1, True): "b", (2, False): "H", (2, True): "h",
    (4, False): "I", (4, True): "i", (8, False): "Q", (8, True): "q",
}  # fmt: skip

Value = int | bytes | tuple[int, ...]


class Field(NamedTuple):
    """A member: `count` elements of `size` bytes at `offset`; a count of 0 is a flexible array.

    Its value is an int (count 1), bytes (one-byte elements, or an array of structs) or a tuple of
    ints. Members of nested structs are fields of their own: `uc_mcontext.rip`. Members of a union
    overlap. Bit-fields are left out.
    """

    offset: int
    size: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    signed: bool

    @property
    def end(self) -> int:
        """The offset just behind the member."""
        return self.offset + self.size * self.count


class StructLayout:
    """A C struct (or union) of the ABI, little-endian, with the padding of its ISA."""

    def __init__(self, name: str, size: int, align: int, rows: list[list[Any]]) -> None:
        self.name = name
        self.size = size
        self.align = align
        self.fields: dict[str, Field] = {row[0]: Field(*row[1:]) for row in rows}

    def __repr__(self) -> str:
        return f"StructLayout({self.name}, {self.size} bytes, {len(self.fields)} fields)"

    def pack(self, **values: Value) -> bytes:
        """The struct with these members set and every other byte zero.

        Nested members: `pack(**{"uc_mcontext.rip": 0x1000})`. Bytes shorter than the member are
        padded with zeros. Raises KeyError for an unknown member, struct.error for a bad value.
        """
        buffer = bytearray(self.size)
        for name, value in values.items():
            offset, code = self._codes[name]
            if isinstance(value, tuple):
                code.pack_into(buffer, offset, *value)
            else:
                code.pack_into(buffer, offset, value)
        return bytes(buffer)

    def pack_into(self, buffer: bytearray | memoryview, offset: int, **values: Value) -> None:
        """Set these members of the struct at `offset` of `buffer` and leave all else alone."""
        for name, value in values.items():
            place, code = self._codes[name]
            if isinstance(value, tuple):
                code.pack_into(buffer, offset + place, *value)
            else:
                code.pack_into(buffer, offset + place, value)

    def unpack(self, data: bytes | bytearray | memoryview, offset: int = 0) -> dict[str, Any]:
        """Every member's value; `data` may be longer than the struct. Raises struct.error."""
        if len(data) - offset < self.size:
            raise struct.error(f"{self.name} needs {self.size} bytes, not {len(data) - offset}")
        if self._whole is not None:
            code, names = self._whole
            return dict(zip(names, code.unpack_from(data, offset), strict=True))
        values: dict[str, Any] = {}
        for name, (place, code) in self._codes.items():
            unpacked = code.unpack_from(data, offset + place)
            values[name] = unpacked if len(unpacked) > 1 else unpacked[0]
        return values

    def get(self, data: bytes | bytearray | memoryview, name: str, offset: int = 0) -> Any:
        """One member's value, without decoding the others."""
        place, code = self._codes[name]
        unpacked = code.unpack_from(data, offset + place)
        return unpacked if len(unpacked) > 1 else unpacked[0]

    @cached_property
    def _codes(self) -> dict[str, tuple[int, struct.Struct]]:
        return {
            name: (field.offset, struct.Struct("<" + _code(field)))
            for name, field in self.fields.items()
            if field.count
        }

    @cached_property
    def _whole(self) -> tuple[struct.Struct, tuple[str, ...]] | None:
        """One Struct for all members, if none overlap and each has one value."""
        code, end, names = "<", 0, []
        for name, field in self.fields.items():
            if field.count == 0:
                continue
            if field.offset < end or (field.count > 1 and field.size > 1):
                return None
            code += f"{field.offset - end}x" + _code(field)
            end = field.end
            names.append(name)
        return struct.Struct(code), tuple(names)


def _code(field: Field) -> str:
    if field.count > 1 and field.size == 1:
        return f"{field.count}s"
    if (field.size, field.signed) not in _CODES:  # __int128 vector registers
        return f"{field.size * field.count}s"
    return (str(field.count) if field.count > 1 else "") + _CODES[field.size, field.signed]
