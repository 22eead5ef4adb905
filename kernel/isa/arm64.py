"""arm64."""

from codegen.layout import SlotArm64
from kernel.fs.metadata import from_arm64, to_arm64
from kernel.isa import Isa
from kernel.isa.arm64_cpu import cpuinfo
from kernel.isa.arm64_frames import FRAMES

ISA = Isa(
    name="arm64",
    elf_machine=183,
    uname=b"aarch64",
    uname_compat=b"armv8l",
    # A third of the 47-bit address space that emulated guests have, far from the emulator itself,
    # which the host loads at two thirds of it.
    program_base=0x2AAA_AAAA_A000,
    stat=to_arm64,
    host_stat=from_arm64,
    frames=FRAMES,
    saved_registers=(
        (SlotArm64.SAVED_X17, SlotArm64.RETURN + 8 - SlotArm64.SAVED_X17),
        (SlotArm64.XREGS, SlotArm64.NZCV + 8 - SlotArm64.XREGS),
    ),
    saved_sp=SlotArm64.XREGS + 31 * 8,
    way_back=SlotArm64.RETURN,
    scanned=True,
    weakly_ordered=True,
    kernel_pid=SlotArm64.KERNEL_PID,
    inherited=(SlotArm64.X18,),
    cpuinfo=cpuinfo,
)
