"""Signal frames: what a handler finds on its stack and what rt_sigreturn makes of it again."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tables
from codegen.layout import ALT_STACK, SLOT_SIZE, Slot
from kernel import isa
from kernel.isa import x86_64_frames as frames
from kernel.isa.frames import GuestFrame
from kernel.signals.state import Info
from kernel.slot import SlotMemory
from kernel.syscalls.signals import sigaltstack

U64 = st.integers(0, (1 << 64) - 1)
STACK = st.integers(1 << 20, (1 << 47) - 1)
FP_SIZE = 832  # FXSAVE, XSAVE header and AVX state
INFO = Info(11, 1, 0, struct.pack("<Q", 0xBAD))


@pytest.fixture(scope="module")
def slot() -> Iterator[SlotMemory]:
    made = SlotMemory(1)
    made.reset()
    yield made
    made.close()


def host_frame(
    slot: SlotMemory, registers: list[int], fp: bytes | None, xsave: bool = True
) -> frames.HostFrame:
    """As the host makes it on the slot's alternate stack."""
    ucontext = slot.address + ALT_STACK + 0x4000
    pointer = ucontext + 0x800 if fp is not None else 0
    slot.write(ucontext, bytes(304))
    slot.write(ucontext + 40, struct.pack("<23QQ", *registers, pointer))
    if fp is not None:
        sw = struct.pack("<II", 0x46505853 if xsave else 0, len(fp))
        slot.write(pointer, fp[:464] + sw + fp[472:])
    return frames.HostFrame(slot, ucontext)


def registers_with(sp: int, values: list[int]) -> list[int]:
    registers = list(values)
    registers[frames.RSP] = sp
    return registers


