"""arm64 signal frames: as structs say, as an emulator makes them, and there and back again."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tables
from codegen.layout import ALT_STACK, SLOT_SIZE, Reason, Slot, SlotArm64
from kernel.errors import LinuxError
from kernel.isa import arm64_frames as frames
from kernel.isa.frames import GuestFrame
from kernel.signals.delivery import _restorer
from kernel.signals.state import Action, Info
from kernel.slot import SlotMemory

TABLE = tables.load("arm64")
FRAME = TABLE.structs["rt_sigframe"]
FPSIMD = struct.Struct("<IIII512s")
SVE = struct.Struct("<IIHH4x")
U64 = st.integers(0, (1 << 64) - 1)
STACK = st.integers(1 << 20, (1 << 47) - 1)
INFO = Info(11, 1, 0, struct.pack("<Q", 0xBAD))
COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64-static"
USER_STATE = 0xF300_1C00  # NZCV, TCO, DIT, SSBS, BTYPE

# Prints the frame a handler is entered with, with marks in v3 and x21.
PROGRAM = """
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>
static char stack[65536] __attribute__((aligned(16)));
static void handler(int signal, siginfo_t *info, void *context) {
    (void)signal; (void)context;
    write(1, info, 4688 + 16);
}
int main(void) {
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaltstack(&alternate, 0);
    sigaction(SIGUSR1, &action, 0);
    pid_t pid = getpid();
    register long number asm("x8") = 129;
    register long who asm("x0") = pid;
    register long what asm("x1") = SIGUSR1;
    register long mark asm("x21") = 0x1122334455667788;
    asm volatile("movi v3.16b, #0x77\\n svc #0"
        : "+r"(who) : "r"(number), "r"(what), "r"(mark) : "v3", "memory");
    return 0;
}
"""


@pytest.fixture(scope="module")
def slot() -> Iterator[SlotMemory]:
    made = SlotMemory(1)
    made.reset()
    yield made
    made.close()


def record(magic: str, body: bytes) -> bytes:
    return struct.pack("<II", TABLE.constants[magic], 8 + len(body)) + body


def fpsimd(fill: int) -> bytes:
    return record("FPSIMD_MAGIC", struct.pack("<II", fill, fill + 1) + bytes([fill]) * 512)


def sve(fill: int, length: int = 32) -> bytes:
    rest = bytes([fill]) * (32 * length + 16 * 4 + 16)
    return record("SVE_MAGIC", struct.pack("<HH4x", length, 0) + rest)


def host_frame(slot: SlotMemory, registers: list[int], records: bytes) -> frames.HostFrame:
    """As the host makes it on the slot's alternate stack."""
    ucontext = slot.address + ALT_STACK + 0x4000
    data = bytearray(TABLE.structs["ucontext"].size)
    values: dict[str, int | bytes] = {
        "fault_address": 0xFA017, "sp": registers[31], "pc": registers[32],
        "pstate": registers[33], "__reserved": records,
    }  # fmt: skip
    named = {f"uc_mcontext.{name}": value for name, value in values.items()}
    TABLE.structs["ucontext"].pack_into(data, 0, **named)
    struct.pack_into("<31Q", data, 184, *registers[:31])
    slot.write(ucontext, bytes(data))
    return frames.HostFrame(slot, ucontext)


