"""What a stub is built for, beyond its instruction set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """Hosts differ in these."""

    reserved_x18: bool = False  # arm64: the host keeps x18 for itself; see codegen.x18
    kernel_pages: bool = (
        False  # what counts in pages goes to the kernel: the host's are not the guest's
    )


ORDINARY = Variant()
