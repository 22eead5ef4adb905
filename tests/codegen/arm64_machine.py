"""The arm64 stub on Unicorn: entered through a real trampoline at a patched site.

Signals are delivered as the host does it: a frame with every register on the alternate stack, the
stub's handler, rt_sigreturn. Faults always are; breakpoints when `trapping` is set, and otherwise
they end the run with Trap.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from unicorn import arm64_const as arm64

from codegen.asm.arm64 import encode
from codegen.layout import (
    ALT_STACK,
    ALT_STACK_SIZE,
    LARGEST_PAGE,
    SlotArm64,
    Trampoline,
)
from codegen.templates.arm64 import signals, threads
from codegen.templates.arm64.signals import PC, REGS, SP
from tests.codegen.stub_machine import (
    FAULTS,
    MASK,
    PATTERN,
    SITE,
    SLOT,
    STACK,
    STACK_SIZE,
    STEPS,
    Machine,
    unicorn,
)

KEY = 0x7E00_0000_2340  # TPIDR_EL0 of the thread, in the table from the start
RED_ZONE = 96  # bytes below sp that a call may write
X = tuple(f"x{n}" for n in range(31))
V = tuple(f"v{n}" for n in range(32))
_SVC, _BRK = 2, 7  # QEMU's EXCP_SWI, EXCP_BKPT
TRAMPOLINE = SITE + 0x400
INFO = SLOT + ALT_STACK + ALT_STACK_SIZE - 0x1400  # a host frame: siginfo, ucontext
UCONTEXT = INFO + 128
PSTATE = PC + 8
SIGTRAP, SIGSEGV = 5, 11


def branch(source: int, target: int) -> bytes:
    """`b target` at `source`."""
    return struct.pack("<I", 0x1400_0000 | (target - source >> 2) & 0x3FF_FFFF)


def trampoline(where: int, site: int, entry: int, register: int = 0) -> bytes:
    """The words of codegen.layout.Trampoline."""
    load = 0x5800_0000 | (Trampoline.ENTRY - 4) >> 2 << 5 | 17  # ldr x17, ENTRY
    return (
        encode("stp x17, x30, [sp, #-32]")
        + struct.pack("<I", load)
        + encode("blr x17")
        + encode(f"ldp x17, x30, [x30, #{SlotArm64.SAVED_X17}]")
        + branch(where + 16, site + 4)
        + struct.pack("<IQ", register, entry)
    )


class MachineArm64(Machine):
    """One thread in the arm64 stub."""

    isa = "arm64"
    RETURN = SITE + 4
    ARGUMENTS = X[:6]
    NUMBER, RESULT = "x8", "x0"
    STACK_POINTER, PC = "sp", "pc"
    STACK_TOP = SlotArm64.STACK_TOP
    STAT_SIZE = 128
    KEPT = (*X[1:], "sp", "nzcv", "tpidr_el0", *V)
    REGISTERS: ClassVar[Mapping[str, int]] = {
        name: getattr(arm64, f"UC_ARM64_REG_{name.upper()}")
        for name in (*X, *V, "sp", "pc", "nzcv", "tpidr_el0")
    }

    def __init__(self) -> None:
        super().__init__()
        self.trapping = False
        self.signals: list[int] = []
        self._exception = 0
        self.uc.mem_map(threads.TABLE, threads.TABLE_BYTES)
        self.uc.mem_map(signals.SIGRETURN_PAGES, 2 * LARGEST_PAGE)
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self._interrupt)
        self.write(SITE, branch(SITE, TRAMPOLINE))
        self.write(TRAMPOLINE, trampoline(TRAMPOLINE, SITE, self.address("entry")))
        self.load({"tpidr_el0": KEY})
        self.enter_key(KEY, SLOT)
        self.set(SlotArm64.KEY, KEY)
        self.guest_sp = STACK + STACK_SIZE // 2

    def engine(self) -> Any:
        return unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)

    # -- the thread table --------------------------------------------------------------------------

    @staticmethod
    def entry_of(key: int) -> int:
        """Address of the key's entry: two u64, key and slot."""
        index = (key ^ key >> 16) >> 4 & (1 << threads.ENTRIES_BITS) - 1
        return threads.TABLE + 16 * index

    def enter_key(self, key: int, slot: int) -> None:
        self.write(self.entry_of(key), struct.pack("<QQ", key, slot))

    def known(self, key: int) -> tuple[int, int]:
        """(key, slot) of the entry in which `key` would stand."""
        found, slot = struct.unpack("<QQ", self.read(self.entry_of(key), 16))
        return found, slot

    # -- calls -------------------------------------------------------------------------------------

    @property
    def saved(self) -> dict[str, int]:
        return {n: self.get(SlotArm64.XREGS + 8 * i) for i, n in enumerate((*X, "sp"))}

    @property
    def returns_to(self) -> int:
        back = self.get(SlotArm64.RETURN)
        (word,) = struct.unpack("<I", self.read(back + 4, 4))
        distance: int = (word & 0x3FF_FFFF ^ 0x200_0000) - 0x200_0000
        return back + 4 + 4 * distance

    def save_for(self, slot: int, registers: Mapping[str, int]) -> None:
        values = {name: registers.get(name, 0) for name in (*X, "sp")}
        for i, name in enumerate((*X, "sp")):
            self.write(slot + SlotArm64.XREGS + 8 * i, values[name].to_bytes(8, "little"))
        for field, name in (
            (SlotArm64.SAVED_X15, "x15"),
            (SlotArm64.SAVED_X16, "x16"),
            (SlotArm64.SAVED_X17, "x17"),
            (SlotArm64.SAVED_X30, "x30"),
        ):
            self.write(slot + field, values[name].to_bytes(8, "little"))
        back = TRAMPOLINE + Trampoline.BACK
        self.write(slot + SlotArm64.RETURN, back.to_bytes(8, "little"))

    def guest(self, arguments: Sequence[int] = (), **registers: int) -> dict[str, int]:
        """The registers of a guest; each that is not named has a value of its own."""
        values = {r: 0x1111_0000_0000 + i for i, r in enumerate(X)}
        values |= {r: (0x2222 + i) << 64 | i for i, r in enumerate(V)}
        values |= {"sp": STACK + STACK_SIZE // 2, "nzcv": 0x9000_0000}
        values["tpidr_el0"] = self.register("tpidr_el0")
        values |= dict(zip(self.ARGUMENTS, (a & MASK for a in arguments), strict=False))
        return values | registers

    def call(self, name: str | int, *arguments: int, **registers: int) -> int:
        before = self.guest(arguments, **registers) | {"x8": self.number(name)}
        self.write(STACK, PATTERN)
        self.start(name, before, self.RETURN)
        self.check_kept(before)
        return self.result

    def path(self, name: str | int, *arguments: int) -> list[int]:
        """Addresses of the instructions of a call, from the site on, as they are executed."""
        seen: list[int] = []
        hook = self.uc.hook_add(unicorn.UC_HOOK_CODE, lambda _uc, at, *_: seen.append(at))
        self.call(name, *arguments)
        self.uc.hook_del(hook)
        return seen

    def set_tls(self, register: int, before: Mapping[str, int]) -> None:
        """The guest's `msr tpidr_el0, Xregister` at a site of its own."""
        site, place = SITE + 0x100, TRAMPOLINE + 0x100
        self.write(site, branch(site, place))
        self.write(place, trampoline(place, site, self.address("set_tls"), register))
        self.guest_sp = before["sp"]
        self.load(before)
        self.enter(site, site + 4)

    def start(self, name: str | int, registers: Mapping[str, int], until: int) -> None:
        self.guest_sp = registers.get("sp", self.guest_sp)
        self.load({"sp": self.guest_sp, **registers, "x8": self.number(name)})
        self.enter(SITE, until)

    def check_kept(self, before: Mapping[str, int]) -> None:
        """No register but x0 changed; nothing at or above sp, and little below."""
        after = {r: self.register(r) for r in self.KEPT}
        assert after == {r: before[r] for r in self.KEPT}
        assert self.stack_untouched()

    def stack_untouched(self) -> bool:
        """The guest's stack is as it was but for some bytes below sp."""
        used = self.guest_sp - STACK
        low = max(used - RED_ZONE, 0)
        now = self.read(STACK, STACK_SIZE)
        return now[used:] == PATTERN[used:] and now[:low] == PATTERN[:low]

    # -- running -----------------------------------------------------------------------------------

    def enter(self, start: int, until: int) -> None:
        self.load({"pc": start})
        self.uc.ctl_flush_tb()  # translated code does not stop at a new `until`
        while True:
            self._exception = 0
            failed: Any = None
            try:
                self.uc.emu_start(self.register("pc"), until, count=STEPS)
            except unicorn.UcError as error:
                failed = error
            self.check()
            pc = self.register("pc")
            if failed is not None:
                if failed.errno not in FAULTS:
                    raise failed
                self.signal(SIGSEGV)
            elif self._exception == _SVC:
                self._svc()
            elif self._exception == _BRK:
                if not self.trapping:
                    raise self.trap_at(pc)
                self.signal(SIGTRAP)
            else:
                assert not self._exception, f"exception {self._exception} at {pc:#x}"
                assert pc == until, f"lost at {pc:#x}"
                return

    def answer_host(self, result: int) -> None:
        self.load({"x0": result & MASK})

    def _svc(self) -> None:
        name, old = self.table.names[self.register("x8")], self.register("x1")
        if name == "rt_sigreturn":
            assert self.register("sp") == INFO
            self._restore()
        elif name == "sigaltstack" and not self.register("x0"):
            self.write(old, struct.pack("<QQQ", SLOT + ALT_STACK, 0, ALT_STACK_SIZE))
            self.calls.append((name, [0, old]))
            self.answer_host(0)
        else:
            self.ask_host()

    def _interrupt(self, uc: Any, number: int, _data: object) -> None:
        self._exception = number
        uc.emu_stop()

    # -- signals -----------------------------------------------------------------------------------

    def signal(self, number: int, code: int = 1) -> None:
        """The host delivers a signal at the present pc: what runs next is the handler."""
        self.signals.append(number)
        sp = self.register("sp")
        assert not SLOT + ALT_STACK <= sp < SLOT + ALT_STACK + ALT_STACK_SIZE, "nested signal"
        self.write(INFO, struct.pack("<iii", number, 0, code).ljust(128 + 464, b"\0"))
        for name in X:
            self.frame_set(name, self.register(name))
        self.frame_set("sp", sp)
        self.frame_set("pc", self.register("pc"))
        self.frame_set("nzcv", self.register("nzcv"))
        self.load({"x0": number, "x1": INFO, "x2": UCONTEXT, "sp": INFO, "x30": MASK})
        self.load({"pc": self.address("handler")})

    def _restore(self) -> None:
        """rt_sigreturn(2)."""
        self.load({name: self.frame(name) for name in (*X, "sp", "pc", "nzcv")})

    @staticmethod
    def _place(name: str) -> int:
        places = {"sp": SP, "pc": PC, "nzcv": PSTATE}
        return UCONTEXT + (places[name] if name in places else REGS + 8 * int(name[1:]))

    def frame(self, name: str) -> int:
        """A register of the frame."""
        return int.from_bytes(self.read(self._place(name), 8), "little")

    def frame_set(self, name: str, value: int) -> None:
        self.write(self._place(name), value.to_bytes(8, "little"))