@given(
    values=st.lists(U64, min_size=34, max_size=34),
    sp=STACK.map(lambda n: n & -16),
    mask=U64,
    fill=st.integers(0, 254),
    switched=st.booleans(),
    alternate=st.tuples(STACK, st.sampled_from([0, 1, 2, 1 << 31]), st.integers(2048, 1 << 20)),
)
@settings(max_examples=60, deadline=None)
def test_a_frame_round_trip(
    slot: SlotMemory,
    values: list[int],
    sp: int,
    mask: int,
    fill: int,
    switched: bool,
    alternate: tuple[int, int, int],
) -> None:
    before = list(values)
    before[frames.SP] = sp
    records = record("ESR_MAGIC", bytes(8)) + fpsimd(fill) + sve(fill)
    host = host_frame(slot, before, records)
    address, data = frames.build(host, INFO, 0x40_1000, 0x40_2000, sp, switched, alternate, mask)
    # What the handler sees.
    now = host.registers
    assert now[:3] == [11, address, address + 128]
    assert (now[frames.PC], now[frames.LR], now[frames.SP]) == (0x40_1000, 0x40_2000, address)
    assert address % 16 == 0
    assert address + len(data) == sp, "arm64 has no red zone"
    at = now[frames.FP] - address
    assert struct.unpack_from("<QQ", data, at) == (before[29], before[30]), "a frame record"
    assert data[:128] == INFO.pack()
    shown = FRAME.unpack(data)
    assert shown["uc.uc_mcontext.fault_address"] == 0xFA017
    assert shown["uc.uc_mcontext.regs"] == tuple(before[:31])
    assert shown["uc.uc_mcontext.pc"] == before[frames.PC]
    assert shown["uc.uc_mcontext.pstate"] == before[frames.PSTATE]
    # What rt_sigreturn reads.
    guest = frames.parse(data[: frames.READ_SIZE])
    assert (guest.registers, guest.mask, guest.alt_stack) == (before, mask, alternate)
    # The handler has used the registers; sigreturn brings them back.
    host = host_frame(slot, [0] * 31 + [address, 0, 0], fpsimd(255) + sve(255))
    frames.load(host, guest)
    assert host.registers[: frames.PSTATE] == before[: frames.PSTATE]
    at = guest.fp_address - address
    host.set_floating_point(data[at : at + host.fp_size])
    assert host.records().startswith(fpsimd(fill) + sve(fill))


@given(U64, U64)
def test_sigreturn_changes_only_the_users_state(host_state: int, guest_state: int) -> None:
    host: Any = SimpleNamespace(registers=[0] * 33 + [host_state])
    frames.load(host, GuestFrame([1] * 33 + [guest_state], 0, 0, (0, 0, 0)))
    state = host.registers[frames.PSTATE]
    assert state & USER_STATE == guest_state & USER_STATE
    assert state & ~USER_STATE == host_state & ~USER_STATE


