"""arm64 signal frames: the host's, edited in place, and the guest's, built on its stack.

Layouts: asm/sigcontext.h, asm/ucontext.h and arch/arm64/kernel/signal.c. struct rt_sigframe is
{ siginfo (128), ucontext }, the record { fp, lr } of the interrupted code lies above it. A ucontext
ends in 4096 bytes of records { magic, size, ... }; one without a magic ends them.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

from codegen.layout import Reason, Slot, SlotArm64
from kernel.errors import LinuxError
from kernel.isa.frames import Frames, GuestFrame
from kernel.signals.state import Info
from kernel.slot import SlotMemory
from tables import load as load_tables

_TABLE = load_tables("arm64")
_FRAME, _UCONTEXT = _TABLE.structs["rt_sigframe"], _TABLE.structs["ucontext"]
_FPSIMD = _TABLE.structs["fpsimd_context"]
_UC = _FRAME.fields["uc.uc_flags"].offset  # where the ucontext lies in a frame

_REGISTERS = struct.Struct("<34Q")  # regs[31], sp, pc, pstate
_REGISTERS_AT = _UCONTEXT.fields["uc_mcontext.regs"].offset
_FAULT_ADDRESS_AT = _UCONTEXT.fields["uc_mcontext.fault_address"].offset
_RECORDS = _UCONTEXT.fields["uc_mcontext.__reserved"]
X8, X18, FP, LR, SP, PC, PSTATE = 8, 18, 29, 30, 31, 32, 33
READ_SIZE = _UC + _RECORDS.offset  # all but the records, which are the floating-point state

_HEAD = struct.Struct("<II")  # struct _aarch64_ctx: magic, size
_FPSIMD_MAGIC, _ESR_MAGIC, _SVE_MAGIC = (
    _TABLE.constants[name] for name in ("FPSIMD_MAGIC", "ESR_MAGIC", "SVE_MAGIC")
)
_VECTORS_AT, _VECTOR_COUNT = _FPSIMD.fields["vregs"].offset, 32
_VECTOR_SIZE = 16
_SVE_HEADER_SIZE = _TABLE.structs["sve_context"].size  # the Z registers follow
_FRAME_RECORD_SIZE = 16
_ALIGNMENT = 16

_PSR = {
    name: _TABLE.constants[f"PSR_{name}"]
    for name in ("N_BIT", "Z_BIT", "C_BIT", "V_BIT", "TCO_BIT", "DIT_BIT", "SSBS_BIT", "BTYPE_MASK")
}
_USER_STATE = sum(_PSR.values())  # what sigreturn may change
_CLEARED = _PSR["BTYPE_MASK"] | _PSR["TCO_BIT"]  # clear in a handler
_MASK64 = (1 << 64) - 1


def _records(data: bytes | bytearray) -> dict[int, tuple[int, int]]:
    """(offset, size) of each record by its magic, up to the first one that makes no sense."""
    found = {}
    at = 0
    while at + _HEAD.size <= len(data):
        magic, size = _HEAD.unpack_from(data, at)
        if not magic or size < _HEAD.size or size % _ALIGNMENT or at + size > len(data):
            break
        found[magic] = (at, size)
        at += size
    return found


@dataclass
class HostFrame:
    """The ucontext the host made on the alternate stack of a slot."""

    slot: SlotMemory
    address: int

    def __post_init__(self) -> None:
        context = self.slot.read(self.address, _UCONTEXT.size)  # all of it is within the slot
        self.registers: list[int] = list(_REGISTERS.unpack_from(context, _REGISTERS_AT))
        self._reserved = bool(self.slot.q[SlotArm64.RESERVED_X18 // 8])
        if self._reserved:  # the host's is nobody's
            self.registers[X18] = self.slot.q[SlotArm64.X18 // 8]
        (self.fault_address,) = struct.unpack_from("<Q", context, _FAULT_ADDRESS_AT)

    def save(self) -> None:
        """Write the registers back: the handler's return loads them."""
        registers = self.registers
        if self._reserved:
            self.slot.q[SlotArm64.X18 // 8] = registers[X18]
            registers = [*registers[:X18], 0, *registers[X18 + 1 :]]
        self.slot.write(self.address + _REGISTERS_AT, _REGISTERS.pack(*registers))

    def records(self) -> bytes:
        """The area of the records."""
        return self.slot.read(self.address + _RECORDS.offset, _RECORDS.count)

    @property
    def fp_size(self) -> int:
        """Bytes of floating-point state in a frame: records of any kind."""
        return _RECORDS.count

    def floating_point(self) -> bytes:
        """The interrupted code's records that a guest's frame has too, and their end."""
        data = self.records()
        known = _records(data)
        kept = b""
        for magic in (_FPSIMD_MAGIC, _ESR_MAGIC, _SVE_MAGIC):
            at, size = known.get(magic, (0, 0))
            kept += data[at : at + size]
        return kept.ljust(_RECORDS.count, b"\0")[: _RECORDS.count]

    def set_floating_point(self, data: bytes) -> None:
        """Take the guest's vector registers; all other records stay as the host made them.

        SVE's registers are taken if they are as long as the host's. The first 16 bytes of each are
        FPSIMD's in any case (restore_sve_fpsimd_context). LinuxError: no FPSIMD record.
        """
        area = bytearray(self.records())
        own, guest = _records(area), _records(data)
        if guest.get(_FPSIMD_MAGIC, (0, 0))[1] != _FPSIMD.size:
            raise LinuxError(errno.EFAULT)
        for magic in (_FPSIMD_MAGIC, _SVE_MAGIC):
            to, size = own.get(magic, (0, 0))
            at, guest_size = guest.get(magic, (0, 0))
            header = _SVE_HEADER_SIZE if magic == _SVE_MAGIC else _HEAD.size
            same = data[at : at + header] == area[to : to + header]
            if size and guest_size == size and same:
                area[to + header : to + size] = data[at + header : at + size]
        at = guest[_FPSIMD_MAGIC][0] + _VECTORS_AT
        vectors = data[at : at + _VECTOR_COUNT * _VECTOR_SIZE]
        to, size = own.get(_SVE_MAGIC, (0, 0))
        if size > _SVE_HEADER_SIZE:
            (length,) = struct.unpack_from("<H", area, to + _HEAD.size)
            for i in range(_VECTOR_COUNT):
                z = to + _SVE_HEADER_SIZE + i * length
                if z + _VECTOR_SIZE <= to + size:
                    area[z : z + _VECTOR_SIZE] = vectors[i * _VECTOR_SIZE :][:_VECTOR_SIZE]
        self.slot.write(self.address + _RECORDS.offset, bytes(area))

    @property
    def stack_pointer(self) -> int:
        """The interrupted code's."""
        return self.registers[SP]

    @property
    def instruction_pointer(self) -> int:
        """The interrupted code's."""
        return self.registers[PC]

    def _first_argument(self) -> int:
        """The call's, whose register the result has taken: the stub has kept it.

        A native call's in FIRST_ARGUMENT, a posted one's among the registers saved for it.
        """
        q = self.slot.q
        if q[Slot.REASON // 8] == Reason.AFTER:
            return q[SlotArm64.XREGS // 8]
        return q[SlotArm64.FIRST_ARGUMENT // 8]

    @property
    def arguments(self) -> list[int]:
        """The six arguments of the interrupted call."""
        return [self._first_argument(), *self.registers[1:6]]

    @property
    def result(self) -> int:
        """What the interrupted call answers, as a signed number."""
        value: int = self.registers[0]
        return value - (1 << 64) if value >> 63 else value

    def set_result(self, value: int) -> None:
        """What the interrupted call answers."""
        self.registers[0] = value & _MASK64

    def set_number(self, number: int) -> None:
        """The call that is about to be made."""
        self.registers[X8] = number

    def restart(self, number: int) -> None:
        """Run the interrupted `svc` instruction again."""
        self.registers[0] = self._first_argument()
        self.registers[X8] = number
        self.registers[PC] -= 4


def build(
    host: HostFrame,
    info: Info,
    handler: int,
    restorer: int,
    top: int,
    on_alternate: bool,  # noqa: ARG001 - there is no red zone to spare
    alt_stack: tuple[int, int, int],
    mask: int,
) -> tuple[int, bytes]:
    """The guest's frame below `top` and, in `host`, the registers to enter the handler with.

    Returns (address, bytes) to copy to the guest; the caller saves `host` once that is certain.
    """
    registers = host.registers
    record = (top - _FRAME_RECORD_SIZE) & -_ALIGNMENT
    frame = record - _FRAME.size
    data = bytearray(_FRAME.size)
    info_bytes = info.pack()
    data[: len(info_bytes)] = info_bytes
    _UCONTEXT.pack_into(
        data,
        _UC,
        **{
            "uc_stack.ss_sp": alt_stack[0],
            "uc_stack.ss_flags": (alt_stack[1] & 0x7FFF_FFFF) - (alt_stack[1] & 0x8000_0000),
            "uc_stack.ss_size": alt_stack[2],
            "uc_sigmask": mask,
            "uc_mcontext.fault_address": host.fault_address,
            "uc_mcontext.__reserved": host.floating_point(),
        },
    )
    _REGISTERS.pack_into(data, _UC + _REGISTERS_AT, *registers)
    data += struct.pack("<QQ", registers[FP], registers[LR])
    frame &= _MASK64
    registers[0], registers[1], registers[2] = info.signal, frame, frame + _UC
    registers[FP], registers[LR] = record & _MASK64, restorer
    registers[SP], registers[PC] = frame, handler
    registers[PSTATE] &= ~_CLEARED
    return frame, bytes(data)


def parse(data: bytes) -> GuestFrame:
    """Read a frame the guest may have edited, up to its records."""
    registers = list(_REGISTERS.unpack_from(data, _UC + _REGISTERS_AT))
    sp, flags, size, mask = (
        _FRAME.get(data, f"uc.{name}")
        for name in ("uc_stack.ss_sp", "uc_stack.ss_flags", "uc_stack.ss_size", "uc_sigmask")
    )
    return GuestFrame(registers, mask, 0, (sp, flags & 0xFFFF_FFFF, size))


def load(host: HostFrame, guest: GuestFrame) -> None:
    """Continue with the guest frame's registers; the system's part of PSTATE stays the host's."""
    state = host.registers[PSTATE]
    # The records lie behind what `parse` saw, at the stack pointer that rt_sigreturn has.
    guest.fp_address = host.registers[SP] + READ_SIZE
    host.registers[:PSTATE] = guest.registers[:PSTATE]
    host.registers[PSTATE] = (guest.registers[PSTATE] & _USER_STATE) | (state & ~_USER_STATE)


FRAMES = Frames(HostFrame, build, parse, load, READ_SIZE)
