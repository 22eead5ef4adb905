"""Threads interrupted within a trampoline, and trampolines without a stack."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from unicorn import arm64_const as arm

from codegen.layout import Reason, SlotArm64, Trampoline
from kernel.errors import LinuxError
from kernel.isa.arm64_trampolines import PC, SP, X17, X30
from kernel.signals import delivery
from tests.kernel.core.scanned_guest import (
    ENTRY_SAVED,
    PAGE,
    SET_TLS_SAVED,
    STACK_TOP,
    Guest,
    finish,
    words,
)

SVC, MSR_X3, NOP = 0xD400_0001, 0xD51B_D043, 0xD503_201F
GUEST_X17, GUEST_X30 = 0x1717, 0x3030


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    made = Guest()
    yield made
    made.close()


def jitted(guest: Guest, *code: int) -> tuple[int, int]:
    """Code that was made executable: its address and that of its trampolines."""
    start = guest.mmap(0, PAGE, 3, 0x22)
    guest.write(start, words(*code))
    finish(guest.scanner.mprotect(guest.task, start, PAGE, 5))
    ((area, _, _),) = guest.process.texts.scanned.areas
    return start, area


def interrupted(guest: Guest, start: int, area: int, offset: int) -> Any:
    """The host's frame of a thread that has come as far as `offset` of the trampoline at `area`."""
    guest.uc.reg_write(arm.UC_ARM64_REG_X17, GUEST_X17)
    guest.uc.reg_write(arm.UC_ARM64_REG_X30, GUEST_X30)
    guest.uc.reg_write(arm.UC_ARM64_REG_SP, STACK_TOP - 64)
    if offset < Trampoline.BACK:
        guest.uc.emu_start(start, area + offset, count=10)
    host = guest.host_frame(area + offset)
    if offset == Trampoline.BACK:
        host.registers[X17], host.registers[X30] = 1, guest.slot.address
        guest.slot.q[SlotArm64.SAVED_X17 // 8] = GUEST_X17
        guest.slot.q[SlotArm64.SAVED_X30 // 8] = GUEST_X30
    return host


@pytest.mark.parametrize(("offset", "at"), [(0, 0), (4, 0), (8, 0), (12, 4), (16, 4)])
def test_a_signal_finds_the_thread_before_or_behind_the_site(
    guest: Guest, offset: int, at: int
) -> None:
    start, area = jitted(guest, SVC, NOP)
    host = interrupted(guest, start, area, offset)
    finish(guest.scanner.interruptions.settle(guest.task, host))
    assert host.registers[PC] == start + at
    assert (host.registers[X17], host.registers[X30]) == (GUEST_X17, GUEST_X30)
    assert host.registers[SP] == STACK_TOP - 64


def test_elsewhere_nothing_is_settled(guest: Guest) -> None:
    start, area = jitted(guest, SVC, NOP)
    for pc in (start, area + Trampoline.SIZE, area - 4, 0):
        host = guest.host_frame(pc)
        before = list(host.registers)
        finish(guest.scanner.interruptions.settle(guest.task, host))
        assert host.registers == before


@pytest.mark.parametrize("signal", [7, 11])
@pytest.mark.parametrize(("code", "entered"), [((SVC,), ENTRY_SAVED), ((MSR_X3,), SET_TLS_SAVED)])
def test_a_thread_without_a_stack_enters_the_stub(
    guest: Guest, signal: int, code: tuple[int, ...], entered: int
) -> None:
    start, area = jitted(guest, *code)
    host = interrupted(guest, start, area, 0)
    host.registers[SP] = host.stack_pointer = 0x10_0000
    outcome = finish(guest.scanner.interruptions.fault(guest.task, host, signal, 1, 0x10_0000 - 32))
    assert (outcome.theirs, outcome.again) == (False, False)
    assert host.registers[PC] == entered
    assert host.registers[X17] == guest.slot.address
    assert host.registers[X30] == area + Trampoline.BACK
    saved = [guest.slot.q[at // 8] for at in (SlotArm64.SAVED_X17, SlotArm64.SAVED_X30)]
    assert saved == [GUEST_X17, GUEST_X30]


def test_a_trampoline_that_cannot_be_fetched_is_a_fault(guest: Guest) -> None:
    start, area = jitted(guest, SVC)
    host = interrupted(guest, start, area, 0)
    assert finish(guest.scanner.interruptions.fault(guest.task, host, 11, 2, area)).theirs


def test_a_stack_that_has_gone_meanwhile_is_an_error(guest: Guest) -> None:
    start, area = jitted(guest, SVC)
    host = interrupted(guest, start, area, 8)
    guest.munmap(STACK_TOP - PAGE, PAGE)
    with pytest.raises(LinuxError):
        finish(guest.scanner.interruptions.settle(guest.task, host))


class Delivery:
    """`deliver` with a host frame of ours; what it leaves in the slot."""

    def __init__(self, guest: Guest, monkeypatch: pytest.MonkeyPatch, host: Any) -> None:
        self.saved = 0
        self.signals: list[int] = []
        host.save = self._save
        host.slot = guest.slot
        task, process = guest.task, guest.process
        process.container.ring = SimpleNamespace(clear_pending=lambda _task: None)
        process.doomed = process.ending = False
        task.slot, task.restart_nr, task.saved_mask, task.errands = guest.slot, -1, None, []
        task.frames = SimpleNamespace(host=lambda _slot, _address: host)
        monkeypatch.setattr(delivery, "_take", lambda _task: None)
        monkeypatch.setattr(
            delivery, "_force", lambda _task, info: self.signals.append(info.signal)
        )
        self.task = task

    def _save(self) -> None:
        self.saved += 1

    def deliver(self, reason: int, *arguments: int) -> None:
        q = self.task.slot.q
        q[delivery._REASON] = reason
        q[delivery._ARGS : delivery._ARGS + len(arguments)] = memoryview(
            struct.pack(f"<{len(arguments)}Q", *arguments)
        ).cast("Q")
        finish(delivery.deliver(self.task))


def siginfo(guest: Guest, signal: int, code: int, address: int) -> int:
    at = guest.slot.address + 0x1_5000
    guest.slot.write(at, struct.pack("<iiiiQ", signal, 0, code, 0, address).ljust(128, b"\0"))
    return at


def test_delivery_settles_before_it_looks_for_signals(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, area = jitted(guest, SVC)
    host = interrupted(guest, start, area, 4)
    made = Delivery(guest, monkeypatch, host)
    made.deliver(Reason.ASYNC)
    assert (host.registers[PC], made.saved, made.signals) == (start, 1, [])


def test_delivery_does_not_tell_the_guest_of_our_faults(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, area = jitted(guest, SVC)
    host = interrupted(guest, start, area, 0)
    made = Delivery(guest, monkeypatch, host)
    made.deliver(Reason.FAULT, 11, siginfo(guest, 11, 1, STACK_TOP - 96))
    assert (host.registers[PC], made.saved, made.signals) == (ENTRY_SAVED, 1, [])


def test_delivery_tells_the_guest_of_its_own_faults(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, _ = jitted(guest, SVC)
    made = Delivery(guest, monkeypatch, guest.host_frame(start))
    made.deliver(Reason.FAULT, 11, siginfo(guest, 11, 1, 0))
    assert made.signals == [11]