@pytest.mark.parametrize("reason", [Reason.INTERRUPTED, Reason.AFTER])
def test_a_restarted_call_has_its_first_argument_again(slot: SlotMemory, reason: int) -> None:
    slot.q[Slot.REASON // 8] = reason
    slot.q[SlotArm64.FIRST_ARGUMENT // 8] = 7 if reason == Reason.INTERRUPTED else 1
    slot.q[SlotArm64.XREGS // 8] = 7 if reason == Reason.AFTER else 1
    host = host_frame(slot, [*range(100, 134)], fpsimd(0))
    host.set_result(-4)
    assert host.result == -4
    assert host.arguments == [7, 101, 102, 103, 104, 105]
    host.restart(63)
    host.save()
    again = frames.HostFrame(slot, host.address)
    assert (again.registers[0], again.registers[8], again.registers[frames.PC]) == (7, 63, 128)
    assert (again.stack_pointer, again.instruction_pointer) == (131, 128)
    again.set_number(5)
    assert again.registers[8] == 5


def test_unknown_records_stay_the_hosts(slot: SlotMemory) -> None:
    za = b"ZA!!" + struct.pack("<I", 32) + b"z" * 24
    host = host_frame(slot, [0] * 34, za + fpsimd(1))
    assert b"ZA!!" not in host.floating_point()
    host.set_floating_point(fpsimd(2) + sve(3))
    assert host.records().startswith(za + fpsimd(2) + bytes(16))


def test_the_vector_registers_are_the_low_part_of_sves(slot: SlotMemory) -> None:
    host = host_frame(slot, [0] * 34, fpsimd(1) + sve(1))
    host.set_floating_point(fpsimd(2) + sve(9))
    z = host.records()[len(fpsimd(1)) + 16 :]
    assert z[:64] == (b"\2" * 16 + b"\x09" * 16) * 2
    host.set_floating_point(fpsimd(4) + sve(5, 64))
    z = host.records()[len(fpsimd(1)) + 16 :]
    assert z[:64] == (b"\4" * 16 + b"\x09" * 16) * 2, "of another length: not taken"


@pytest.mark.parametrize("records", [b"", sve(1), b"\xff" * 64])
def test_a_frame_without_vector_registers_is_refused(slot: SlotMemory, records: bytes) -> None:
    host = host_frame(slot, [0] * 34, fpsimd(1))
    with pytest.raises(LinuxError):
        host.set_floating_point(records.ljust(host.fp_size, b"\0"))
    assert host.records().startswith(fpsimd(1))


def test_a_frame_outside_the_slot_is_refused(slot: SlotMemory) -> None:
    for address in (0, slot.address - 8, slot.address + SLOT_SIZE - 4559, 1 << 63):
        with pytest.raises(ValueError, match="outside"):
            frames.HostFrame(slot, address)


@pytest.mark.parametrize(
    ("flags", "symbols", "expected"),
    [
        (0x0400_0000, {"guest_sigreturn": 9}, 5),
        (0, {"guest_sigreturn": 9}, 9),
        (0, {}, 5),
    ],
)
def test_where_a_handler_returns_to(flags: int, symbols: dict[str, int], expected: int) -> None:
    stub = SimpleNamespace(symbols=symbols)
    task: Any = SimpleNamespace(process=SimpleNamespace(container=SimpleNamespace(stub=stub)))
    assert _restorer(task, Action(1, flags, 5)) == expected


@pytest.fixture(scope="module")
def real_frame(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A frame as the emulator lays it on an alternate stack, with the frame record above it."""
    if not shutil.which(COMPILER) or not shutil.which(EMULATOR):
        pytest.skip("needs a cross compiler and an emulator")
    directory: Path = tmp_path_factory.mktemp("frame")
    (directory / "frame.c").write_text(PROGRAM)
    command = [COMPILER, "-O1", "-static", "-o", "frame", "frame.c"]
    subprocess.run(command, cwd=directory, check=True, timeout=60)
    done = subprocess.run(
        [EMULATOR, "./frame"],
        cwd=directory, check=True, timeout=60, capture_output=True,
    )  # fmt: skip
    return done.stdout


def test_an_emulators_frame_is_understood(slot: SlotMemory, real_frame: bytes) -> None:
    at = slot.address + ALT_STACK + 0x4000
    slot.write(at, real_frame)
    host = frames.HostFrame(slot, at + 128)
    assert host.registers[21] == 0x1122334455667788
    assert host.registers[8] == TABLE.numbers["kill"]
    assert host.result == 0
    assert struct.unpack_from("<i", real_frame)[0] == 10
    state = host.floating_point()
    magic, size, *_, vectors = FPSIMD.unpack_from(state)
    assert (magic, size) == (TABLE.constants["FPSIMD_MAGIC"], FPSIMD.size)
    assert vectors[3 * 16 : 4 * 16] == b"\x77" * 16
    assert struct.unpack_from("<QQ", real_frame, FRAME.size) == tuple(host.registers[29:31])


def test_an_emulators_frame_is_ours(slot: SlotMemory, real_frame: bytes) -> None:
    """Built from the same state, our frame is the emulator's, but for records we do not show."""
    at = slot.address + ALT_STACK + 0x4000
    slot.write(at, real_frame)
    host = frames.HostFrame(slot, at + 128)
    shown = FRAME.unpack(real_frame)
    stack = tuple(shown[f"uc.uc_stack.ss_{name}"] for name in ("sp", "flags", "size"))
    info = Info(10, struct.unpack_from("<i", real_frame, 8)[0], 0, real_frame[16:128])
    _, data = frames.build(host, info, 0, 0, 1 << 40, True, stack, shown["uc.uc_sigmask"])
    ours = len(host.floating_point().rstrip(b"\0")) & -16
    records = FRAME.fields["uc.uc_mcontext.__reserved"]
    assert data[: records.offset + ours] == real_frame[: records.offset + ours]
    assert data[records.end :] == real_frame[records.end :]
    assert not any(data[records.offset + ours + 16 : records.end])
