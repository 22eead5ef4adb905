"""The kernel serves every instruction set of the tables, and nothing but kernel.isa names one."""

from __future__ import annotations

import ast
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import kernel
import tables
from codegen.layout import PAYLOAD, PAYLOAD_SIZE, Marshal, Slot, SlotArm64
from kernel import families, isa, marshal
from kernel.dispatch import Dispatcher
from kernel.fs import metadata
from kernel.host.engines import host_isa
from kernel.isa.openflags import translation
from kernel.syscalls import declare
from kernel.syscalls.declare import REGISTRY, decoders, places
from tools import gen_coverage

families.load()
X86, ARM = tables.load("x86_64"), tables.load("arm64")
SOURCES = Path(kernel.__file__).parent
# What belongs to one ISA by its nature: its own modules, engines and hosts, and the struct stat
# that attributes are kept as. The zygote and its sessions choose the ISA; only text of arm64 is
# scanned for calls.
MAY_NAME_ISAS = {
    "isa", "host", "spec.py", "zygote.py", "session.py", "fs/metadata.py", "scanning.py",
}  # fmt: skip
NAMES_ISA = re.compile(r"x86|amd64|i[3-6]86|arm64|aarch64|armv\d", re.IGNORECASE)
ONE_ISAS_CALLS = set(X86.numbers) ^ set(ARM.numbers)


@pytest.fixture(params=tables.ISAS)
def abi(request: pytest.FixtureRequest) -> tables.Table:
    return tables.load(request.param)


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCES.rglob("*.py")):
        yield str(path.relative_to(SOURCES)), ast.parse(path.read_text())


def docstrings(tree: ast.AST) -> set[int]:
    """The ids of the nodes that are documentation."""
    return {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }


