"""An arm64 guest without a stub: its memory and CPU are Unicorn's, it runs programs at once."""

from __future__ import annotations

import os
import struct
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

import unicorn as untyped_unicorn
from unicorn import arm64_const as arm

import tables
from codegen.layout import Op, SlotArm64, Trampoline
from kernel import isa
from kernel.errors import LinuxError
from kernel.isa.arm64_trampolines import PC, SP
from kernel.patching import Texts
from kernel.reply import Program, Result
from kernel.scanning import Scanner
from kernel.slot import SlotMemory
from kernel.task import ProgramFailed

unicorn: Any = untyped_unicorn  # it ships no annotations

PAGE = 4096
ENTRY, SET_TLS, ENTRY_SAVED, SET_TLS_SAVED = (0x6800_0000 + 0x100 * n for n in range(4))
SYMBOLS = {
    "entry": ENTRY, "set_tls": SET_TLS, "entry_saved": ENTRY_SAVED, "set_tls_saved": SET_TLS_SAVED
}  # fmt: skip
STACK_TOP = 0x7000_0000
_OP = struct.Struct("<BBHIQ6Q")
_REGISTERS = [getattr(arm, f"UC_ARM64_REG_X{n}") for n in range(31)] + [
    arm.UC_ARM64_REG_SP, arm.UC_ARM64_REG_PC
]  # fmt: skip
_ENOMEM, _EFAULT, _EINVAL = 12, 14, 22


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that never sleeps."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it sleeps")


class Channel:
    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def give(self, task: Any, program: Program, fd: int, cloexec: bool) -> Result:
        register = program.next_register()
        self._guest.results[register] = fd
        return register


