"""What the x86_64 stub's parts share: labels, host call numbers, register lists."""

from __future__ import annotations

from dataclasses import dataclass, field

from codegen.asm.assembler import Label
from codegen.asm.x86_64 import (
    AsmX86,
    Reg,
    gs,
    r8,
    r9,
    r10,
    r12,
    r13,
    r14,
    r15,
    rax,
    rbp,
    rbx,
    rcx,
    rdi,
    rdx,
    rsi,
    rsp,
)
from codegen.layout import REGISTER_ORDER_X86_64, Slot

ARGUMENTS: tuple[Reg, ...] = (rdi, rsi, rdx, r10, r8, r9)

_BY_NAME = {str(r): r for r in (rbx, rbp, rsp, r12, r13, r14, r15, rdi, rsi, rdx, r10, r8, r9)} | {
    "rip": rcx
}
SAVED: tuple[tuple[int, Reg], ...] = tuple(
    (Slot.REGS + 8 * i, _BY_NAME[name]) for i, name in enumerate(REGISTER_ORDER_X86_64)
)

_CPU_SEGMENT, _CPU_MASK = 0x7B, 0xFFF  # asm/segment.h: __CPUNODE_SEG; the node is above


class HostCall:
    """Numbers of the host calls the stub itself makes (asm/unistd_64.h)."""

    WRITE = 1
    FSTAT = 5
    MMAP = 9
    CLOSE = 3
    RT_SIGACTION = 13
    RT_SIGPROCMASK = 14
    RT_SIGRETURN = 15
    SCHED_YIELD = 24
    MADVISE = 28
    SENDMSG = 46
    RECVMSG = 47
    CLONE = 56
    EXIT = 60
    FCNTL = 72
    SIGALTSTACK = 131
    PRCTL = 157
    ARCH_PRCTL = 158
    GETTID = 186
    FUTEX = 202
    EXIT_GROUP = 231
    PPOLL = 271
    DUP3 = 292
    PRLIMIT64 = 302


@dataclass
class Stub:
    """One stub being built: the assembler and the labels its parts jump to."""

    a: AsmX86
    names: dict[str, Label] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Label:
        """The label `name`, created on first use, bound by whoever defines it."""
        if name not in self.names:
            self.names[name] = self.a.label(name)
        return self.names[name]

    def bind(self, name: str) -> None:
        """Give the label `name` the present position."""
        self.a.bind(self[name])

    def host_call(self, number: int) -> None:
        """`syscall` with the number; arguments are in place. Destroys rax, rcx, r11."""
        self.a.mov(rax.low32, number)
        self.a.syscall()

    def current_cpu(self, register: Reg, unknown: Label | None = None) -> None:
        """The number of the CPU: Linux keeps it in a segment's limit (arch/x86/entry/vdso).

        On to `unknown` where there is no such segment; without it, any number.
        """
        self.a.mov(register.low32, _CPU_SEGMENT)
        self.a.lsl(register.low32, register.low32)
        if unknown is not None:
            self.a.jne(unknown)
        self.a.and_(register.low32, _CPU_MASK)

    def save_registers(self) -> None:
        """The guest's registers into Slot.REGS; rcx holds its return address."""
        for offset, register in SAVED:
            self.a.mov(gs(offset), register)

    def restore_registers(self) -> None:
        """The reverse of save_registers; rax is not touched."""
        for offset, register in SAVED:
            self.a.mov(register, gs(offset))
