"""arm64."""

from kernel.fs.metadata import to_arm64
from kernel.isa import Isa

ISA = Isa(
    name="arm64",
    elf_machine=183,
    uname=b"aarch64",
    uname_compat=b"armv8l",
    stat=to_arm64,
    frames=None,
)
