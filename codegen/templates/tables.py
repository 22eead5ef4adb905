"""The stub's tables, the same for every ISA: where calls and ops go, what is copied in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Protocol

from codegen.asm.assembler import Assembler, Label
from codegen.layout import Op
from codegen.templates.native import NATIVE, PAGED, REWRITTEN, WATCHING
from codegen.templates.rows import ROW_SIZE, Row, pack
from codegen.variant import Variant

TABLE_SIZE = 512  # system call numbers the dispatch and marshal tables cover
_OPS = {
    Op.END: "op_end", Op.HOSTCALL: "op_hostcall", Op.COPY_OUT: "op_copy_out",
    Op.COPY_IN: "op_copy_in", Op.RECV_FDS: "op_recv_fds", Op.SEND_FD: "op_send_fd",
    Op.CLONE: "op_clone", Op.ENTER: "op_enter", Op.CONTINUE: "op_continue",
    Op.STORE32: "op_store32", Op.CMPXCHG32: "op_cmpxchg32", Op.RETURN: "handler_return",
}  # fmt: skip


class Stub(Protocol):
    """What an ISA's stub offers."""

    @property
    def a(self) -> Assembler:
        """Its assembler."""

    def __getitem__(self, name: str) -> Label:
        """A label by name."""

    def bind(self, name: str) -> None:
        """Give the label `name` the present position."""


def emit(
    s: Stub,
    numbers: Mapping[str, int],
    rows: Sequence[Row],
    filler: bytes,
    variant: Variant,
) -> None:
    """Everything that follows the stub's code; `filler` pads."""
    _dispatch(s, numbers, PAGED if variant.kernel_pages else frozenset(), filler)
    _ops(s, filler)
    _marshal(s, rows, filler)


def _dispatch(s: Stub, numbers: Mapping[str, int], slow: Set[str], filler: bytes) -> None:
    """One pointer a number; unknown numbers and those of `slow` go to the kernel."""
    entries = {
        name: label for name, label in (NATIVE | REWRITTEN | WATCHING).items() if name not in slow
    }
    by_number = {numbers[name]: label for name, label in entries.items() if name in numbers}
    s.a.align(8, filler)
    s.bind("dispatch_table")
    for number in range(TABLE_SIZE):
        s.a.pointer(s[by_number.get(number, "slow")])


def _ops(s: Stub, filler: bytes) -> None:
    """The op codes' entries."""
    s.a.align(8, filler)
    s.bind("op_table")
    for code in range(256):
        s.a.pointer(s[_OPS.get(code, "stub_broken")])


def _marshal(s: Stub, rows: Sequence[Row], filler: bytes) -> None:
    """One row a number, and the doorbell's value."""
    s.a.align(ROW_SIZE, filler)
    s.bind("marshal_table")
    for number in range(TABLE_SIZE):
        s.a.emit(pack(rows[number] if number < len(rows) else []), f".marshal {number}")
    s.bind("one")
    s.a.emit((1).to_bytes(8, "little"), ".quad 1")
