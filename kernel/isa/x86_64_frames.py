"""x86_64 signal frames: the host's, edited in place, and the guest's, built on its stack.

Layouts: asm/sigcontext.h, asm/ucontext.h and struct rt_sigframe of arch/x86/include/asm/sigframe.h:
{ pretcode, ucontext (304 bytes), siginfo (128) }, with the XSAVE area 64-byte aligned above it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from kernel.isa.frames import Frames, GuestFrame
from kernel.signals.state import Info
from kernel.slot import SlotMemory

_GREGS = struct.Struct("<23Q")
_GREGS_OFFSET = 40
(
    R8, R9, R10, R11, R12, R13, R14, R15, RDI, RSI, RBP, RBX, RDX, RAX, RCX, RSP, RIP, EFLAGS,
    SEGMENTS, ERR, TRAPNO, OLDMASK, CR2,
) = range(23)  # fmt: skip
_FPSTATE_POINTER = 224  # offset of mcontext.fpstate in ucontext
_UCONTEXT_SIZE, _SIGINFO_SIZE = 304, 128
FRAME_READ_SIZE = _UCONTEXT_SIZE
_FP_SW_OFFSET, _FP_MAGIC1, _FXSAVE_SIZE = 464, 0x4650_5853, 512
_RED_ZONE = 128
_MASK64 = (1 << 64) - 1
_USER_FLAGS = 0x0024_0DD5  # arithmetic flags, TF, DF, OF, RF, AC, ID: what sigreturn may change
_CLEARED = 0x400 | 0x100 | 0x1_0000  # DF, TF, RF are clear in a handler
_UC_FLAGS = 0x1 | 0x2 | 0x4  # UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS


@dataclass
class HostFrame:
    """The ucontext the host made on the alternate stack of a slot."""

    slot: SlotMemory
    address: int

    def __post_init__(self) -> None:
        raw = self.slot.read(self.address + _GREGS_OFFSET, _GREGS.size)
        self.registers: list[int] = list(_GREGS.unpack(raw))

    def save(self) -> None:
        """Write the registers back: the handler's return loads them."""
        self.slot.write(self.address + _GREGS_OFFSET, _GREGS.pack(*self.registers))

    def _fp(self) -> tuple[int, int]:
        """Guest address and size of the host's floating-point state."""
        (pointer,) = struct.unpack("<Q", self.slot.read(self.address + _FPSTATE_POINTER, 8))
        if not pointer:
            return 0, 0
        magic, size = struct.unpack("<II", self.slot.read(pointer + _FP_SW_OFFSET, 8))
        return pointer, size if magic == _FP_MAGIC1 else _FXSAVE_SIZE

    @property
    def fp_size(self) -> int:
        """Bytes of floating-point state in a frame on this host."""
        return self._fp()[1]

    def floating_point(self) -> bytes:
        """The interrupted code's floating-point state."""
        pointer, size = self._fp()
        return self.slot.read(pointer, size) if pointer else b""

    def set_floating_point(self, data: bytes) -> None:
        """Take the guest's state, but keep the host's own description of its layout."""
        pointer, size = self._fp()
        if pointer and len(data) == size:
            own = self.slot.read(pointer, _FXSAVE_SIZE)
            self.slot.write(
                pointer, data[:_FP_SW_OFFSET] + own[_FP_SW_OFFSET:] + data[_FXSAVE_SIZE:]
            )

    @property
    def stack_pointer(self) -> int:
        """The interrupted code's."""
        return self.registers[RSP]

    @property
    def instruction_pointer(self) -> int:
        """The interrupted code's."""
        return self.registers[RIP]

    @property
    def arguments(self) -> list[int]:
        """The six arguments of the interrupted call."""
        return [self.registers[register] for register in (RDI, RSI, RDX, R10, R8, R9)]

    @property
    def result(self) -> int:
        """What the interrupted call answers, as a signed number."""
        value: int = self.registers[RAX]
        return value - (1 << 64) if value >> 63 else value

    def set_result(self, value: int) -> None:
        """What the interrupted call answers."""
        self.registers[RAX] = value & ((1 << 64) - 1)

    def set_number(self, number: int) -> None:
        """The call that is about to be made."""
        self.registers[RAX] = number

    def restart(self, number: int) -> None:
        """Run the interrupted `syscall` instruction again."""
        self.registers[RAX] = number
        self.registers[RIP] -= 2


def build(
    host: HostFrame,
    info: Info,
    handler: int,
    restorer: int,
    top: int,
    on_alternate: bool,
    alt_stack: tuple[int, int, int],
    mask: int,
) -> tuple[int, bytes]:
    """The guest's frame below `top` and, in `host`, the registers to enter the handler with.

    Returns (address, bytes) to copy to the guest; the caller saves `host` once that is certain.
    """
    fp = host.floating_point()
    sp = top if on_alternate else top - _RED_ZONE
    fp_address = (sp - len(fp)) & ~63
    frame = fp_address - (8 + _UCONTEXT_SIZE + _SIGINFO_SIZE)
    frame = ((frame & ~15) - 8) & _MASK64
    fp_address &= _MASK64
    registers = list(host.registers)
    mcontext = _GREGS.pack(*registers) + struct.pack("<Q", fp_address if fp else 0) + bytes(64)
    uc = struct.pack("<QQQI4xQ", _UC_FLAGS, 0, alt_stack[0], alt_stack[1], alt_stack[2])
    uc += mcontext + struct.pack("<Q", mask)
    data = struct.pack("<Q", restorer) + uc + info.pack()
    data = data.ljust(fp_address - frame, b"\0") + fp
    host.registers[RSP] = frame
    host.registers[RIP] = handler
    host.registers[RDI] = info.signal
    host.registers[RSI] = frame + 8 + _UCONTEXT_SIZE
    host.registers[RDX] = frame + 8
    host.registers[RAX] = 0
    host.registers[EFLAGS] &= ~_CLEARED
    return frame, data


def parse(data: bytes) -> GuestFrame:
    """Read a ucontext the guest may have edited."""
    _, _, sp, flags, size = struct.unpack_from("<QQQI4xQ", data)
    registers = list(_GREGS.unpack_from(data, _GREGS_OFFSET))
    (fp_address,) = struct.unpack_from("<Q", data, _FPSTATE_POINTER)
    (mask,) = struct.unpack_from("<Q", data, _UCONTEXT_SIZE - 8)
    return GuestFrame(registers, mask, fp_address, (sp, flags, size))


def load(host: HostFrame, guest: GuestFrame) -> None:
    """Continue with the guest frame's registers; segments and system flags stay the host's."""
    flags, segments = host.registers[EFLAGS], host.registers[SEGMENTS]
    host.registers[:SEGMENTS] = guest.registers[:SEGMENTS]
    host.registers[EFLAGS] = (guest.registers[EFLAGS] & _USER_FLAGS) | (flags & ~_USER_FLAGS)
    host.registers[SEGMENTS] = segments


FRAMES = Frames(HostFrame, build, parse, load, FRAME_READ_SIZE)
