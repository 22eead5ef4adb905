"""Decoders: what a handler receives of the registers and of what the stub has copied in."""

from __future__ import annotations

import errno
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.layout import NULL_ARGUMENT, OVERSIZE_ARGUMENT, PAYLOAD, PAYLOAD_SIZE, Slot
from kernel import abi
from kernel.syscalls import declare

U64 = st.integers(0, (1 << 64) - 1)
S32 = (abi.Int, abi.Fd, abi.DirFd, abi.Pid, abi.SignalNumber)
U32 = (abi.UInt, abi.Uid, abi.Gid, abi.Flags, abi.OpenFlags)
S64 = (abi.Long, abi.Offset)
WHOLE = (abi.ULong, abi.Size, abi.Pointer)
COPIED = (abi.Path, abi.OptionalPath, abi.InBuffer, abi.InStruct, abi.IoVec, abi.HostStat)
TEXT = st.binary(max_size=60)
STRING = TEXT.map(lambda b: b.replace(b"\0", b"0"))


class FakeSlot:
    """A slot's bytes and its words."""

    def __init__(self) -> None:
        self.mm = bytearray(PAYLOAD + PAYLOAD_SIZE)
        self.q = memoryview(self.mm).cast("Q")
        self.cursor = 0

    def argument(self, i: int, value: int) -> None:
        self.q[Slot.ARGS // 8 + i] = value

    def copied(self, i: int, data: bytes | None, length: int | None = None) -> None:
        """As the stub leaves an argument: its place and length."""
        n = len(data or b"") if length is None else length
        struct.pack_into("<II", self.mm, Slot.IN + 8 * i, self.cursor, n)
        if data:
            self.mm[PAYLOAD + self.cursor : PAYLOAD + self.cursor + len(data)] = data
            self.cursor = (self.cursor + len(data) + 7) & ~7


def handler_of(*annotations: Any) -> declare.Handler:
    """A handler whose parameters have these annotations; it answers them."""
    names = [f"p{i}" for i in range(len(annotations))]
    namespace: dict[str, Any] = {}
    exec(f"def call(task, {', '.join(names)}): return ({', '.join(names)},)", namespace)  # noqa: S102
    function = namespace["call"]
    function.__annotations__ = dict(zip(names, annotations, strict=True))
    made = declare.Handler("call", function, declare.Restart.NEVER, "", False)
    made.parameters = declare._parameters(function)
    made.call = declare._compile(made)
    return made


def decode(slot: FakeSlot, *annotations: Any) -> Any:
    mm = bytes(slot.mm)
    return handler_of(*annotations).call(SimpleNamespace(), slot.q, mm)


def wrapped(value: int, bits: int) -> int:
    """Two's complement."""
    return int.from_bytes((value & (1 << bits) - 1).to_bytes(8, "little")[: bits // 8], "little",
                          signed=True)  # fmt: skip


@given(st.lists(U64, min_size=6, max_size=6))
@settings(max_examples=40, deadline=None)
def test_scalars(values: list[int]) -> None:
    slot = FakeSlot()
    for i, value in enumerate(values):
        slot.argument(i, value)
    for kinds, rule in (
        (S32, lambda v: wrapped(v, 32)),
        (U32, lambda v: v & 0xFFFF_FFFF),
        (S64, lambda v: wrapped(v, 64)),
        (WHOLE, lambda v: v),
        ((abi.FileMode,), lambda v: v & 0xFFFF),
    ):
        for kind in kinds:
            assert decode(slot, *[kind] * 6) == tuple(map(rule, values))


@given(st.lists(TEXT, min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_copied_arguments(values: list[bytes]) -> None:
    slot = FakeSlot()
    for i, value in enumerate(values):
        slot.copied(i, value)
    for kind in COPIED:
        assert decode(slot, *[kind] * len(values)) == tuple(values)


@given(number=U64, text=STRING, strings=st.lists(STRING, max_size=6), value=st.binary(max_size=30))
@settings(max_examples=40, deadline=None)
def test_mixed_arguments(number: int, text: bytes, strings: list[bytes], value: bytes) -> None:
    slot = FakeSlot()
    slot.argument(0, number)
    slot.copied(1, text)
    slot.copied(2, b"".join(s + b"\0" for s in strings))
    slot.copied(3, value)
    got = decode(slot, abi.Int, abi.Path, abi.StringVector, abi.InBuffer)
    assert got == (wrapped(number, 32), text, strings, value)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (abi.Path, -errno.EFAULT),
        (abi.OptionalPath, (None,)),
        (abi.InStruct, (None,)),
        (abi.InBuffer, (b"",)),
        (abi.IoVec, (b"",)),
        (abi.StringVector, ([],)),
    ],
)
def test_null(kind: Any, answer: Any) -> None:
    slot = FakeSlot()
    slot.copied(0, None, NULL_ARGUMENT)
    assert decode(slot, kind) == answer


def test_an_oversize_vector_is_none() -> None:
    slot = FakeSlot()
    slot.copied(0, None, OVERSIZE_ARGUMENT)
    assert decode(slot, abi.StringVector) == (None,)


@given(st.binary(min_size=48, max_size=48))
@settings(max_examples=60, deadline=None)
def test_any_descriptor_a_guest_writes_gives_bytes_of_its_own_slot(words: bytes) -> None:
    slot = FakeSlot()
    slot.mm[Slot.IN : Slot.IN + 48] = words
    for kind in (abi.OptionalPath, abi.InBuffer, abi.InStruct, abi.StringVector):
        for value in decode(slot, *[kind] * 6):
            assert value is None or sum(
                map(len, value if isinstance(value, list) else [value])
            ) <= (PAYLOAD_SIZE)


# -------------------------------------------------------------------------------------- declaring
def test_a_parameter_needs_a_kind() -> None:
    with pytest.raises(TypeError, match="no ABI kind"):
        handler_of(int)


def test_a_name_is_declared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declare, "REGISTRY", {})

    def frob(task: Any, fd: abi.Fd) -> int:
        return fd

    frob.__annotations__["fd"] = abi.Fd
    declare.syscall(restart=declare.Restart.ALWAYS, missing="much")(frob)
    handler = declare.REGISTRY["frob"]
    assert (handler.restart, handler.missing, handler.is_async) == (
        declare.Restart.ALWAYS, "much", False,
    )  # fmt: skip
    with pytest.raises(TypeError, match="two handlers"):
        declare.syscall()(frob)
    declare.syscall(name="other")(frob)
    assert set(declare.REGISTRY) == {"frob", "other"}
