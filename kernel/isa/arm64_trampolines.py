"""Threads within trampolines of patched arm64 text (codegen.svc_patch, codegen.layout.Trampoline).

To the guest a trampoline is one instruction, which has either not begun or is done. Registers are
a list of x0..x30, sp, pc.
"""

from __future__ import annotations

from typing import Final

from codegen.layout import SlotArm64, Trampoline
from kernel.slot import SlotMemory

X17: Final = 17
X30: Final = 30
SP: Final = 31
PC: Final = 32

_WORD: Final = 4
_BELOW_SP: Final = 32  # a trampoline stores x17, x30 so far below the stack pointer
_ENTRY_LOADED: Final = 8  # offset of `blr x17`: x17 is no longer the guest's
_SAVED_X17, _SAVED_X30 = SlotArm64.SAVED_X17 // 8, SlotArm64.SAVED_X30 // 8


def stored_x17(offset: int, sp: int) -> int | None:
    """Where the guest's x17 lies in its memory, for a thread at `offset` of a trampoline."""
    return sp - _BELOW_SP if offset == _ENTRY_LOADED else None


def settle(registers: list[int], offset: int, site: int, slot: SlotMemory, x17: int | None) -> None:
    """Move a thread from `offset` of a trampoline to before or behind its `site`.

    `x17`: what lies at `stored_x17`. At BACK the stub is done and the slot has x17 and x30.
    """
    if offset < Trampoline.BACK:
        registers[PC] = site
        if x17 is not None:
            registers[X17] = x17
        return
    registers[PC] = site + _WORD
    if offset == Trampoline.BACK:
        registers[X17], registers[X30] = slot.q[_SAVED_X17], slot.q[_SAVED_X30]


def enter(registers: list[int], trampoline: int, slot: SlotMemory, saved: int) -> None:
    """The first word faulted, the stack is not there: do its work and go on in the stub.

    `saved`: address of `entry_saved` or `set_tls_saved`, which find x17 and x30 in the slot and its
    address in x17.
    """
    slot.q[_SAVED_X17], slot.q[_SAVED_X30] = registers[X17], registers[X30]
    registers[X17], registers[X30] = slot.address, trampoline + Trampoline.BACK
    registers[PC] = saved
