"""What signal delivery asks of an instruction set: the host's frame and the guest's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from kernel.signals.state import Info
    from kernel.slot import SlotMemory


class HostFrame(Protocol):
    """The ucontext the host made in a slot: what the interrupted thread will continue with."""

    slot: SlotMemory
    address: int
    registers: list[int]  # in the order of the ISA's ucontext

    def save(self) -> None:
        """Write the registers back: the handler's return loads them."""

    @property
    def fp_size(self) -> int:
        """Bytes of floating-point state in a frame on this host."""

    def floating_point(self) -> bytes:
        """The interrupted code's floating-point state."""

    def set_floating_point(self, data: bytes) -> None:
        """Take the guest's state, but keep the host's own description of its layout."""

    @property
    def stack_pointer(self) -> int:
        """The interrupted code's."""

    @property
    def instruction_pointer(self) -> int:
        """The interrupted code's."""

    @property
    def arguments(self) -> list[int]:
        """The six arguments of the interrupted call."""

    @property
    def result(self) -> int:
        """What the interrupted call answers, as a signed number."""

    def set_result(self, value: int) -> None:
        """What the interrupted call answers."""

    def set_number(self, number: int) -> None:
        """The call that is about to be made."""

    def restart(self, number: int) -> None:
        """Run the interrupted call again."""


@dataclass
class GuestFrame:
    """What rt_sigreturn found at the guest's stack pointer."""

    registers: list[int]
    mask: int
    fp_address: int
    alt_stack: tuple[int, int, int]


# (host, siginfo, handler, restorer, top of the stack, whether it is the alternate one, the
# alternate stack as shown, mask to restore) -> (address, bytes) to copy to the guest
Build = Callable[[Any, "Info", int, int, int, bool, tuple[int, int, int], int], tuple[int, bytes]]


@dataclass(frozen=True)
class Frames:
    """Signal frames of one instruction set."""

    host: Callable[[SlotMemory, int], HostFrame]  # ValueError: not within the slot
    build: Build
    parse: Callable[[bytes], GuestFrame]  # `read_size` bytes at the guest's stack pointer
    load: Callable[[Any, GuestFrame], None]  # continue with what `parse` found
    read_size: int
