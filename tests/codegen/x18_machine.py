"""Instructions with x18 on Unicorn: alone, where x18 is a register, and by way of their bodies.

Both runs begin with the same registers and memory, and are to end with the same. In the second the
guest's x18 is in the slot and the register itself holds something else.
"""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

import unicorn as untyped_unicorn
from unicorn import arm64_const as arm

from codegen import x18
from codegen.asm.decode import words as decoded
from codegen.layout import PAGE, SlotArm64
from kernel.isa import arm64_trampolines

unicorn: Any = untyped_unicorn  # it ships no annotations

CODE, CODE_SIZE = 0x40_0000, 64 * PAGE
MIDDLE = CODE + CODE_SIZE // 2
DATA, STACK, SLOT = 0x7000_0000, 0x7100_0000, 0x9000_0000
MEMORY_SIZE = 2 * PAGE
GARBAGE = 0xBAD0_BAD0_BAD0_BAD0
GENERAL = tuple(f"x{n}" for n in range(31))
VECTORS = ("v0", "v1", "v2", "v3", "v18")
NAMES = (*GENERAL, "sp", "pc", "nzcv", "fpcr", *VECTORS)
_NUMBERS: Final = {name: getattr(arm, f"UC_ARM64_REG_{name.upper()}") for name in NAMES}
_BASE = re.compile(r"\[(x\d+)")
_INDEX = re.compile(r"\[(?:x\d+|sp), ([wx])(\d+)(?:, \w+ #(\d))?")
_STEPS = 20
FAULTS = (unicorn.UC_ERR_READ_UNMAPPED, unicorn.UC_ERR_WRITE_UNMAPPED)


@dataclass
class Outcome:
    """What the guest sees: every register but those that it gives up, and its memory."""

    registers: dict[str, int]
    memory: bytes


