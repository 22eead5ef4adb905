"""What differs between instruction sets beyond numbers and layouts (those are in `tables`).

No handler, loader or signal module names one: they ask `of(abi.isa)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from typing import TYPE_CHECKING

from kernel.isa.openflags import Translation, translation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kernel.isa.frames import Frames


@dataclass(frozen=True)
class Isa:
    """One instruction set as guests see it."""

    name: str  # as in tables
    elf_machine: int  # e_machine (elf.h)
    uname: bytes  # uname(2), field machine; also AT_PLATFORM
    uname_compat: bytes  # the same under the personality PER_LINUX32
    program_base: int  # where position-independent programs begin, before randomization
    stat: Callable[[bytes], bytes]  # canonical attributes (kernel.fs.metadata) as struct stat
    host_stat: Callable[[bytes], bytes]  # the reverse, of what its stub's fstat brought; b"": b""
    frames: Frames
    saved_registers: tuple[tuple[int, int], ...]  # (offset, length) in a slot of the guest's
    saved_sp: int  # offset in a slot of the stack pointer among them
    # offset in a slot of the kernel's host pid, for a stub whose clone takes two steps
    kernel_pid: int | None = None
    # offset in a slot of where the present call returns to, or the last one has, if that is there
    way_back: int | None = None
    scanned: bool = False  # executable memory is looked at before it is executed (kernel.scanning)
    weakly_ordered: bool = False  # others see a CPU's stores in any order (kernel.weak_ring)
    inherited: tuple[int, ...] = ()  # offsets in a slot of what a new thread has of its maker
    # /proc/cpuinfo of that many CPUs and this auxiliary vector, where guests are emulated
    cpuinfo: Callable[[int, bytes], bytes] | None = None

    @cached_property
    def open_flags(self) -> Translation:
        """open(2)'s flags between this ISA's numbers and the host's, which the kernel uses."""
        return translation(self.name)

    @cached_property
    def conversions(self) -> Mapping[str, Callable[..., object]]:
        """What decoders do to arguments (kernel.abi.Kind.convert); none where nothing differs."""
        made: dict[str, Callable[..., object]] = {}
        if self.host_stat is not canonical:
            made["host_stat"] = self.host_stat
        if self.open_flags.differs:
            made["open_flags"] = self.open_flags.to_host
        return made


def canonical(packed: bytes) -> bytes:
    """A struct stat in an ISA whose layout is the canonical one."""
    return packed


@cache
def of(name: str) -> Isa:
    """The instruction set with that name in `tables`. ModuleNotFoundError for others."""
    found: Isa = import_module(f"kernel.isa.{name}").ISA
    return found
