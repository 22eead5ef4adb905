"""What can be proven about code: where instructions begin, and what nothing can jump to.

Two facts carry the patcher's proofs:

* **boundaries**. Inside a function that the file describes, decoding from its start is exact. In
  code that nobody describes, the 16 sweeps that start at 16 consecutive bytes are compared: an
  x86 instruction has at most 15 bytes, so one of them starts on a true boundary, and where all of
  them have met, the true one is among them.
* **targets**. A direct branch to T contains the distance to T, wherever instructions begin. So the
  set of all distances found at *any* byte that could be a branch is a superset of the real targets.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_left, bisect_right
from functools import cached_property

from codegen.asm.decode import Instruction, sweep
from codegen.patch_elf import Function, Image

_LONGEST = 15
_LINEAR_LIMIT = 8192  # longer functions are decoded from their start only as a last resort
_WINDOWS = (48, 80, 112, 160)  # how far before an offset the sweeps start
_WANTED = 24  # bytes of agreed instructions before an offset
_TABLE_LIMIT = 4096

# What compilers emit around a system call. Data decoded as code soon leaves this set: `in`, `iret`,
# `loop`, far jumps, port strings and the like are a good part of the opcodes.
_ORDINARY = re.compile(
    r"""(mov(zx|sxd?|abs|[au]ps|dq[au]|[qd]|s[sd]|[hl]ps|hlps)|mov|lea|push|pop|xor|x?add|or|and|sub|cmp
    |test|inc|dec|neg|not|sh[lr]d?|sar|ro[lr]|i?mul|i?div|c[dqw][qo]|cdqe|cwde|call|jmp|j[a-z]{1,2}
    |ret|leave|nop|syscall|endbr64|xchg|cmpxchg|bt[src]?|bs[fr]|[lt]zcnt|ud2|hlt|int3|sbb|adc
    |set[a-z]{1,2}|cmov[a-z]{1,2}|(stos|movs|scas|cmps|lods)[bwdq]|f[a-z0-9]+
    |p(unpck|cmp|add|sub|shuf|and|or|xor|ins|ext|sll|srl|mov)[a-z]*|(xor|and|or|unpck|shuf)[lh]?p[sd]
    |cvt[a-z0-9]+|(add|sub|mul|div|ucomi|sqrt|min|max)s[sd])\Z""",
    re.VERBOSE,
)
_PREFIXES = frozenset({"lock", "rep", "repz", "repne", "repnz", "notrack", "bnd", "data16"})

_REL32 = (
    (re.compile(rb"[\xe8\xe9]"), 1),  # call, jmp
    (re.compile(rb"\x0f[\x80-\x8f]"), 2),  # jcc
    (re.compile(rb"\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d]"), 2),  # lea r, [rip+x]: takes an address
    (re.compile(rb"\xc7\xf8"), 2),  # xbegin
)
_LEA = 2
_REL8 = re.compile(rb"[\x70-\x7f\xe0-\xe3\xeb]")  # jcc, loop, jrcxz, jmp


class Code:
    """Proofs about one image's text. Offsets are text offsets."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.text = image.text
        self._linear: dict[int, tuple[list[int], list[Instruction]]] = {}
        self._described = image.is_described()

    # ------------------------------------------------------------------------------ boundaries
    def before(self, offset: int) -> list[Instruction] | None:
        """Instructions that are proven to end exactly at `offset`; None if nothing is proven.

        Empty if a function begins here.
        """
        if self.image.starts_function(offset):
            return []
        function = self.image.function_at(offset - 1)
        if function is None:
            return None if self._described else self._agreed(offset, self.image.start, None)
        if function.end - function.start > _LINEAR_LIMIT:
            agreed = self._agreed(offset, function.start, function)
            if agreed is not None:
                return agreed
        return self._from_start(function, offset)

    def _from_start(self, function: Function, offset: int) -> list[Instruction] | None:
        known = self._linear.get(function.start)
        if known is None:
            decoded = sweep(self.text, function.start, function.end)
            known = self._linear[function.start] = ([i.end for i in decoded], decoded)
        ends, instructions = known
        i = bisect_left(ends, offset)
        if i == len(ends) or ends[i] != offset:
            return None
        return instructions[max(0, i - 15) : i + 1]

    def _agreed(
        self, offset: int, lowest: int, function: Function | None
    ) -> list[Instruction] | None:
        for window in _WINDOWS:
            first = offset - window
            if first < lowest:
                if function is None:
                    return None
                return self._reaching(sweep(self.text, lowest, offset), offset)
            agreed = self._meeting(first, offset)
            if agreed is not None:
                near = [i for i in agreed if i.end > offset - _WANTED]
                if function is None and not all(map(_is_ordinary, near)):
                    return None
                return agreed
        return None

    @staticmethod
    def _reaching(instructions: list[Instruction], offset: int) -> list[Instruction] | None:
        return instructions if instructions and instructions[-1].end == offset else None

    def _meeting(self, first: int, offset: int) -> list[Instruction] | None:
        """What all sweeps from the 16 bytes at `first` on have in common, if that is enough."""
        starts = range(first, first + _LONGEST + 1)
        for chosen in starts:
            reaching = self._reaching(sweep(self.text, chosen, offset), offset)
            if reaching:
                break
        else:
            return None
        path = {i.offset for i in reaching}
        met = chosen
        for start in starts:
            meeting = self._join(start, offset, path)
            if meeting is None:
                return None
            met = max(met, meeting)
        agreed = [i for i in reaching if i.offset >= met]
        return agreed if agreed and offset - agreed[0].offset >= _WANTED else None

    def _join(self, start: int, offset: int, path: set[int]) -> int | None:
        """Where the sweep from `start` meets `path`; 0 if it dies before, None if it never does."""
        if start in path:
            return start
        at, step = start, _LONGEST + 1
        while at < offset:
            piece = sweep(self.text, at, min(at + step, offset + _LONGEST))
            for instruction in piece:
                if instruction.end in path:
                    return instruction.end
                at = instruction.end
            if not piece:
                return 0
        return None

    # --------------------------------------------------------------------------------- targets
    def is_target(self, start: int, end: int) -> bool:
        """Whether a direct branch, lea or jump table may lead into [start, end)."""
        targets = self._far_targets
        i = bisect_left(targets, start)
        if i < len(targets) and targets[i] < end:
            return True
        text, low = self.text, max(0, start - 129)
        for m in _REL8.finditer(text, low, min(len(text) - 1, end + 126)):
            distance = text[m.start() + 1]
            if start <= m.end() + 1 + distance - ((distance & 0x80) << 1) < end:
                return True
        i = bisect_left(self._table_targets, start)
        return i < len(self._table_targets) and self._table_targets[i] < end

    def is_named(self, offset: int) -> bool:
        """Whether the file holds this offset's address anywhere: symbol, pointer, relocation.

        Position-independent files hold it in 8 bytes; fixed ones may also in an instruction's 4.
        """
        image = self.image
        address = image.address + offset
        if image.file.find(struct.pack("<Q", address)) >= 0:
            return True
        return image.fixed and image.file.find(struct.pack("<I", address)) >= 0

    @cached_property
    def _distances(self) -> list[list[int]]:
        """For each pattern of _REL32, where its matches lead."""
        unpack, text = struct.Struct("<i").unpack_from, self.text
        limit = len(text) - 6
        return [
            [
                at + 4 + unpack(text, at)[0]
                for m in p.finditer(text)
                if (at := m.start() + n) < limit
            ]
            for p, n in _REL32
        ]

    @cached_property
    def _far_targets(self) -> list[int]:
        end = len(self.text)
        return sorted({t for found in self._distances for t in found if 0 <= t < end})

    @cached_property
    def _table_targets(self) -> list[int]:
        """Targets of jump tables: 32-bit distances from a table whose address a lea takes.

        Tables of 64-bit addresses are found by `is_named`.
        """
        image, unpack = self.image, struct.Struct("<i").unpack_from
        low, high = image.start, image.end
        targets: set[int] = set()
        for base in set(self._distances[_LEA]):
            at = image.address_offset(image.address + base) if base % 4 == 0 else -1
            if at < 0:
                continue
            for entry in range(at, min(at + 4 * _TABLE_LIMIT, len(image.file) - 4), 4):
                target = base + unpack(image.file, entry)[0]
                if not low <= target < high:
                    break
                targets.add(target)
        return sorted(targets)

    def next_function(self, offset: int) -> int:
        """Start of the first function at or after `offset`; the end of the text if none."""
        starts = self.image.function_starts
        i = bisect_right(starts, offset - 1)
        return starts[i] if i < len(starts) else len(self.text)


def _is_ordinary(instruction: Instruction) -> bool:
    words = instruction.mnemonic.split()
    return _ORDINARY.match(words[-1]) is not None and all(word in _PREFIXES for word in words[:-1])