class Bodies:
    """One thread of a guest with some code, data, a stack and a slot."""

    def __init__(self, seed: int) -> None:
        self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self.uc.ctl_set_cpu_model(arm.UC_CPU_ARM64_MAX)
        self.rng = random.Random(seed)
        self.uc.mem_map(CODE, CODE_SIZE)
        for base in (DATA, STACK, SLOT):
            self.uc.mem_map(base, MEMORY_SIZE)
        self.literals = self.rng.randbytes(CODE_SIZE)
        self.uc.mem_write(CODE, self.literals)
        self.fresh = self.uc.context_save()

    # -- what a run begins with --------------------------------------------------------------------

    def registers(self, word: int) -> dict[str, int]:
        """Random values that let `word` reach memory which is there."""
        rng = self.rng
        ((_, operands),) = decoded(struct.pack("<I", word))
        values = {name: self._number() for name in GENERAL}
        values |= {name: rng.getrandbits(128) for name in VECTORS}
        values |= {"sp": STACK + PAGE, "nzcv": rng.getrandbits(4) << 28, "fpcr": 0}
        base, index = _BASE.search(operands), _INDEX.search(operands)
        if index is not None:
            junk = rng.getrandbits(32) << 32 if index[1] == "w" else 0
            values[f"x{index[2]}"] = junk | rng.randrange(0, 128, 8)
        if base is not None:
            address = DATA + PAGE + rng.randrange(0, 512, 16)
            if index is not None and base[1] == f"x{index[2]}":  # base + (base << shift)
                address //= 1 + (1 << int(index[3] or 0))
            values[base[1]] = address
        return values

    def _number(self) -> int:
        return self.rng.choice((0, 1, 1 << 32, (1 << 64) - 1, self.rng.getrandbits(64)))

    def _begin(self, values: Mapping[str, int], memory: bytes) -> None:
        self.uc.context_restore(self.fresh)
        self._load(values)
        self.uc.mem_write(DATA, memory)
        self.uc.mem_write(STACK, memory[::-1])

    def _load(self, values: Mapping[str, int]) -> None:
        for name, value in values.items():
            self.uc.reg_write(_NUMBERS[name], value)

    def _put_code(self, at: int, code: bytes) -> None:
        self.uc.mem_write(at, code)
        self.uc.ctl_remove_cache(at, at + len(code))

    def _outcome(self) -> Outcome:
        registers = {name: self.uc.reg_read(number) for name, number in _NUMBERS.items()}
        memory = self.uc.mem_read(DATA, MEMORY_SIZE) + self.uc.mem_read(STACK, MEMORY_SIZE)
        return Outcome(registers, bytes(memory))

    # -- the instruction itself --------------------------------------------------------------------

    def native(self, word: int, site: int, values: Mapping[str, int], memory: bytes) -> Outcome:
        """Run `word` at `site`, with x18 a register like any other."""
        self.uc.mem_write(CODE, self.literals)
        self._put_code(site, struct.pack("<I", word))
        self._begin(values, memory)
        self.uc.emu_start(site, CODE, count=1)
        return self._outcome()

    # -- by way of its body ------------------------------------------------------------------------

    def prepare(
        self, word: int, site: int, here: int, values: Mapping[str, int], memory: bytes
    ) -> None:
        """Everything is as when the instruction's trampoline branches to its body."""
        self.uc.mem_write(CODE, self.literals)
        self._put_code(here, x18.body(word, site - CODE, here - CODE))
        self._begin(values, memory)
        self._q(SlotArm64.X18, values["x18"])
        self.enter()

    def enter(self) -> None:
        """What the stub does on the way to a body (codegen.templates.arm64.threads.use_x18)."""
        for register, at in x18.SAVED.items():
            self._q(at, self.uc.reg_read(_NUMBERS[f"x{register}"]))
        self._load({"x17": GARBAGE, "x18": GARBAGE, "x30": SLOT})

    def _q(self, offset: int, value: int) -> None:
        self.uc.mem_write(SLOT + offset, struct.pack("<Q", value))

    def step(self, here: int, count: int) -> int:
        """Run so many words of the body; where the thread is then."""
        if count:
            self.uc.emu_start(here, CODE, count=count)
            return int(self.uc.reg_read(_NUMBERS["pc"]))
        return here

    def finish(self, here: int) -> Outcome:
        """Run the body to its end."""
        pc = here
        for _ in range(_STEPS):
            self.uc.emu_start(pc, CODE, count=1)
            pc = self.uc.reg_read(_NUMBERS["pc"])
            if not here <= pc < here + x18.BODY_SIZE:
                return self.outcome()
        raise AssertionError("a body without an end")

    def fault(self, here: int) -> int:
        """Run the body up to a fault; where that is."""
        try:
            self.uc.emu_start(here, CODE, count=_STEPS)
        except unicorn.UcError as error:
            if error.errno not in FAULTS:
                raise
            return int(self.uc.reg_read(_NUMBERS["pc"]))
        raise AssertionError("no fault")

    def outcome(self) -> Outcome:
        """With x18 from the slot."""
        found = self._outcome()
        (found.registers["x18"],) = struct.unpack("<Q", self.uc.mem_read(SLOT + SlotArm64.X18, 8))
        return found

    def settle(self, word: int, site: int, offset: int) -> None:
        """A signal comes: the kernel moves the thread, as it does with a host frame."""
        fields = struct.unpack("<32Q", self.uc.mem_read(SLOT, 256))
        slot: Any = SimpleNamespace(q=fields)
        names = (*GENERAL, "sp", "pc")
        registers = [self.uc.reg_read(_NUMBERS[name]) for name in names]
        registers[x18.X18] = fields[SlotArm64.X18 // 8]
        arm64_trampolines.settle_body(registers, offset, site, word, slot)
        self._q(SlotArm64.X18, registers[x18.X18])
        self._load(dict(zip(names, registers, strict=True)) | {"x18": GARBAGE})