def words(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Names and strings of a module, with their lines."""
    documentation = docstrings(tree)
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Name):
            yield line, node.id
        elif isinstance(node, ast.Attribute):
            yield line, node.attr
        elif isinstance(node, ast.alias):
            yield line, node.name
        elif isinstance(node, ast.ImportFrom):
            yield line, node.module or ""
        elif isinstance(node, ast.Constant) and id(node) not in documentation:
            if isinstance(node.value, str):
                yield line, node.value
            elif isinstance(node.value, bytes):
                yield line, node.value.decode("latin-1")


def test_no_handler_loader_or_signal_module_names_an_isa() -> None:
    named = [
        f"{name}:{line}: {word}"
        for name, tree in sources()
        if not {name, name.split("/")[0]} & MAY_NAME_ISAS
        for line, word in words(tree)
        if NAMES_ISA.search(word)
    ]
    assert not named


def test_slot_registers_are_isas_own() -> None:
    """Where a stub saves registers is asked of kernel.isa."""
    named = [
        name
        for name, tree in sources()
        if not name.startswith("isa/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr == "REGS"
        and isinstance(node.value, ast.Name)
        and node.value.id == "Slot"
    ]
    assert not named


def composed(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, str, int]]:
    """(handler, call, line) for each string that a function call or a subscript is given."""
    for node in ast.iter_child_nodes(tree):
        here = inside
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside:
            here = node.name
        strings: list[ast.expr] = []
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") != "_same":  # a /proc file
            strings = node.args
        elif isinstance(node, ast.Subscript):
            strings = [node.slice]
        for given in strings:
            if isinstance(given, ast.Constant) and isinstance(given.value, str):
                yield here, given.value, given.lineno
        yield from composed(node, here)


def test_no_composed_host_call_is_missing_on_an_isa() -> None:
    """What the kernel has stubs do exists everywhere, or only a handler of such a call does it."""
    missing = [
        f"{name}:{line}: {call}"
        for name, tree in sources()
        for handler, call, line in composed(tree)
        if call in ONE_ISAS_CALLS and handler not in ONE_ISAS_CALLS
    ]
    assert not missing


def test_the_scan_finds_composed_calls() -> None:
    found = {call for _, tree in sources() for _, call, _ in composed(tree)}
    assert {"mmap", "close", "ppoll", "setpgid", "execveat", "getsockopt", "dup2"} <= found


def test_handlers_of_calls_that_only_one_isa_has() -> None:
    """The old forms that arm64 never had, and nothing else."""
    assert set(REGISTRY) - set(X86.numbers) == set()
    assert set(REGISTRY) - set(ARM.numbers) == {
        "access", "alarm", "arch_prctl", "chmod", "chown", "creat", "dup2", "fork", "futimesat",
        "getdents", "getpgrp", "inotify_init", "lchown", "link", "lstat", "mkdir", "mknod", "open",
        "pause", "readlink", "rename", "rmdir", "signalfd", "stat", "symlink", "unlink", "utime",
        "utimes", "vfork",
    }  # fmt: skip


def test_marshal_rows_of_every_isa(abi: tables.Table) -> None:
    rows = marshal.rows(abi)
    for name in set(REGISTRY) & set(abi.numbers):
        row, call = rows[abi.numbers[name]], abi.syscalls[name]
        assert len(row) <= len(call.args)
        for (rule, parameter), argument in zip(row, call.args, strict=False):
            if rule == Marshal.STRUCT:
                assert parameter == argument.param[0]
    assert rows[abi.numbers["openat"]][1] == (Marshal.PATH, 0)
    assert rows[abi.numbers["fstat"]][0] == (Marshal.STAT, 0)


def test_a_dispatcher_of_every_isa(abi: tables.Table) -> None:
    container: Any = SimpleNamespace(abi=abi)
    dispatcher = Dispatcher(container)
    handled = {
        abi.names[number] for number, call in enumerate(dispatcher._calls) if call is not None
    }
    assert handled == set(REGISTRY) & set(abi.numbers)
    assert dispatcher.restart_rule(abi.numbers["openat"]) == "always"


def test_the_coverage_page_numbers_the_calls_of_every_isa(abi: tables.Table) -> None:
    known = {
        row.name: row.numbers[abi.isa]
        for row in gen_coverage.rows([tables.load(isa) for isa in tables.ISAS])
        if abi.isa in row.numbers
    }
    assert known == dict(abi.numbers)


def test_every_parameter_has_an_argument_of_its_own(abi: tables.Table) -> None:
    for name, handler in REGISTRY.items():
        if name in abi.syscalls:
            where = places(handler, abi.syscalls[name])
            assert sorted(where) == list(range(len(where))), name
            assert where == sorted(where) or (abi.isa, name) == ("arm64", "clone")


def test_what_is_the_hosts_needs_no_conversion() -> None:
    assert not isa.of(host_isa()).conversions or os.uname().machine == "aarch64"
    if os.uname().machine == "x86_64":
        shared = decoders(X86)
        assert all(shared[name] is REGISTRY[name].call for name in shared)


class Slots:
    """A slot's words and bytes for decoders."""

    def __init__(self, *arguments: int) -> None:
        self.mm = bytearray(PAYLOAD + PAYLOAD_SIZE)
        self.q = memoryview(self.mm).cast("Q")
        for i, value in enumerate(arguments):
            self.q[Slot.ARGS // 8 + i] = value


def decoded(monkeypatch: pytest.MonkeyPatch, name: str, abi: tables.Table, slot: Slots) -> Any:
    """The arguments that the handler of `name` would be called with."""
    monkeypatch.setattr(REGISTRY[name], "function", lambda _task, *arguments: arguments)
    where = places(REGISTRY[name], abi.syscalls[name])
    call = declare._compile(REGISTRY[name], where, isa.of(abi.isa).conversions)
    return call(None, slot.q, slot.mm)


def test_clone_finds_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    flags, stack, parent, child, tls = range(1, 6)
    assert decoders(ARM)["clone"] is not REGISTRY["clone"].call
    expected = (flags, stack, parent, child, tls)
    slot = Slots(flags, stack, parent, child, tls)
    assert decoded(monkeypatch, "clone", X86, slot) == expected
    slot = Slots(flags, stack, parent, tls, child)
    assert decoded(monkeypatch, "clone", ARM, slot) == expected


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="about x86_64 hosts")
def test_openat_gets_the_hosts_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ARM.constants["O_DIRECTORY"] | ARM.constants["O_NOFOLLOW"] | ARM.constants["O_CLOEXEC"]
    *_, flags, mode = decoded(monkeypatch, "openat", ARM, Slots(0, 0, given, 0o644))
    assert (flags, mode) == (os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="about x86_64 hosts")
def test_open_flags_there_and_back() -> None:
    arm = translation("arm64")
    for name, of_guest in ARM.constants.items():
        if name.startswith("O_") and name in X86.constants and of_guest >= 0:
            assert arm.to_host(of_guest) == X86.constants[name], name
            assert arm.to_guest(X86.constants[name]) == of_guest, name
    assert not translation("x86_64").differs
    assert translation("x86_64").to_host(0o1234567) == 0o1234567


def test_fstat_gets_canonical_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    attributes = metadata.Attributes(
        1, 2, 3, 0o100644, 5, 6, 7, 8, 4096, 10, 11 * 10**9 + 12, 13 * 10**9 + 14, 15 * 10**9 + 16
    )
    packed = metadata.pack(attributes)
    raw = metadata.to_arm64(packed)
    assert ARM.structs["stat"].get(raw, "st_nlink") == 3
    assert metadata.from_arm64(raw) == packed
    slot = Slots(4, 0x1000)
    slot.mm[PAYLOAD : PAYLOAD + len(raw)] = raw
    struct.pack_into("<II", slot.mm, Slot.IN, 0, len(raw))
    assert decoded(monkeypatch, "fstat", ARM, slot) == (packed, 0x1000)
    struct.pack_into("<II", slot.mm, Slot.IN, 0, 0xFFFF_FFFF)
    assert decoded(monkeypatch, "fstat", ARM, slot) == (b"", 0x1000)


def test_what_a_child_takes_over(abi: tables.Table) -> None:
    of = isa.of(abi.isa)
    assert any(at <= of.saved_sp < at + length for at, length in of.saved_registers)
    taken = {o for at, length in of.saved_registers for o in range(at, at + length)}
    assert Slot.RESULT not in taken
    if abi.isa == "arm64":
        assert {SlotArm64.RETURN, SlotArm64.SAVED_X15, SlotArm64.SAVED_X17, SlotArm64.NZCV} < taken
        assert SlotArm64.KEY not in taken


def test_the_features_of_an_emulated_cpu() -> None:
    cpuinfo = isa.of("arm64").cpuinfo
    assert cpuinfo is not None
    vector = struct.pack("<6Q", 16, 0b11 | 1 << 22, 26, 1 << 23, 0, 0)
    text = cpuinfo(2, vector)
    assert text.count(b"Features\t: fp asimd sve sme\n") == 2
    assert text.startswith(b"processor\t: 0\n")
