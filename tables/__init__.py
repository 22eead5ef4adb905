"""The Linux system call ABI as data: numbers, arguments, structs, constants, per ISA.

    table = load("x86_64")
    table.numbers["openat"], table.syscalls["openat"].args[1].kind      # 257, "path"
    table.structs["stat"].unpack(data)["st_size"]

Everything comes from `<isa>.msgpack`, which `tools/gen_syscalls.py` makes from Linux headers and
`overlay.toml`. Loading decodes only numbers and errno; the rest is decoded when first asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from typing import Any

import msgpack

from .layout import Field, StructLayout
from .syscall import Arg, Detour, Syscall, marshal_kinds

__all__ = [
    "ISAS", "Arg", "Detour", "Field", "StructLayout", "Syscall", "Table", "load", "marshal_kinds",
]  # fmt: skip

ISAS = ("x86_64", "arm64")


class Table:
    """One ISA's ABI. Read-only: every user of an ISA shares one object."""

    def __init__(self, packed: bytes) -> None:
        self._sections: dict[str, Any] = msgpack.unpackb(packed)
        self.isa: str = self._sections["isa"]
        self.sources: tuple[str, ...] = tuple(self._sections["sources"])
        self.numbers: dict[str, int] = self._sections["numbers"]
        self.errno: dict[str, int] = self._sections["errno"]

    @cached_property
    def names(self) -> dict[int, str]:
        """Syscall names by number."""
        return {number: name for name, number in self.numbers.items()}

    @cached_property
    def syscalls(self) -> dict[str, Syscall]:
        """Every syscall by name."""
        return {row[0]: Syscall.of(row) for row in msgpack.unpackb(self._sections["syscalls"])}

    @cached_property
    def structs(self) -> Mapping[str, StructLayout]:
        """Every struct by tag or typedef name, decoded one at a time."""
        return _Structs(msgpack.unpackb(self._sections["structs"]))

    @cached_property
    def ioctls(self) -> dict[str, int]:
        """ioctl request numbers: TCGETS, FIONREAD, SIOCGIFCONF, FS_IOC_GETFLAGS, ..."""
        ioctls: dict[str, int] = msgpack.unpackb(self._sections["ioctls"])
        return ioctls

    @cached_property
    def constants(self) -> dict[str, int]:
        """Every other named number: flags, signals, AF_*, ERESTARTSYS, ...; also the ioctls."""
        return {**self.ioctls, **msgpack.unpackb(self._sections["constants"])}


class _Structs(Mapping[str, StructLayout]):
    """Layouts by name; a layout is built when it is first looked up."""

    def __init__(self, packed: dict[str, bytes]) -> None:
        self._packed = packed
        self._layouts: dict[str, StructLayout] = {}

    def __getitem__(self, name: str) -> StructLayout:
        layout = self._layouts.get(name)
        if layout is None:
            size, align, rows = msgpack.unpackb(self._packed[name])
            layout = self._layouts[name] = StructLayout(name, size, align, rows)
        return layout

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def __contains__(self, name: object) -> bool:
        return name in self._packed


@cache
def load(isa: str) -> Table:
    """The table of `isa`, one of ISAS. Raises KeyError for any other."""
    if isa not in ISAS:
        raise KeyError(isa)
    path = f"{__path__[0]}/{isa}.msgpack"
    with open(path, "rb") as file:  # noqa: PTH123 - importing pathlib takes longer than all this
        return Table(file.read())
