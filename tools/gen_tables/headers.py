"""Read constants and struct layouts out of C headers with libclang.

The compiler decides everything: layouts come from clang's own record layout for the ISA's target,
macro values from constant evaluation. Nothing here knows what a constant or struct is for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from clang import cindex

from . import sources
from .packages import Headers

TARGETS = {"x86_64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
VIRTUAL = "/ddock-headers"  # unsaved files only: nothing exists there
PRELUDE = """
#define __user
#define __force
#define DECLARE_FLEX_ARRAY(TYPE, NAME) struct { struct { } __empty_ ## NAME; TYPE NAME[]; }
typedef __kernel_sa_family_t sa_family_t;
typedef __u64 u64;
typedef __s64 s64;
typedef __u32 u32;
"""
STDDEF = """
#define NULL ((void *)0)
#define offsetof(t, m) __builtin_offsetof(t, m)
typedef __SIZE_TYPE__ size_t;
"""
STDINT = "".join(
    f"typedef __{name.upper()}_TYPE__ {name}_t;\n"
    for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
)
UNSIGNED = {
    "BOOL", "CHAR_U", "UCHAR", "USHORT", "UINT", "ULONG", "ULONGLONG", "UINT128",
    "POINTER", "FUNCTIONPROTO",
}  # fmt: skip


@dataclass(frozen=True)
class Member:
    """One scalar, array of scalars or opaque byte range, at a fixed offset of a struct."""

    offset: int
    size: int  # of one element, in bytes
    count: int  # elements; 0 is a flexible array
    signed: bool


@dataclass(frozen=True)
class Layout:
    """A struct's size, alignment and members by path (`uc_mcontext.rip`)."""

    size: int
    align: int
    members: dict[str, Member]


@dataclass
class Facts:
    """What one ISA's headers say."""

    constants: dict[str, int] = field(default_factory=dict)
    ioctls: dict[str, int] = field(default_factory=dict)
    errno: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    structs: dict[str, Layout] = field(default_factory=dict)


@dataclass(frozen=True)
class _Macro:
    name: str
    header: str
    body: str


def read(isa: str, headers: Headers, extra: str) -> Facts:
    """Parse the headers of one ISA, with `extra` C text appended. Raises ValueError on C errors."""
    parser = _Parser(isa, headers)
    text = parser.text(extra)
    unit = parser.parse(text, cindex.TranslationUnit.PARSE_DETAILED_PROCESSING_RECORD)
    errors = [str(d) for d in unit.diagnostics if d.severity >= cindex.Diagnostic.Error]
    if errors:
        raise ValueError(f"{isa} headers do not parse:\n" + "\n".join(errors[:20]))
    facts = Facts()
    macros = []
    for cursor in unit.cursor.get_children():
        if cursor.kind == cindex.CursorKind.MACRO_DEFINITION:
            macro = _macro(cursor)
            if macro is not None:
                macros.append(macro)
        elif cursor.kind == cindex.CursorKind.ENUM_DECL:
            for constant in cursor.get_children():
                facts.constants[constant.spelling] = constant.enum_value
        else:
            _collect_type(cursor, facts)
    _shorten(facts, {m.body.replace(" ", ""): m.name for m in reversed(macros)})
    _sort_macros(macros, parser.evaluate(text, [macro.name for macro in macros]), facts)
    return facts


class _Parser:
    def __init__(self, isa: str, headers: Headers) -> None:
        self.isa = isa
        self.headers = headers
        self.index = cindex.Index.create()
        self.files = [(f"{VIRTUAL}/stddef.h", STDDEF), (f"{VIRTUAL}/stdint.h", STDINT)]
        self.files += [(f"{VIRTUAL}/{name}", "") for name in sources.EMPTY_HEADERS]
        self.arguments = [
            "-x", "c", "-std=gnu11", "-target", TARGETS[isa], "-nostdinc", "-ferror-limit=0", "-w",
            f"-I{VIRTUAL}", f"-I{headers.asm}", f"-I{headers.uapi}",
        ]  # fmt: skip

    def text(self, extra: str) -> str:
        kernel = self.headers.kernel
        before = [sources.cut(fragment, kernel) for fragment in sources.BEFORE]
        after = sources.AFTER + sources.AFTER_OF_ISA[self.isa]
        includes = [f"#include <{name}>" for name in sources.UAPI[:2]]
        rest = sources.UAPI[2:] + sources.UAPI_OF_ISA[self.isa]
        return "\n".join(
            [
                *includes,
                PRELUDE,
                *before,
                *[f"#include <{name}>" for name in rest],
                *[sources.cut(fragment, kernel) for fragment in after],
                extra,
                "",
            ]
        )

    def parse(self, text: str, options: int = 0) -> Any:
        main = f"{VIRTUAL}/main.c"
        files = [*self.files, (main, text)]
        return self.index.parse(main, self.arguments, unsaved_files=files, options=options)

    def evaluate(self, text: str, names: list[str]) -> dict[str, int]:
        """Return the values of those macros that are integer constant expressions.

        Each becomes the initialiser of an enumerator on a line of its own; a line with an error
        is a macro that is no constant (a type, a string, a piece of syntax).
        """
        first = text.count("\n") + 1
        probes = [f"enum {{ ddock_value_{name} = ({name}) }};" for name in names]
        unit = self.parse(text + "\n".join(probes) + "\n")
        bad = {d.location.line for d in unit.diagnostics if d.severity >= cindex.Diagnostic.Error}
        values = {}
        for cursor in unit.cursor.get_children():
            line = cursor.location.line
            if cursor.kind != cindex.CursorKind.ENUM_DECL or line < first or line in bad:
                continue
            for constant in cursor.get_children():
                if constant.spelling.startswith("ddock_value_"):
                    value = constant.enum_value
                    values[constant.spelling.removeprefix("ddock_value_")] = value
        return values


