"""Calls that the filter catches although all text was looked at (kernel.trap_net)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from unicorn import arm64_const as arm

from codegen.layout import Slot, Trampoline
from kernel.errors import LinuxError
from kernel.isa.arm64_trampolines import PC
from kernel.trap_net import SYS_SECCOMP
from tests.kernel.core.scanned_guest import ENTRY, PAGE, STACK_TOP, Guest, finish, words

SVC_1, NOP = 0xD400_0021, 0xD503_201F
SIGSYS, SI_USER = 31, 0
ANONYMOUS = 0x22


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    made = Guest(tmp_path / "cache")
    yield made
    made.close()


@pytest.fixture
def site(guest: Guest) -> int:
    """A call that nobody looks for, in memory that may be executed."""
    text = guest.mmap(0, PAGE, 3, ANONYMOUS)
    guest.write(text, words(NOP, SVC_1, NOP))
    finish(guest.scanner.mprotect(guest.task, text, PAGE, 5))
    assert guest.read(text + 4, 4) == words(SVC_1), "left alone"
    return text + 4


def trap(guest: Guest, site: int, code: int = SYS_SECCOMP) -> tuple[Any, Any]:
    """The filter traps the call at `site`; what came of it, and the frame."""
    host = guest.host_frame(site + 4)
    interruptions: Any = guest.scanner.interruptions
    outcome = finish(interruptions.fault(guest.task, host, SIGSYS, code, site + 4))
    return outcome, host


def test_a_call_that_trapped_goes_through_the_stub(guest: Guest, site: int) -> None:
    outcome, host = trap(guest, site)
    assert (outcome.theirs, outcome.again) == (False, False), "the stub looks for signals"
    found = guest.process.texts.scanned.trampoline(host.registers[PC])
    assert found[1] == host.registers[PC]
    assert found[0].text + found[2].offset == site
    guest.load(host)
    guest.uc.reg_write(arm.UC_ARM64_REG_SP, STACK_TOP - 64)
    guest.uc.emu_start(host.registers[PC], site + 4, count=10)
    assert guest.entered == [ENTRY]
    assert guest.uc.reg_read(arm.UC_ARM64_REG_PC) == site + 4
    assert guest.read(site, 4) == words(SVC_1), "the text stays as it is"
    assert guest.slot.q[Slot.TRAPS // 8] == 1


def test_a_site_has_one_trampoline_as_long_as_that_is_there(guest: Guest, site: int) -> None:
    pages = len(guest.pages)
    first = trap(guest, site)[1].registers[PC]
    assert trap(guest, site)[1].registers[PC] == first
    assert len(guest.pages) == pages + 1
    guest.munmap(first, PAGE)
    guest.scanner.unmapped(guest.process, first, PAGE)
    assert trap(guest, site)[1].registers[PC] not in (first, site, site + 4)
    other = trap(guest, site - 4)[1].registers[PC]
    assert guest.process.texts.scanned.trampoline(other)[0].text == site - 4


def test_an_interrupted_trampoline_is_before_or_behind_its_site(guest: Guest, site: int) -> None:
    trampoline = trap(guest, site)[1].registers[PC]
    interruptions: Any = guest.scanner.interruptions
    for offset, place in ((0, site), (4, site), (Trampoline.BACK + 4, site + 4)):
        host = guest.host_frame(trampoline + offset)
        finish(interruptions.settle(guest.task, host))
        assert host.registers[PC] == place


def test_sigsys_of_another_process_is_the_guests(guest: Guest, site: int) -> None:
    outcome, host = trap(guest, site, SI_USER)
    assert outcome.theirs
    assert host.registers[PC] == site + 4
    assert guest.slot.q[Slot.TRAPS // 8] == 0


def test_without_room_for_a_trampoline_the_guest_has_its_signal(
    guest: Guest, site: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise LinuxError(12)

    monkeypatch.setattr("kernel.trap_net.reserve", refuse)
    outcome, host = trap(guest, site)
    assert outcome.theirs
    assert host.registers[PC] == site + 4
