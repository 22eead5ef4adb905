"""What the arm64 stub's parts share: labels, host call numbers, saving registers, constants."""

from __future__ import annotations

from dataclasses import dataclass, field

from codegen.asm.arm64 import AsmArm64, Reg, X, at, sp, x0, x8, x9, x10, x16, x17, x28, x30
from codegen.asm.assembler import Label
from codegen.layout import SlotArm64
from codegen.variant import ORDINARY, Variant

ARGUMENTS: tuple[Reg, ...] = X[:6]
_PAIRS = tuple(range(0, 14, 2)) + tuple(range(18, 30, 2))  # x14 apart; x15..x17 come from SAVED


class HostCall:
    """Numbers of the host calls the stub itself makes (asm-generic/unistd.h)."""

    DUP3 = 24
    FCNTL = 25
    CLOSE = 57
    WRITE = 64
    PPOLL = 73
    FSTAT = 80
    EXIT = 93
    EXIT_GROUP = 94
    FUTEX = 98
    SCHED_YIELD = 124
    SIGALTSTACK = 132
    RT_SIGACTION = 134
    RT_SIGPROCMASK = 135
    RT_SIGRETURN = 139
    PRCTL = 167
    GETPPID = 173
    GETTID = 178
    SENDMSG = 211
    RECVMSG = 212
    CLONE = 220
    MMAP = 222
    MPROTECT = 226
    MADVISE = 233
    WAIT4 = 260
    PRLIMIT64 = 261


@dataclass
class Stub:
    """One stub being built: the assembler and the labels its parts jump to."""

    a: AsmArm64
    variant: Variant = ORDINARY
    names: dict[str, Label] = field(default_factory=dict)
    misses: list[tuple[Label, Label]] = field(default_factory=list)  # see threads.find

    def __getitem__(self, name: str) -> Label:
        """The label `name`, created on first use, bound by whoever defines it."""
        if name not in self.names:
            self.names[name] = self.a.label(name)
        return self.names[name]

    def bind(self, name: str) -> None:
        """Give the label `name` the present position."""
        self.a.bind(self[name])

    def host_call(self, number: int) -> None:
        """`svc` with the number; arguments are in place. Destroys x0 and x8."""
        self.a.mov(x8, number)
        self.a.svc(0)

    def load(self, register: Reg, offset: int) -> None:
        """A slot field, x28 = slot."""
        self.a.ldr(register, at(x28, offset))

    def store(self, register: Reg, offset: int) -> None:
        """Into a slot field, x28 = slot."""
        self.a.str_(register, at(x28, offset))

    def far(self, register: Reg, base: Reg, offset: int) -> None:
        """register = base + offset, an offset below 2**24."""
        high, low = offset >> 12, offset & 0xFFF
        if high:
            self.a.add(register, base, high, "lsl #12")
            base = register
        if low:
            self.a.add(register, base, low)

    def far_back(self, register: Reg, offset: int) -> None:
        """register -= offset, a multiple of 4096."""
        self.a.sub(register, register, offset >> 12, "lsl #12")

    def save_registers(self) -> None:
        """The guest's registers into XREGS: x17 = slot. Then x28 = slot, x16 = XREGS."""
        a = self.a
        self.far(x16, x17, SlotArm64.XREGS)
        for n in _PAIRS:
            a.stp(X[n], X[n + 1], at(x16, 8 * n))
        a.str_(X[14], at(x16, 8 * 14))
        a.mov(x28, x17)
        a.ldp(x9, x10, at(x28, SlotArm64.SAVED_X15))
        a.stp(x9, x10, at(x16, 8 * 15))
        a.ldp(x9, x10, at(x28, SlotArm64.SAVED_X17))
        a.str_(x9, at(x16, 8 * 17))
        a.mov(x9, sp)
        a.stp(x10, x9, at(x16, 8 * 30))
        a.mrs(x9, "nzcv")
        a.str_(x9, at(x16, SlotArm64.NZCV - SlotArm64.XREGS))

    def restore_registers(self) -> None:
        """The reverse; x0 is not touched, x17 = slot; x15, x16 and x30 are the exit's."""
        a = self.a
        a.mov(x17, x28)
        self.far(x16, x17, SlotArm64.XREGS)
        a.ldr(x9, at(x16, SlotArm64.NZCV - SlotArm64.XREGS))
        a.msr("nzcv", x9)
        a.ldr(x9, at(x16, 8 * 31))
        a.mov(sp, x9)
        a.ldr(X[1], at(x16, 8))
        for n in _PAIRS[1:]:
            a.ldp(X[n], X[n + 1], at(x16, 8 * n))
        a.ldr(X[14], at(x16, 8 * 14))

    def push_link(self) -> None:
        """Save the return address of a part that calls others."""
        self.a.str_(x30, "[sp, #-16]!")

    def pop_link(self) -> None:
        """The reverse of push_link."""
        self.a.ldr(x30, "[sp], #16")


__all__ = ["ARGUMENTS", "HostCall", "Stub", "x0"]
