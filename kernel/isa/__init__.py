"""What differs between instruction sets beyond numbers and layouts (those are in `tables`).

Nothing else in the kernel names one: handlers, loader and signals ask `of(abi.isa)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernel.isa.frames import Frames


@dataclass(frozen=True)
class Isa:
    """One instruction set as guests see it."""

    name: str  # as in tables
    elf_machine: int  # e_machine (elf.h)
    uname: bytes  # uname(2), field machine; also AT_PLATFORM
    uname_compat: bytes  # the same under the personality PER_LINUX32
    stat: Callable[[bytes], bytes]  # canonical attributes (kernel.fs.metadata) as struct stat
    frames: Frames | None  # None: no guests of this ISA yet


@cache
def of(name: str) -> Isa:
    """The instruction set with that name in `tables`. ModuleNotFoundError for others."""
    found: Isa = import_module(f"kernel.isa.{name}").ISA
    return found
