"""Engines: how a guest of an instruction set runs on this host.

    native      its instructions run on this CPU
    emulated    its stub and it run under a user-mode emulator that the host has; the kernel is ours
                and runs natively all the same: rings, slots and descriptors do not care
    translated  from our own translation cache (not there yet)

The emulator is looked for at run time and is never part of ddock.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import tables
from codegen.layout import KICK_SIGNAL
from codegen.variant import Variant
from kernel.host import profiles
from kernel.host.profiles import HostProfile

Kind = Literal["native", "translated", "emulated"]
ISAS = ("x86_64", "arm64")  # names as in `tables`
_MACHINES = {"x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
_EMULATORS = {"arm64": ("qemu-aarch64-static", "qemu-aarch64")}
# QEMU gives guests the host's signals from the C library's SIGRTMIN (34) on, as its 32, 33, ...
_QEMU_SIGNAL_SHIFT = 2
_EMULATOR_MEMORY = 0x7F00_0000_0000  # where the host places its mappings
_EMULATOR_VARIABLES = ("QEMU_PLUGIN",)


@dataclass(frozen=True)
class Engine:
    """How guests of `isa` run here."""

    isa: str
    kind: Kind
    emulator: str | None = None  # its path
    filtered: bool = True  # seccomp sees the guest's own calls
    host_kick: int = KICK_SIGNAL  # the host signal that reaches the stub as KICK_SIGNAL
    forks_twice: bool = False  # its clone knows no CLONE_PARENT
    profile: HostProfile = field(default_factory=profiles.own)

    def command(self, stub: str) -> tuple[str, list[str]]:
        """What the host executes for a guest process: (file, arguments)."""
        if self.emulator is None:
            return stub, ["ddock-guest"]
        # -B 0: guest addresses are the host's, which the kernel reads memory by. Behind walls the
        # emulator cannot read what it would choose that by itself.
        return self.emulator, ["ddock-guest", "-B", "0", stub]

    def is_own(self, start: int, name: bytes) -> bool:
        """Is a mapping of a guest process the emulator's own memory? Guests do not see it."""
        return self.emulator is not None and (start >= _EMULATOR_MEMORY or name == b"[heap]")

    @property
    def larger_pages(self) -> bool:
        """Do guests see larger pages than the host has? The kernel then sees to every mapping."""
        return self.profile.page_size != profiles.HOST_PAGE

    @property
    def variant(self) -> Variant:
        """The stub that guests need."""
        return Variant(self.profile.reserved_x18, self.larger_pages)

    @property
    def environment(self) -> dict[str, str]:
        """The host environment of guest processes: none but the emulator's instrumentation."""
        return {name: os.environ[name] for name in _EMULATOR_VARIABLES if name in os.environ}


def find(isa: str) -> Engine | None:
    """The engine for guests of `isa`; None when there is none (one may be installed later)."""
    if isa == _MACHINES.get(os.uname().machine):
        return Engine(isa, "native")
    for name in _EMULATORS.get(isa, ()):
        path = os.environ.get("DDOCK_EMULATOR_" + isa.upper()) or shutil.which(name)
        if path is not None:
            kick = KICK_SIGNAL + _QEMU_SIGNAL_SHIFT
            return Engine(
                isa, "emulated", path, False, kick, forks_twice=True, profile=profiles.emulated()
            )
    return None


def host_numbers() -> Mapping[str, int]:
    """System call numbers of the host, for the calls that our own process makes."""
    return tables.load(host_isa()).numbers


def host_isa() -> str:
    """The instruction set whose guests run here without a choice."""
    return _MACHINES.get(os.uname().machine, "x86_64")