def _macro(cursor: Any) -> _Macro | None:
    """Return the macro behind `cursor` if its body could be a constant expression."""
    location = cursor.location.file
    if location is None or cindex.conf.lib.clang_Cursor_isMacroFunctionLike(cursor):
        return None
    body = " ".join(token.spelling for token in cursor.get_tokens())
    body = body.removeprefix(cursor.spelling).strip()
    if not body or re.search(r'[{};"]|\b(struct|union|extern|typedef)\s*$', body):
        return None
    return _Macro(cursor.spelling, location.name, body)


def _shorten(facts: Facts, macros: dict[str, str]) -> None:
    """Give members the names headers define for them: `_sifields._kill._pid` is `si_pid`."""
    for name, layout in facts.structs.items():
        members = {_short(path, macros): member for path, member in layout.members.items()}
        facts.structs[name] = replace(layout, members=members)


def _short(path: str, macros: dict[str, str]) -> str:
    parts = path.split(".")
    for start in range(len(parts) - 1):
        short = macros.get(".".join(parts[start:]))
        if short:
            return ".".join([*parts[:start], short])
    return path


def _sort_macros(macros: list[_Macro], values: dict[str, int], facts: Facts) -> None:
    """Put each macro that has a value where it belongs: numbers, errno, ioctls or constants."""
    for macro in macros:
        if macro.name not in values:
            continue
        value = values[macro.name]
        if macro.name.startswith("__NR_"):
            name = macro.name.removeprefix("__NR_")
            if name not in ("syscalls", "arch_specific_syscall"):
                facts.numbers[name] = value
        elif re.search(r"/errno(-base)?\.h$", macro.header):
            facts.errno[macro.name] = value
        elif re.search(r"/(ioctls|sockios)\.h$", macro.header) or re.match(
            r"_IO[RW]{0,2}\b", macro.body
        ):
            facts.ioctls[macro.name] = value
        elif not macro.name.startswith("_") or re.match(r"_LINUX_CAP|_NSIG|__W", macro.name):
            facts.constants[macro.name] = value


def _collect_type(cursor: Any, facts: Facts) -> None:
    records = (cindex.CursorKind.STRUCT_DECL, cindex.CursorKind.UNION_DECL)
    if cursor.kind in records and cursor.is_definition() and not cursor.is_anonymous():
        if cursor.spelling.isidentifier():
            facts.structs[cursor.spelling] = _layout(cursor.type)
    elif cursor.kind == cindex.CursorKind.TYPEDEF_DECL:
        canonical = cursor.underlying_typedef_type.get_canonical()
        if canonical.kind == cindex.TypeKind.RECORD and canonical.get_size() >= 0:
            facts.structs.setdefault(cursor.spelling, _layout(canonical))


def _layout(record: Any) -> Layout:
    members = dict(_members(record, 0, ""))
    return Layout(record.get_size(), record.get_align(), members)


def _members(record: Any, base: int, prefix: str) -> Iterator[tuple[str, Member]]:
    for item in record.get_fields():
        if item.is_bitfield():
            continue
        offset = base + item.get_field_offsetof() // 8
        kind = item.type.get_canonical()
        path = prefix + item.spelling
        if item.type.spelling == "sigset_t":  # a struct on one ISA, a number on the other
            yield path, Member(offset, 8, 1, False)
        elif kind.kind == cindex.TypeKind.RECORD:
            named = item.spelling and "(" not in item.spelling
            yield from _members(kind, offset, f"{path}." if named else prefix)
        else:
            yield path, _member(kind, offset)


def _member(kind: Any, offset: int) -> Member:
    if kind.kind == cindex.TypeKind.INCOMPLETEARRAY:
        element, count = kind.element_type.get_canonical(), 0
    else:
        element, count = kind, 1
        while element.kind == cindex.TypeKind.CONSTANTARRAY:
            count *= element.element_count
            element = element.element_type.get_canonical()
    if element.kind == cindex.TypeKind.RECORD:  # an array of structs is opaque bytes
        return Member(offset, 1, count * element.get_size(), False)
    if element.kind == cindex.TypeKind.ENUM:
        element = element.get_declaration().enum_type.get_canonical()
    return Member(offset, element.get_size(), count, element.kind.name not in UNSIGNED)
