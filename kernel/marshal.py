"""The stub's marshal rows, from the handlers' signatures and the tables.

A handler says by its annotations which arguments it wants copied in; the tables say how long they
are. An annotation the tables contradict is an error at start, not a surprise at run time.
"""

from __future__ import annotations

import typing

from codegen.layout import Marshal
from kernel import families
from kernel.syscalls.declare import REGISTRY, places

if typing.TYPE_CHECKING:
    from tables import Arg, Table

_COPIED = {"path", "inbuffer", "instruct", "stringvector", "iovec", "hoststat"}


def rows(abi: Table) -> list[list[tuple[int, int]]]:
    """One row of (Marshal kind, parameter) pairs a number. TypeError on a contradiction."""
    families.load()
    result: list[list[tuple[int, int]]] = [[] for _ in range(512)]
    for name, handler in REGISTRY.items():
        number = abi.numbers.get(name)
        if number is None or number >= len(result):
            continue
        call = abi.syscalls[name]
        arguments = call.args
        row = [(Marshal.NONE, 0)] * len(handler.parameters)
        for i, (parameter, kind) in zip(places(handler, call), handler.parameters, strict=True):
            if kind.name in _COPIED and i >= len(arguments):
                raise TypeError(f"{name}: {parameter} is not an argument of the call")
            if kind.name in _COPIED:
                row[i] = _rule(name, parameter, kind.name, arguments[i])
        result[number] = row
    return result


def _rule(name: str, parameter: str, kind: str, argument: Arg) -> tuple[int, int]:
    if kind == "hoststat":
        return Marshal.STAT, 0
    if kind == "path" and argument.kind in ("path", "string"):
        return Marshal.PATH, 0
    if kind != argument.kind:
        raise TypeError(f"{name}: {parameter} is {argument.kind} in the tables, not {kind}")
    if kind == "inbuffer":
        index, unit = argument.param
        return Marshal.BUFFER, index | unit << 3
    if kind == "iovec":
        return Marshal.IOVEC, argument.param[0]
    if kind == "instruct":
        return Marshal.STRUCT, argument.param[0]
    return Marshal.VECTOR, 0