@given(
    values=st.lists(U64, min_size=23, max_size=23),
    sp=STACK,
    mask=U64,
    fp=st.one_of(st.none(), st.binary(min_size=8, max_size=8).map(lambda b: b * (FP_SIZE // 8))),
    switched=st.booleans(),
    alternate=st.tuples(STACK, st.sampled_from([0, 1, 2]), st.integers(2048, 1 << 20)),
)
@settings(max_examples=60, deadline=None)
def test_a_frame_round_trip(
    slot: SlotMemory,
    values: list[int],
    sp: int,
    mask: int,
    fp: bytes | None,
    switched: bool,
    alternate: tuple[int, int, int],
) -> None:
    before = registers_with(sp, values)
    host = host_frame(slot, before, fp)
    state = host.floating_point()
    address, data = frames.build(host, INFO, 0x40_1000, 0x40_2000, sp, switched, alternate, mask)
    # What the handler sees.
    now = host.registers
    assert (now[frames.RIP], now[frames.RDI], now[frames.RAX]) == (0x40_1000, 11, 0)
    assert now[frames.RSP] == address
    assert address % 16 == 8, "as after a call"
    assert address + len(data) <= (sp if switched else sp - 128), "the red zone stays"
    assert struct.unpack_from("<Q", data) == (0x40_2000,)
    info = now[frames.RSI] - address
    assert data[info : info + 128] == INFO.pack()
    assert now[frames.RDX] == address + 8
    assert not now[frames.EFLAGS] & 0x1_0500
    # What rt_sigreturn reads.
    guest = frames.parse(data[8:][: frames.FRAME_READ_SIZE])
    assert (guest.registers, guest.mask, guest.alt_stack) == (before, mask, alternate)
    if fp is None:
        assert guest.fp_address == 0
    else:
        assert guest.fp_address % 64 == 0
        at = guest.fp_address - address
        assert data[at : at + host.fp_size] == state
    # And where the thread continues.
    frames.load(host, guest)
    keeps = (frames.EFLAGS, frames.SEGMENTS)
    loaded = frames.SEGMENTS
    for i in range(loaded):
        if i not in keeps:
            assert host.registers[i] == before[i]


@given(U64, U64)
def test_sigreturn_changes_only_the_users_flags(host_flags: int, guest_flags: int) -> None:
    user = 0x0024_0DD5
    host: Any = SimpleNamespace(registers=[0] * 23)
    host.registers[frames.EFLAGS] = host_flags
    host.registers[frames.SEGMENTS] = 0x33
    registers = [1] * 23
    registers[frames.EFLAGS] = guest_flags
    frames.load(host, GuestFrame(registers, 0, 0, (0, 0, 0)))
    flags = host.registers[frames.EFLAGS]
    assert flags & user == guest_flags & user
    assert flags & ~user == host_flags & ~user
    assert host.registers[frames.SEGMENTS] == 0x33


def test_registers_are_written_back(slot: SlotMemory) -> None:
    host = host_frame(slot, list(range(23)), None)
    host.set_result(-4)
    host.registers[frames.RIP] = 0x1002
    host.restart(202)
    host.save()
    again = frames.HostFrame(slot, host.address)
    assert again.registers[frames.RAX] == 202
    assert again.registers[frames.RIP] == 0x1000
    host.set_result(-4)
    assert host.result == -4


@pytest.mark.parametrize("xsave", [True, False])
def test_the_guests_floating_point_state_keeps_the_hosts_layout(
    slot: SlotMemory, xsave: bool
) -> None:
    host = host_frame(slot, [0] * 23, bytes(FP_SIZE), xsave)
    assert host.fp_size == (FP_SIZE if xsave else 512)
    own = host.floating_point()[464:512]
    host.set_floating_point(b"\x77" * host.fp_size)
    got = host.floating_point()
    assert got[464:512] == own
    assert set(got[:464] + got[512:]) == {0x77}
    host.set_floating_point(b"\x11" * (host.fp_size - 1))
    assert host.floating_point() == got, "state of another size is refused"


def test_a_frame_outside_the_slot_is_refused(slot: SlotMemory) -> None:
    for address in (0, slot.address - 41, slot.address + SLOT_SIZE - 100, (1 << 64) - 1):
        with pytest.raises(ValueError, match="outside"):
            frames.HostFrame(slot, address)


def test_a_stack_pointer_near_zero_gives_a_bad_address_not_an_error(slot: SlotMemory) -> None:
    host = host_frame(slot, registers_with(16, [0] * 23), bytes(FP_SIZE))
    address, _ = frames.build(host, INFO, 0x1000, 0x2000, 16, False, (0, 2, 0), 0)
    assert 0 <= address < 1 << 64
    assert 0 <= host.registers[frames.RSP] < 1 << 64


# ------------------------------------------------------------------------------------- sigaltstack
def stack_task(slot: SlotMemory) -> Any:
    slot.q[Slot.REGS // 8 + 2] = 0x7000_0000
    abi, of = tables.load("x86_64"), isa.of("x86_64")
    return SimpleNamespace(slot=slot, alt_stack=(0, 2, 0), abi=abi, isa=of)


def stack(address: int, flags: int, size: int) -> bytes:
    return struct.pack("<QI4xQ", address, flags, size)


def test_sigaltstack(slot: SlotMemory) -> None:
    task = stack_task(slot)
    assert sigaltstack(task, stack(0x1000, 0, 4096), 0) == 0
    assert task.alt_stack == (0x1000, 0, 4096)
    assert sigaltstack(task, stack(0x1000, 0, 2047), 0) == -errno.ENOMEM
    assert sigaltstack(task, stack(0x1000, 4, 4096), 0) == -errno.EINVAL
    slot.q[Slot.REGS // 8 + 2] = 0x1000 + 4096
    assert sigaltstack(task, stack(0x9000, 0, 4096), 0) == -errno.EPERM
    slot.q[Slot.REGS // 8 + 2] = 0x1000  # empty: not on it
    assert sigaltstack(task, stack(0, 2, 0), 0) == 0
    assert task.alt_stack == (0, 2, 0)


def test_sigaltstack_with_autodisarm_can_be_read_back(slot: SlotMemory) -> None:
    task = stack_task(slot)
    assert sigaltstack(task, stack(0x1000, 1 << 31, 4096), 0) == 0
    reply: Any = sigaltstack(task, None, 0x5000)
    assert reply.data == stack(0x1000, 1 << 31, 4096)


def test_a_frame_shows_autodisarm(slot: SlotMemory) -> None:
    task = stack_task(slot)
    assert sigaltstack(task, stack(0x1000, 1 << 31, 4096), 0) == 0
    host = host_frame(slot, registers_with(0x7000_0000, [0] * 23), None)
    frames.build(host, INFO, 1, 2, 0x7000_0000, False, task.alt_stack, 0)
