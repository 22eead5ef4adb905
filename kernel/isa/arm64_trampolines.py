"""Threads within trampolines of patched arm64 text (codegen.svc_patch, codegen.layout.Trampoline).

To the guest a trampoline is one instruction, which has either not begun or is done. Registers are
a list of x0..x30, sp, pc.
"""

from __future__ import annotations

from typing import Final

from codegen import x18
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


def settle_body(
    registers: list[int], offset: int, site: int, instruction: int, slot: SlotMemory
) -> None:
    """Move a thread from `offset` of the body of `instruction` (codegen.x18) to where it stands.

    `offset` is negative at the trampoline's branch to the body. The thread is before `site` until
    the instruction's own words are through. registers[18] is the slot's.
    """
    plan = x18.rewrite(instruction)
    if plan is None:
        raise ValueError(f"{instruction:#x} has no body")
    stage = x18.stage(plan, offset) if offset >= 0 else x18.Stage.BEFORE
    if stage == x18.Stage.STORE:
        registers[x18.X18] = registers[plan.scratch]
    if stage == x18.Stage.BEFORE:
        registers[PC] = site
        for register, at in x18.SAVED.items():
            registers[register] = slot.q[at // 8]
        return
    for register in (plan.scratch, plan.base):
        registers[register] = slot.q[x18.SAVED[register] // 8]
    registers[PC] = x18.target(instruction, site) if stage == x18.Stage.TAKEN else site + _WORD


def enter(registers: list[int], trampoline: int, slot: SlotMemory, saved: int) -> None:
    """The first word faulted, the stack is not there: do its work and go on in the stub.

    `saved`: address of `entry_saved` or `set_tls_saved`, which find x17 and x30 in the slot and its
    address in x17.
    """
    for register, at in x18.SAVED.items():
        slot.q[at // 8] = registers[register]
    slot.q[SlotArm64.RETURN // 8] = trampoline + Trampoline.BACK
    registers[X17], registers[X30] = slot.address, trampoline + Trampoline.BACK
    registers[PC] = saved
