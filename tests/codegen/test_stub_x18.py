"""The stub for a host that keeps x18: instructions with it, signals among them, clone, exec."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from codegen.layout import KICK_SIGNAL, SLOT_SIZE, Op, Reason, Request, Slot, SlotArm64
from codegen.svc_patch import Entries, Site
from codegen.templates.native import PAGED
from codegen.variant import Variant
from kernel.isa.arm64_frames import FRAMES, HostFrame
from kernel.reply import Program
from kernel.scanned import Area, Scanned
from kernel.scanning import Trampolines
from kernel.signals.state import SIGUSR1, Info
from kernel.slot import SlotMemory
from tests.codegen.arm64_machine import KEY, SIGSEGV, MachineArm64, branch
from tests.codegen.stub_machine import (
    MEMORY,
    PATTERN,
    SIBLING,
    SITE,
    SLOT,
    STACK,
    Machine,
    says,
    unicorn,
)
from tests.codegen.test_stub_boot import GREETING, Host, booted
from tests.codegen.variant_machine import (
    BODY,
    GARBAGE,
    X18_SITE,
    X18_TRAMPOLINE,
    MachineVariant,
)
from tests.codegen.x18_examples import assemble
from tests.kernel.core.scanned_guest import finish

HANDLER = SITE + 0x300
RT_SIGRETURN = 139
MOV_X1 = assemble("mov x1, x18")
OTHER = KEY + 0x1_2340  # another entry of the thread table
INSTRUCTIONS = {  # with where they lead and what they do to the registers of `start`
    "ldr x18, [x1, #16]!": 4,
    "str x18, [x1], #8": 4,
    "add x18, x18, x15": 4,
    "eor x15, x18, x16": 4,
    "madd x17, x18, x30, x17": 4,
    "stp x18, x16, [sp, #-16]!": 4,
    "cbz x18, #0x40": 4,
    "cbnz x18, #0x40": 0x40,
    "blr x18": 0x80,
    "adr x18, #0x18": 4,
}


@pytest.fixture
def machine() -> MachineVariant:
    return MachineVariant()


def start(machine: MachineVariant, text: str) -> dict[str, int]:
    """The registers before `text`, which stands at X18_SITE."""
    machine.put(assemble(text))
    machine.write(STACK, PATTERN)
    machine.write(MEMORY, PATTERN)
    value = X18_SITE + 0x80 if text == "blr x18" else 0x1818_0000_1818
    return machine.guest(x1=MEMORY + 64) | {"x18": value}


def state(machine: MachineVariant) -> tuple[Any, ...]:
    """All that the guest sees."""
    registers = {name: machine.register(name) for name in (*machine.KEPT, "x0")}
    used = registers["sp"] - STACK  # below it is nobody's
    stack = machine.read(STACK, len(PATTERN))[used:]
    return registers, stack, machine.read(MEMORY, len(PATTERN))


def expected(text: str) -> tuple[Any, ...]:
    """What `text` does without an interruption."""
    machine = MachineVariant()
    machine.use_x18(start(machine, text), X18_SITE + INSTRUCTIONS[text])
    assert not machine.calls
    return state(machine)


# ---------------------------------------------------------------------------- one instruction
@pytest.mark.parametrize("text", INSTRUCTIONS)
def test_an_instruction_changes_what_it_says(machine: MachineVariant, text: str) -> None:
    before = start(machine, text)
    machine.use_x18(before, X18_SITE + INSTRUCTIONS[text])
    after = {name: machine.register(name) for name in (*machine.KEPT, "x0")}
    changed = {name for name, value in after.items() if value != before[name]}
    allowed = {"ldr": {"x18", "x1"}, "str": {"x1"}, "stp": {"sp"}, "blr": {"x17", "x30"}}
    first = text.replace(",", "").split()[1]
    assert changed <= allowed.get(text[:3], {first})
    assert machine.get(Slot.ENTRIES) == 0, "no system call"


def test_a_thread_that_is_not_in_the_table_asks_the_host(machine: MachineVariant) -> None:
    machine.enter_key(KEY, 0)
    before = start(machine, "eor x15, x18, x16")
    machine.use_x18(before)
    assert [name for name, _ in machine.calls] == ["sigaltstack"]
    machine.check_kept(before | {"x15": before["x18"] ^ before["x16"]})


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("room", range(32, 112, 16))
def test_a_stack_that_ends_near_sp(machine: MachineVariant, room: int, known: bool) -> None:
    if not known:
        machine.enter_key(KEY, 0)
    before = start(machine, "eor x15, x18, x16") | {"sp": STACK + room}
    machine.use_x18(before)
    machine.check_kept(before | {"x15": before["x18"] ^ before["x16"]})
    assert machine.signals == ([SIGSEGV] if not known and room < 96 else [])


@pytest.mark.parametrize("name", ["read", "getpid", "getpgid", "clock_gettime"])
def test_calls_keep_x18(machine: MachineVariant, name: str) -> None:
    """Whichever way they take: the register itself is the host's all along."""
    machine.host = says(1)
    machine.set(Slot.PID, 1)
    machine.kernel = lambda m: m.answer(1)
    assert machine.call(name, 1, MEMORY, 1, x18=0x77) == 1
    assert machine.register("x18") == 0x77