class Guest:
    """`task` is what kernel code sees of it; `pages` are protections of mapped pages."""

    def __init__(self, cache: Any = None, *, strict: bool = False) -> None:
        self.uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self.pages: dict[int, int] = {}
        self.next = 0x4000_0000
        self.results = [0] * 16
        self.entered: list[int] = []
        stub: Any = SimpleNamespace(symbols=SYMBOLS)
        self.scanner = Scanner(stub, cache, PAGE, strict=strict)
        self.slot = SlotMemory(0)
        container = SimpleNamespace(translations=self.scanner)
        self.process: Any = SimpleNamespace(
            texts=Texts(), container=container, channel=Channel(self)
        )
        self.task: Any = SimpleNamespace(
            tid=1, process=self.process, slot=self.slot, abi=tables.load("arm64"),
            isa=isa.of("arm64"), run=self._run, result=lambda n: self.results[n],
            copy_in=self._copy_in, take_fd=self._take_fd,
        )  # fmt: skip
        self.process.tasks = {1: self.task}
        self.mmap(STACK_TOP - PAGE, PAGE, 3, 0x32)
        self.mmap(ENTRY & -PAGE, PAGE, 5, 0x32)
        self.uc.hook_add(unicorn.UC_HOOK_CODE, self._stub, None, ENTRY, SET_TLS_SAVED)

    def close(self) -> None:
        self.slot.close()

    # -- memory --------------------------------------------------------------------------------

    def mmap(
        self, at: int, length: int, prot: int, flags: int, fd: int = -1, offset: int = 0
    ) -> int:
        """The host's: hints count where they are free."""
        size = length + -length % PAGE
        wanted = range(at, at + size, PAGE)
        if not flags & 0x10 and (not at or at % PAGE or any(page in self.pages for page in wanted)):
            at = self.next
            while taken := [page for page in range(at, at + size, PAGE) if page in self.pages]:
                at = taken[-1] + PAGE
            self.next = at + size
        self.munmap(at, size)
        self.uc.mem_map(at, size, prot)
        self.pages.update(dict.fromkeys(range(at, at + size, PAGE), prot))
        if not flags & 0x20:
            self.uc.mem_write(at, os.pread(fd, size, offset))
        return at

    def munmap(self, at: int, length: int) -> int:
        for page in range(at, at + length, PAGE):
            if self.pages.pop(page, None) is not None:
                self.uc.mem_unmap(page, PAGE)
        return 0

    def mprotect(self, at: int, length: int, prot: int) -> int:
        wanted = range(at, at + length, PAGE)
        if at % PAGE:
            return -_EINVAL
        if any(page not in self.pages for page in wanted):
            return -_ENOMEM
        self.pages.update(dict.fromkeys(wanted, prot & 7))
        self.uc.mem_protect(at, length + -length % PAGE, prot & 7)
        return 0

    def protections(self, at: int, length: int) -> str:
        return "".join("-rwRxXeE"[self.pages.get(p, 0)] for p in range(at, at + length, PAGE))

    def read(self, at: int, length: int) -> bytes:
        return bytes(self.uc.mem_read(at, length))

    def write(self, at: int, data: bytes) -> None:
        self.uc.mem_write(at, data)

    # -- what the kernel asks --------------------------------------------------------------------

    def run(self, program: Program) -> None:
        """Run a program that kernel code has built."""
        finish(self._run(program))

    async def _run(self, program: Program) -> None:
        names = self.task.abi.names
        for index, op in enumerate(program.ops):
            code, target, mask, flags, nr, *args = _OP.unpack(op)
            assert code == Op.HOSTCALL
            values = [self.results[a] if mask >> n & 1 else a for n, a in enumerate(args)]
            result = self._call(names[nr], values)
            if result < 0 and flags & Op.CHECKED:
                raise ProgramFailed(-result, index)
            self.results[target] = result

    def _call(self, name: str, args: list[int]) -> int:
        if name == "mmap":
            return self.mmap(*args)
        if name == "mprotect":
            return self.mprotect(*args[:3])
        if name == "munmap":
            return self.munmap(*args[:2])
        if name == "msync":
            return 0 if args[0] in self.pages else -_ENOMEM
        assert name == "close", name
        os.close(args[0])
        return 0

    async def _copy_in(self, at: int, length: int) -> bytes:
        if any(not self.pages.get(p, 0) & 1 for p in range(at & -PAGE, at + length, PAGE)):
            raise LinuxError(_EFAULT)
        return self.read(at, length)

    async def _take_fd(self, fd: int) -> int:
        return os.dup(fd)

    # -- running guest code ----------------------------------------------------------------------

    def host_frame(self, pc: int) -> Any:
        registers = [self.uc.reg_read(r) for r in _REGISTERS]
        registers[PC] = pc
        return SimpleNamespace(
            registers=registers, slot=self.slot, instruction_pointer=pc,
            stack_pointer=registers[SP],
        )  # fmt: skip

    def load(self, host: Any) -> None:
        for register, value in zip(_REGISTERS, host.registers, strict=True):
            self.uc.reg_write(register, value)

    def go(self, start: int, stop: int) -> int:
        """Run from `start` until `stop`; faults go to the scanner. How many it settled."""
        self.uc.reg_write(arm.UC_ARM64_REG_SP, STACK_TOP - 64)
        fault: list[int] = []
        hook = self.uc.hook_add(
            unicorn.UC_HOOK_MEM_FETCH_PROT | unicorn.UC_HOOK_MEM_WRITE_PROT,
            lambda _uc, _kind, address, *_: fault.append(address),
        )
        settled, pc = 0, start
        try:
            while pc != stop:
                fault.clear()
                try:
                    self.uc.emu_start(pc, stop, count=1000)
                    pc = self.uc.reg_read(arm.UC_ARM64_REG_PC)
                except unicorn.UcError:
                    assert fault, "an unexpected fault"
                    pc = self.uc.reg_read(arm.UC_ARM64_REG_PC)
                    host = self.host_frame(pc)
                    outcome = finish(
                        self.scanner.interruptions.fault(self.task, host, 11, 2, fault[0])
                    )
                    if outcome.theirs:
                        raise
                    settled += 1
                    assert settled < 20, hex(pc)
        finally:
            self.uc.hook_del(hook)
        return settled

    def _stub(self, uc: Any, pc: int, _size: int, _data: Any) -> None:
        self.entered.append(pc)
        back = uc.reg_read(arm.UC_ARM64_REG_X30)
        area, trampoline, site = self.process.texts.scanned.trampoline(back)
        assert back == trampoline + Trampoline.BACK
        saved = bytes(uc.mem_read(uc.reg_read(arm.UC_ARM64_REG_SP) - 32, 16))
        x17, x30 = struct.unpack("<2Q", saved)
        uc.reg_write(arm.UC_ARM64_REG_X17, x17)
        uc.reg_write(arm.UC_ARM64_REG_X30, x30)
        uc.reg_write(arm.UC_ARM64_REG_X0, 77)
        uc.reg_write(arm.UC_ARM64_REG_PC, area.text + site.offset + 4)


assert SlotArm64.SAVED_X30 == SlotArm64.SAVED_X17 + 8
