"""Turning a trapping `syscall` into a jump to the stub, without the program being able to tell.

A patched site leads through the jump table (one pointer a site, the same in every process) to the
site's trampoline, which loads rcx with the return address and enters the stub:

    site        jmp qword ptr [JUMP_TABLE + 8*slot]          FF 24 25 disp32
    trampoline  <instructions moved here from the site>
                mov rcx, [RETURN_TABLE + 8*slot]             48 8B 0C 25 disp32
                jmp qword ptr [ENTRY_POINTER]                FF 24 25 disp32

What every tactic below keeps, and why that suffices:

1. *The address after the `syscall` is untouched.* Threads return there, signal frames and debuggers
   hold it.
2. *The address of the `syscall` still performs the guest's system call*: restarted calls go there
   (the kernel sets rip back by two), and branches from elsewhere. It is either still `0F 05`, which
   traps, or a jump to a trampoline that moves nothing.
3. *No other changed byte can be arrived at.* What is overwritten is the middle of one instruction,
   or provably never a target. Patched text is a new file, mapped before any thread runs in it, so
   nobody is in the middle of anything when it changes.
4. *No register changes that `syscall` keeps*: it destroys rcx and r11; jumps and the load of rcx
   write no flags; nothing touches the stack (red zone).

Never touched: a site that is not proven to be an instruction (Code.before), and the signal return
sequence `mov rax, 15; syscall`, whose bytes unwinders compare.

Tactics A and D replace what stands before. The jump has 7 bytes; JUMP_TABLE lies at 0x050F0000, so
the last two bytes of its displacement are `0F 05`: the `syscall` itself. Only the 5 bytes before it
change. Entered there: the jump. Entered at `0F 05`: a `syscall` that traps (2).

* A: those 5 bytes are `mov eax, imm32`. It is one instruction: nothing can arrive inside it (3).
* D1: the instruction before is another one of at least 5 bytes. The trampoline runs it. Its bytes
  beyond 5 become a NOP in front of the jump; a thread stopped between the two goes on in the jump.
* D: several instructions. No boundary between them may be entered (3): it starts no function, is in
  no direct branch's reach and in no jump table, its address stands nowhere in the file, and the
  function has no landing pads. A call's return address is none, because no call is moved.

Moved instructions must mean the same elsewhere: no rip-relative operand, no transfer of control,
plain integer and vector moves and arithmetic only. They may fault: `Patch.original_offset` says
where the guest then is.

Tactic B: `0F 05` becomes `EB rel8` (2), to dead padding that holds the rest. The padding is never
executed: the instruction that ends at its first byte does not fall through, no branch leads into
it, and it ends on a multiple of 8, as padding does. It is 7 bytes for the jump, or (B-far) 5 bytes
for a `jmp rel32` to 7 unused bytes behind the segment, or (B-hop) 2 bytes for another `EB`. Unlike
A and D this also catches branches to the `syscall`, so where there are any, B is tried first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from codegen.asm.decode import Instruction
from codegen.layout import (
    ENTRY_POINTER,
    JUMP_TABLE,
    RETURN_TABLE,
    SITE_LIMIT,
    TRAMPOLINE_SIZE,
)
from codegen.patch_elf import Image
from codegen.patch_padding import Paddings
from codegen.patch_text import Code

SYSCALL: Final = b"\x0f\x05"
JUMP_SIZE: Final = 7  # FF 24 25 disp32
_BEFORE = JUMP_SIZE - len(SYSCALL)  # bytes that A and D overwrite
_FILL = b"\xcc"
_TAIL_SIZE = 8 + JUMP_SIZE  # mov rcx, [..]; jmp [..]
_MOVED_LIMIT = TRAMPOLINE_SIZE - _TAIL_SIZE
_LAST_ENTRY = JUMP_TABLE + 8 * SITE_LIMIT - 8
assert struct.pack("<I", JUMP_TABLE)[2:] == struct.pack("<I", _LAST_ENTRY)[2:] == SYSCALL

# Recommended multi-byte NOPs (Intel SDM, NOP).
_NOPS = (
    b"", b"\x90", b"\x66\x90", b"\x0f\x1f\x00", b"\x0f\x1f\x40\x00", b"\x0f\x1f\x44\x00\x00",
    b"\x66\x0f\x1f\x44\x00\x00", b"\x0f\x1f\x80\x00\x00\x00\x00", b"\x0f\x1f\x84" + bytes(5),
    b"\x66\x0f\x1f\x84" + bytes(5), b"\x66\x2e\x0f\x1f\x84" + bytes(5),
)  # fmt: skip

_MOVABLE = frozenset(
    """
    mov movabs movzx movsx movsxd lea xor or and add sub cmp test inc dec neg not shl shr sar
    cdqe cdq cqo sete setne cmove cmovne cmovb cmovbe cmova cmovae cmovl cmovle cmovg cmovge
    cmovs cmovns movaps movups movdqa movdqu movq movd pxor xorps
    """.split()  # noqa: SIM905 - a list of names reads better as words
)


@dataclass(frozen=True)
class Patch:
    """How one site is patched, for any slot. Offsets are text offsets."""

    site: int  # of the `syscall`
    tactic: str  # A, D1, D, B, B-far, B-hop
    jump: int  # where the 7-byte jump goes
    fixed: tuple[tuple[int, bytes], ...]  # further bytes
    moved: bytes = b""  # what the trampoline runs first
    boundaries: tuple[int, ...] = ()  # offsets of the moved instructions

    @property
    def returns_to(self) -> int:
        """Offset of the return address."""
        return self.site + len(SYSCALL)

    def trampoline(self, slot: int) -> bytes:
        """The site's code in the table of trampolines."""
        code = self.moved + struct.pack("<4sIBBBI", b"\x48\x8b\x0c\x25", RETURN_TABLE + 8 * slot,
                                        0xFF, 0x24, 0x25, ENTRY_POINTER)  # fmt: skip
        return code.ljust(TRAMPOLINE_SIZE, _FILL)

    def original_offset(self, within: int) -> int:
        """Where a thread stopped at trampoline+`within` would be in unpatched text.

        For signal frames and debuggers. Only the first moved instruction's offset and the
        `syscall`'s may be resumed at.
        """
        starts = [b - self.boundaries[0] for b in self.boundaries]
        if within < len(self.moved) and within in starts:
            return self.boundaries[starts.index(within)]
        return self.site