def test_a_thread_pointer_may_come_from_x18(machine: MachineVariant) -> None:
    before = machine.guest() | {"x18": OTHER}
    machine.write(STACK, PATTERN)
    machine.set_tls(18, before)
    machine.check_kept(before | {"tpidr_el0": OTHER})
    assert machine.known(OTHER) == (OTHER, SLOT)


# ------------------------------------------------------------------------------------- signals
class Kernel:
    """Delivers a signal to a thread that was kicked, and returns from its handler."""

    def __init__(self, machine: MachineVariant, word: int) -> None:
        self.slot = SlotMemory((SLOT - SIBLING) // SLOT_SIZE + 4)
        assert self.slot.address == SLOT
        self.machine = machine
        self.delivered: list[tuple[int, int]] = []  # pc, x18
        symbols = {
            f"{name}{end}": machine.address(f"{name}{end}")
            for name in ("entry", "set_tls", "use_x18")
            for end in ("", "_saved")
        }
        entries = Entries(symbols["entry"], symbols["set_tls"], symbols["use_x18"])
        stub, rule, known = SimpleNamespace(symbols=symbols), SimpleNamespace(), Scanned()
        area = Area(X18_TRAMPOLINE, SITE, [Site(X18_SITE - SITE, None, word)])
        known.areas.set(X18_TRAMPOLINE, BODY + 0x100, area)
        self.task = SimpleNamespace(
            process=SimpleNamespace(texts=SimpleNamespace(scanned=known)), copy_in=self._copy_in
        )
        made: Any = Trampolines
        self.trampolines = made(stub, entries, rule, None)  # no filter, no net

    async def _copy_in(self, at: int, length: int) -> bytes:
        return self.machine.read(at, length)

    def __call__(self, machine: Machine) -> None:
        number, arguments = machine.posted
        assert number == Request.DELIVER
        self.slot.mm[:] = machine.read(SLOT, SLOT_SIZE)
        host = HostFrame(self.slot, arguments[2])
        if machine.get(Slot.REASON) == Reason.SIGRETURN:
            guest = FRAMES.parse(machine.read(host.stack_pointer, FRAMES.read_size))
            FRAMES.load(host, guest)
        else:
            assert machine.get(Slot.REASON) == Reason.ASYNC
            finish(self.trampolines.settle(self.task, host))
            self.delivered.append((host.instruction_pointer, host.registers[18]))
            info, top = Info(SIGUSR1, 0), host.stack_pointer
            machine.write(*FRAMES.build(host, info, HANDLER, SITE, top, False, (0, 0, 0), 0))
        host.save()
        machine.write(SLOT, self.slot.mm[:])
        machine.set(Slot.PENDING, 0, 4)
        program = Program()
        program.op(Op.RETURN)
        machine.run_program(program)


@pytest.fixture
def kernels() -> Iterator[list[Kernel]]:
    made: list[Kernel] = []
    yield made
    for kernel in made:
        kernel.slot.close()


def path(text: str) -> list[int]:
    """Addresses of all instructions that run for `text`."""
    machine = MachineVariant()
    seen: list[int] = []
    machine.uc.hook_add(unicorn.UC_HOOK_CODE, lambda _uc, at, *_: seen.append(at))
    machine.use_x18(start(machine, text), X18_SITE + INSTRUCTIONS[text])
    return seen


@pytest.mark.parametrize("text", INSTRUCTIONS)
def test_a_signal_may_come_at_any_instruction(
    machine: MachineVariant, text: str, kernels: list[Kernel]
) -> None:
    """In the trampoline, the stub or the body: its handler runs, destroys x18, and returns."""
    end = X18_SITE + INSTRUCTIONS[text]
    want, places = expected(text), path(text)
    assert len(places) > 25
    kernel = Kernel(machine, assemble(text))
    kernels.append(kernel)
    machine.kernel, machine.trapping = kernel, True
    machine.write(HANDLER, struct.pack("<I", assemble(f"mov x8, #{RT_SIGRETURN}")))
    machine.write(HANDLER + 4, branch(HANDLER + 4, SITE))
    machine.uc.hook_add(
        unicorn.UC_HOOK_CODE, lambda *_: machine.load({"x18": 0xDEAD}), None, HANDLER, HANDLER
    )
    for count, place in enumerate(places):
        before = start(machine, text)
        machine.load(before)
        machine.uc.ctl_flush_tb()
        if count:
            machine.uc.emu_start(X18_SITE, end, count=count)
        else:
            machine.load({"pc": X18_SITE})
        assert machine.register("pc") == place
        machine.set(Slot.PENDING, 1, 4)
        kernel.delivered.clear()
        machine.signal(KICK_SIGNAL)
        machine.enter(machine.register("pc"), end)
        assert state(machine) == want, hex(place)
        assert kernel.delivered in ([(X18_SITE, before["x18"])], [(end, want[0]["x18"])])
    done = kernel.delivered == [(end, want[0]["x18"])]  # at the last place
    assert done == (text != "blr x18"), "a jump is done when it has left"


# ------------------------------------------------------------------------------- clone and exec
def test_a_child_starts_with_the_x18_that_the_kernel_gave_it(machine: MachineVariant) -> None:
    def host(m: Machine, number: int, arguments: list[int]) -> int:
        if m.table.names[number] == "clone":
            m.load({"tpidr_el0": OTHER})
        return 0

    machine.host = host
    program = Program()
    made = program.op(Op.CLONE, 0x11, 0, SIBLING + Slot.HOST_TID, 0, 0, SIBLING)
    program.op(Op.END, made)
    machine.kernel = lambda m: m.run_program(program)
    registers = {"sp": MEMORY + 0x1000, "x18": GARBAGE, "x19": 19}
    machine.save_for(SIBLING, registers)
    machine.write(SIBLING + SlotArm64.X18, struct.pack("<Q", 0x99))
    machine.start("getpgid", machine.guest() | {"x18": 0x55}, machine.RETURN)
    assert machine.read(SIBLING + SlotArm64.X18, 16) == struct.pack("<QQ", 0x99, 1)
    assert machine.register("x19") == 19
    assert machine.register("x18") == 0x55, "the parent's"
    machine.put(MOV_X1)
    machine.enter(X18_SITE, X18_SITE + 4)
    assert machine.register("x1") == 0x99


def test_a_program_starts_without_the_x18_of_the_one_before() -> None:
    class Used(MachineVariant):
        def __init__(self) -> None:
            super().__init__()
            self.set(SlotArm64.X18, 0x1234)
            self.set(SlotArm64.RESERVED_X18, 0)

    machine, _ = booted(Used, Host(GREETING))
    assert machine.get(SlotArm64.X18) == 0
    assert machine.get(SlotArm64.RESERVED_X18) == 1


# ---------------------------------------------------------------------------------- larger pages
class MachinePages(MachineArm64):
    """Guests whose pages are larger than the host's."""

    variant = Variant(kernel_pages=True)


@pytest.mark.parametrize("name", sorted(PAGED))
def test_what_counts_in_pages_goes_to_the_kernel(name: str) -> None:
    arguments = (MEMORY, 0x1000, 1, 0x22, -1, 0)
    for make, asked in ((MachinePages, 1), (MachineArm64, 0)):
        machine = make()
        machine.host = says(3)
        machine.kernel = lambda m: m.answer(3)
        made = {"fcntl": (5, 1), "mremap": (MEMORY, 0x1000, 0x1000, 1)}.get(name, arguments)
        assert machine.call(name, *made) == 3
        assert machine.requests == asked
        assert [called for called, _ in machine.calls] == ([] if asked else [name])


def test_other_calls_do_not() -> None:
    machine = MachinePages()
    machine.host = says(3)
    assert machine.call("read", 5, MEMORY, 1) == 3
    assert machine.requests == 0
