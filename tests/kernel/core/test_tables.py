"""Handlers, the stub and the tables say the same of every system call."""

from __future__ import annotations

import pytest

import tables
from codegen.layout import Marshal
from codegen.templates.native import NATIVE
from kernel import families, marshal
from kernel.syscalls.declare import REGISTRY, Restart

families.load()
TABLE = tables.load("x86_64")
ROWS = marshal.rows(TABLE)
HANDLED = sorted(name for name in REGISTRY if name in TABLE.numbers)
RULES = {
    "path": Marshal.PATH, "inbuffer": Marshal.BUFFER, "instruct": Marshal.STRUCT,
    "stringvector": Marshal.VECTOR, "iovec": Marshal.IOVEC, "hoststat": Marshal.STAT,
}  # fmt: skip
SCALAR_WIDTHS = {
    "int": 4, "uint": 4, "fd": 4, "dirfd": 4, "pid": 4, "uid": 4, "gid": 4, "signal": 4,
    "long": 8, "ulong": 8, "size": 8, "offset": 8, "pointer": 8,
}  # fmt: skip


def test_every_handler_is_of_a_system_call() -> None:
    for isa in tables.ISAS:
        known = set(tables.load(isa).numbers)
        assert known
    everywhere = set().union(*(tables.load(isa).numbers for isa in tables.ISAS))
    assert set(REGISTRY) <= everywhere


@pytest.mark.parametrize("name", HANDLED)
def test_a_row_is_what_the_handler_and_the_tables_say(name: str) -> None:
    handler, call = REGISTRY[name], TABLE.syscalls[name]
    row = ROWS[call.number]
    assert len(handler.parameters) == len(row) <= len(call.args) <= 6
    for (_, kind), argument, (rule, parameter) in zip(
        handler.parameters, call.args, row, strict=False
    ):
        assert rule == RULES.get(kind.name, Marshal.NONE)
        assert 0 <= parameter < 1 << 16, "a row holds it in 16 bits"
        if rule == Marshal.BUFFER:
            length, unit = argument.param
            assert (parameter & 7, parameter >> 3) == (length, unit)
            assert length < len(call.args)
            assert unit >= 1
        elif rule == Marshal.IOVEC:
            assert parameter < len(call.args)
        elif rule == Marshal.STRUCT:
            assert 0 < parameter <= 4096
        elif kind.name in SCALAR_WIDTHS and argument.kind in SCALAR_WIDTHS:
            assert SCALAR_WIDTHS[kind.name] >= SCALAR_WIDTHS[argument.kind], argument.name


def test_unhandled_numbers_have_no_row() -> None:
    handled = {TABLE.numbers[name] for name in HANDLED}
    assert all(not row for number, row in enumerate(ROWS) if number not in handled)


def test_a_contradiction_is_an_error_at_start() -> None:
    argument = TABLE.syscalls["openat"].args[1]
    with pytest.raises(TypeError, match="in the tables"):
        marshal._rule("openat", "path", "inbuffer", argument)


@pytest.mark.parametrize("name", sorted(NATIVE))
def test_what_the_stub_does_itself_is_not_the_kernels_by_the_tables(name: str) -> None:
    plane = TABLE.syscalls[name].plane
    own = {"exit", "exit_group", "rt_sigreturn", "set_tid_address"}
    assert plane in {"data", "slot"} or name in own


def test_every_answer_from_the_slot_is_the_stubs() -> None:
    assert {n for n, call in TABLE.syscalls.items() if call.plane == "slot"} <= set(NATIVE)


@pytest.mark.parametrize("name", [n for n in HANDLED if n in NATIVE])
def test_an_interrupted_native_call_restarts_as_the_tables_say(name: str) -> None:
    """The handler's rule wins in Dispatcher.restart_rule, also for calls that ran natively."""
    rule, table = REGISTRY[name].restart.value, TABLE.syscalls[name].restart
    without_handler = {"never", "nohand", "block"}  # the same once a handler has run
    if rule == Restart.FUTEX.value:
        return
    assert rule == table or {rule, table} <= without_handler
