"""arm64 text whose system calls and writes of the thread pointer go to the stub, without traps.

For engines under which nothing traps. Each *site*, `svc` or `msr tpidr_el0, Xt`, is one word and
becomes one word, `b T`. T is a trampoline (codegen.layout.Trampoline) in an *area* within reach of
its text. Text and area depend on the distance between them and on nothing else but the stub, so one
copy serves every address and every process.

Why a program cannot tell, and what remains:

1. Instructions are aligned words, so a site is found by its value alone and no instruction hides
   inside others. Whoever arrives at the site, from wherever, takes the branch.
2. A trampoline stores below the stack pointer, where arm64 has no red zone (AAPCS64), and moves it
   nowhere. Registers: x17 and x30 come back from the slot; `svc` changes x0 only. The branch back
   is direct: no register holds the return address.
3. A stack pointer that leads nowhere (a thread that has unmapped its own stack) faults at T's first
   word, before anything has changed: the kernel then does T's work
   (kernel.isa.arm64_trampolines).
4. *A word of data with a site's value is replaced as well*: literal pools and tables within code
   look like code. It is one of 33 values of 2**32, so a megabyte of random constants between
   instructions holds one with a chance of 0.2 %. codegen.svc_texts leaves data alone where a file
   says what is code. Leaving data alone on a guess instead would leave a call unseen.
5. `svc` with another immediate is the same call to Linux. No compiler emits it; looking for all of
   them makes (4) two thousand times likelier (OpenSSL keeps 150 KB of random constants between its
   instructions). So only `strict` does, for engines where the scan is the guest's only wall.
6. A program that reads its own text sees branches; code that copies a site elsewhere copies a
   branch that is wrong there.

Where the host keeps x18 for itself, the instructions that name it are sites too (codegen.x18).
Their trampolines call the stub as the others do and then branch to a body behind all trampolines.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from codegen import x18
from codegen.layout import Trampoline

REACH: Final = 1 << 27  # of a branch: [-REACH, REACH - 4]
WORD: Final = 4

_B: Final = 0x1400_0000
_IMM26: Final = (1 << 26) - 1
# svc #n is 0xD4000001 | n << 5, msr tpidr_el0, Xt is 0xD51BD040 | t; little-endian. Matches overlap
# where bytes between words look like one, so they are looked for from every byte on.
_SVC: Final = b"\x01\0\0\xd4"
_ANY_SVC: Final = re.compile(rb"(?=[\x01\x21\x41\x61\x81\xa1\xc1\xe1].[\0-\x1f]\xd4)", re.DOTALL)
_MSR_TAIL: Final = b"\xd0\x1b\xd5"
_MSR_HEADS: Final = range(0x40, 0x60)
# stp x17, x30, [sp, #-32]; ldr x17, ENTRY; blr x17; BACK: ldp x17, x30, [x30, #SAVED_X17]; b; ...
_TRAMPOLINE: Final = struct.Struct("<6IQ")
_SAVE, _LOAD_ENTRY, _CALL, _RESTORE = 0xA93E_7BF1, 0x5800_00B1, 0xD63F_0220, 0xA944_FBD1
assert _TRAMPOLINE.size == Trampoline.SIZE


class UnreachableError(ValueError):
    """The area is too far from some site."""


class Site(NamedTuple):
    """A word to replace: its offset in the text, and Xt's number for `msr`, None for others."""

    offset: int
    register: int | None
    x18: int = 0  # the instruction itself, if it is one that names x18


_SITE: Final = struct.Struct("<IiI")
_NO_REGISTER: Final = -1


def pack_sites(sites: Iterable[Site]) -> bytes:
    """For a file."""
    return b"".join(
        _SITE.pack(s.offset, _NO_REGISTER if s.register is None else s.register, s.x18)
        for s in sites
    )


def unpack_sites(data: bytes) -> tuple[Site, ...]:
    """The reverse of `pack_sites`. struct.error: it is not whole."""
    return tuple(
        Site(offset, None if register == _NO_REGISTER else register, word)
        for offset, register, word in _SITE.iter_unpack(data)
    )


