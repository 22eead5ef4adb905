"""x86_64."""

from kernel.isa import Isa
from kernel.isa.x86_64_frames import FRAMES

ISA = Isa(
    name="x86_64",
    elf_machine=62,
    uname=b"x86_64",
    uname_compat=b"i686",
    stat=lambda packed: packed,  # the canonical attributes are this layout
    frames=FRAMES,
)
