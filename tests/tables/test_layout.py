"""Packing and unpacking: what goes in comes out, and nothing else changes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tables import ISAS, StructLayout, load

ALL = [(isa, name) for isa in ISAS for name in load(isa).structs]


def values_of(layout: StructLayout) -> st.SearchStrategy[dict[str, object]]:
    """Values for members that do not overlap: of a union, the first member."""
    chosen: dict[str, st.SearchStrategy[object]] = {}
    end = 0
    for name, field in layout.fields.items():
        if field.count == 0 or field.offset < end:
            continue
        end = field.end
        if (field.size == 1 and field.count > 1) or field.size > 8:
            length = field.size * field.count
            chosen[name] = st.binary(min_size=length, max_size=length)
            continue
        bits = 8 * field.size
        low, high = (
            (-(1 << bits - 1), (1 << bits - 1) - 1) if field.signed else (0, (1 << bits) - 1)
        )
        number = st.integers(low, high)
        chosen[name] = number if field.count == 1 else st.tuples(*[number] * field.count)
    return st.fixed_dictionaries({}, optional=chosen)


@given(st.data())
def test_what_is_packed_is_unpacked(data: st.DataObject) -> None:
    isa, name = data.draw(st.sampled_from(ALL))
    layout = load(isa).structs[name]
    values = data.draw(values_of(layout))
    packed = layout.pack(**values)  # type: ignore[arg-type]
    assert len(packed) == layout.size
    unpacked = layout.unpack(packed)
    assert {key: unpacked[key] for key in values} == values
    for key, value in values.items():
        assert layout.get(packed, key) == value


@given(st.binary(min_size=144, max_size=144), st.integers(0, 2**32 - 1))
def test_pack_into_changes_only_the_members_named(before: bytes, mode: int) -> None:
    layout = load("x86_64").structs["stat"]
    buffer = bytearray(b"ab" + before)
    layout.pack_into(buffer, 2, st_mode=mode)
    field = layout.fields["st_mode"]
    want = before[: field.offset] + struct.pack("<I", mode) + before[field.end :]
    assert bytes(buffer) == b"ab" + want


@pytest.mark.parametrize("isa", ISAS)
def test_every_struct_is_as_large_as_its_members_need(isa: str) -> None:
    for name, layout in load(isa).structs.items():
        assert layout.name == name
        assert layout.size % layout.align == 0
        for field in layout.fields.values():
            assert 0 <= field.offset <= field.end <= layout.size
        assert len(layout.unpack(bytes(layout.size))) <= len(layout.fields)


def test_short_bytes_are_padded_and_arrays_are_tuples() -> None:
    table = load("x86_64")
    packed = table.structs["new_utsname"].pack(sysname=b"Linux", nodename=b"box")
    assert packed[:6] == b"Linux\0"
    assert packed[65:69] == b"box\0"
    loads = table.structs["sysinfo"].pack(loads=(1, 2, 3))
    assert table.structs["sysinfo"].unpack(loads)["loads"] == (1, 2, 3)


def test_mistakes_are_errors() -> None:
    layout = load("x86_64").structs["timespec"]
    with pytest.raises(KeyError):
        layout.pack(tv_usec=1)
    with pytest.raises(struct.error):
        layout.pack(tv_sec=1 << 63)
    with pytest.raises(struct.error):
        layout.unpack(bytes(15))
    with pytest.raises(KeyError):
        load("x86_64").structs["no_such_struct"]


def test_unpack_reads_at_an_offset_of_a_larger_buffer() -> None:
    layout = load("x86_64").structs["timespec"]
    data = b"????" + layout.pack(tv_sec=5, tv_nsec=7) + b"?"
    assert layout.unpack(data, 4) == {"tv_sec": 5, "tv_nsec": 7}
