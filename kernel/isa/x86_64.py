"""x86_64."""

from codegen.layout import REGISTER_ORDER_X86_64, Slot
from kernel.isa import Isa, canonical
from kernel.isa.x86_64_frames import FRAMES

ISA = Isa(
    name="x86_64",
    elf_machine=62,
    uname=b"x86_64",
    uname_compat=b"i686",
    program_base=0x5555_5555_4000,  # two thirds of the address space (ELF_ET_DYN_BASE)
    stat=canonical,
    host_stat=canonical,
    frames=FRAMES,
    saved_registers=((Slot.REGS, len(REGISTER_ORDER_X86_64) * 8),),
    saved_sp=Slot.REGS + REGISTER_ORDER_X86_64.index("rsp") * 8,
)