def apply(image: Image, patches: Mapping[int, Patch]) -> bytes:
    """The text with every patch (by slot) written into it."""
    text = bytearray(image.text)
    for slot, patch in patches.items():
        text[patch.jump : patch.jump + JUMP_SIZE] = table_jump(slot)
        for offset, data in patch.fixed:
            text[offset : offset + len(data)] = data
    return bytes(text)


def table_jump(slot: int) -> bytes:
    """`jmp qword ptr [JUMP_TABLE + 8*slot]`."""
    return struct.pack("<BBBI", 0xFF, 0x24, 0x25, JUMP_TABLE + 8 * slot)


def candidates(image: Image) -> list[int]:
    """Offsets of every `0F 05` in the segment, genuine or not."""
    found, at = [], image.text.find(SYSCALL, image.start, image.end)
    while at >= 0:
        found.append(at)
        at = image.text.find(SYSCALL, at + 1, image.end)
    return found


@dataclass(frozen=True)
class Plan:
    """What can be done about an image's sites."""

    patches: tuple[Patch, ...]
    unpatchable: tuple[int, ...]  # genuine, but tactic C: they stay on the trap
    unproven: tuple[int, ...]  # may be data or the middle of an instruction


class Patcher:
    """Decides the tactic of each site. One instance an image: padding is used once."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.code = Code(image)
        self.paddings = Paddings(self.code)
        self._taken: set[int] = set()  # bytes some patch changes or runs

    def plan(self, sites: Iterable[int] | None = None) -> Plan:
        """Patches for `sites`, or for every proven site of the image."""
        proven: dict[int, list[Instruction]] = {}
        unproven: list[int] = []
        for site in sorted(set(candidates(self.image) if sites is None else sites)):
            before = self._genuine(site)
            if before is None:
                unproven.append(site)
            else:
                proven[site] = before
                self._taken.update((site, site + 1))
        found: dict[int, Patch] = {}
        # Sites that need no padding first: what they leave is for the others. Several moved
        # instructions rest on more facts than padding does, so they come last.
        branched_to = {site for site in proven if self.code.is_target(site, site + 1)}
        open_sites = {s: before for s, before in proven.items() if not _is_sigreturn(before)}
        for tactic, sites_first in (
            (self._by_padding, branched_to),
            (self._move_one, open_sites),
            (self._by_padding, open_sites),
            (self._move_several, open_sites),
        ):
            for site in sorted(open_sites.keys() & sites_first - found.keys()):
                patch = tactic(site, open_sites[site])
                if patch is not None:
                    found[site] = patch
        return Plan(
            tuple(found[site] for site in sorted(found)),
            tuple(site for site in proven if site not in found),
            tuple(unproven),
        )

    def _genuine(self, site: int) -> list[Instruction] | None:
        image = self.image
        if not image.start <= site <= image.end - 2 or image.text[site : site + 2] != SYSCALL:
            return None
        return self.code.before(site)

    # ----------------------------------------------------------------------------- tactics A, D
    def _move_one(self, site: int, before: list[Instruction]) -> Patch | None:
        if not before or before[-1].size < _BEFORE:
            return None
        last = before[-1]
        if last.size == 5 and self.image.text[last.offset] == 0xB8:
            return self._moving(site, [last], "A")
        return self._moving(site, [last], "D1")

    def _move_several(self, site: int, before: list[Instruction]) -> Patch | None:
        function = self.image.function_at(site)
        if function is not None and function.has_landing_pads:
            return None
        moved: list[Instruction] = []
        for instruction in reversed(before):
            moved.insert(0, instruction)
            if site - instruction.offset >= _BEFORE:
                break
        else:
            return None
        if any(self._may_be_entered(i.offset) for i in moved[1:]):
            return None
        return self._moving(site, moved, "D")

    def _may_be_entered(self, offset: int) -> bool:
        return (
            self.image.starts_function(offset)
            or self.code.is_target(offset, offset + 1)
            or self.code.is_named(offset)
        )

    def _moving(self, site: int, moved: list[Instruction], tactic: str) -> Patch | None:
        start = moved[0].offset
        if site - start > _MOVED_LIMIT or not all(map(_is_movable, moved)):
            return None
        if not self._taken.isdisjoint(range(start, site)):
            return None
        self._taken.update(range(start, site))
        jump = site - _BEFORE
        gap = _NOPS[jump - start]
        return Patch(
            site=site,
            tactic=tactic,
            jump=jump,
            fixed=((start, gap),) if gap else (),
            moved=self.image.text[start:site],
            boundaries=tuple(i.offset for i in moved),
        )

    # -------------------------------------------------------------------------------- tactic B
    def _by_padding(self, site: int, _before: list[Instruction]) -> Patch | None:
        route = self.paddings.route(site)
        if route is None:
            return None
        self._taken.update(range(route.jump, route.jump + JUMP_SIZE))
        for offset, data in route.hops:
            self._taken.update(range(offset, offset + len(data)))
        return Patch(site=site, tactic=route.tactic, jump=route.jump, fixed=route.hops)


def _is_sigreturn(before: list[Instruction]) -> bool:
    """`mov rax, 15` right before: libgcc and gdb recognise a signal frame by these bytes."""
    if not before:
        return False
    last = before[-1]
    return last.mnemonic.startswith("mov") and last.operands in {"rax, 0xf", "eax, 0xf"}


def _is_movable(instruction: Instruction) -> bool:
    return (
        instruction.mnemonic in _MOVABLE
        and "rip" not in instruction.operands
        and "gs:" not in instruction.operands
    )