@dataclass(frozen=True)
class Entries:
    """Addresses in the stub."""

    svc: int
    set_tls: int
    x18: int = 0  # 0: the register is the guest's

    @classmethod
    def of_stub(cls, symbols: Mapping[str, int]) -> Entries:
        """Those of a built stub (codegen.image)."""
        return cls(symbols["entry"], symbols["set_tls"], symbols.get("use_x18", 0))

    def of(self, site: Site) -> int:
        """Where the trampoline of a site goes."""
        return self.x18 if site.x18 else self.svc if site.register is None else self.set_tls


class Patched(NamedTuple):
    """Text with branches, and the area they lead to."""

    text: bytes
    area: bytes  # whole pages


def find_sites(
    code: bytes, strict: bool = False, x18_in: Iterable[tuple[int, int]] = ()
) -> list[Site]:
    """Every site in `code`, which begins on a word's boundary, in order.

    `x18_in`: the byte ranges in which instructions with x18 are sites.
    """
    calls = [m.start() for m in _ANY_SVC.finditer(code)] if strict else _find(code, _SVC)
    sites = {at: Site(at, None) for at in calls if at % WORD == 0}
    for tail in _find(code, _MSR_TAIL):
        at = tail - 1
        if at >= 0 and at % WORD == 0 and code[at] in _MSR_HEADS:
            sites[at] = Site(at, code[at] & 31)
    for at, word in x18.find(code, x18_in):
        sites.setdefault(at, Site(at, None, word))
    return [sites[at] for at in sorted(sites)]


def _find(code: bytes, pattern: bytes) -> list[int]:
    """Where `pattern` begins: faster than a regular expression, these are long literals."""
    found = []
    at = code.find(pattern)
    while at >= 0:
        found.append(at)
        at = code.find(pattern, at + 1)
    return found


def bodies(sites: Sequence[Site]) -> list[Site]:
    """The sites whose trampolines have a body, in the order of their bodies."""
    return [site for site in sites if site.x18]


def _used(sites: Sequence[Site]) -> int:
    return len(sites) * Trampoline.SIZE + len(bodies(sites)) * x18.BODY_SIZE


def area_size(sites: Sequence[Site], page: int) -> int:
    """Bytes that the trampolines of these sites take, in whole pages."""
    size = _used(sites)
    return size + -size % page


def reaches(sites: Sequence[Site], distance: int) -> bool:
    """Whether an area `distance` bytes from the text's start is near enough to all its sites."""
    if not sites:
        return True
    # The branch to T may be [-REACH, REACH - 4]; the one back, from T + 16 to the site's next word,
    # is 12 bytes longer where T lies behind. The farthest pairs are taken, meeting or not. Bodies
    # end in branches to where their instruction may branch.
    reach = REACH - x18.REACH if bodies(sites) else REACH
    last = distance + _used(sites) - Trampoline.SIZE
    return (
        distance - sites[-1].offset >= -reach and last - sites[0].offset <= reach - Trampoline.BACK
    )


def patch(
    code: bytes, sites: Sequence[Site], distance: int, entries: Entries, page: int
) -> Patched:
    """Replace `sites` of `code` with branches to an area that begins `distance` bytes after it.

    UnreachableError: see `reaches`. `distance` is a multiple of 4, negative for an area before it;
    of PAGE, if there are instructions with x18.
    """
    if not reaches(sites, distance):
        raise UnreachableError(f"{distance:#x} bytes are too far")
    text = bytearray(code)
    area = bytearray()
    behind = bytearray()
    first_body = distance + len(sites) * Trampoline.SIZE
    for site in sites:
        at = distance + len(area)
        struct.pack_into("<I", text, site.offset, branch(at - site.offset))
        back = at + Trampoline.BACK
        restore = _RESTORE
        if site.x18:
            here = first_body + len(behind)
            restore = branch(here - back)
            behind += x18.body(site.x18, site.offset, here)
        area += _TRAMPOLINE.pack(
            _SAVE,
            _LOAD_ENTRY,
            _CALL,
            restore,
            branch(site.offset + WORD - (back + WORD)),
            site.register or 0,
            entries.of(site),
        )
    area += behind
    return Patched(bytes(text), bytes(area.ljust(area_size(sites, page), b"\0")))


def branch(distance: int) -> int:
    """The word `b` to `distance` bytes from itself."""
    return _B | distance >> 2 & _IMM26
