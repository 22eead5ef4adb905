"""The arm64 stub for a host that keeps x18: the register changes before every instruction.

To these tests x18 is the guest's, which lies in its slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from codegen import x18
from codegen.layout import SlotArm64, Trampoline
from codegen.variant import Variant
from tests.codegen.arm64_machine import TRAMPOLINE, MachineArm64, branch, trampoline
from tests.codegen.stub_machine import SITE, unicorn

GARBAGE = 0xBAD0_BAD0_BAD0_BAD0
X18_SITE, X18_TRAMPOLINE = SITE + 0x200, TRAMPOLINE + 0x200
BODY = X18_TRAMPOLINE + Trampoline.SIZE


class MachineVariant(MachineArm64):
    """One thread under such a host. Its pages are the guest's, or the kernel would see to them."""

    variant: ClassVar[Variant] = Variant(reserved_x18=True)

    def __init__(self) -> None:
        super().__init__()
        self.set(SlotArm64.RESERVED_X18, 1)
        self.uc.hook_add(unicorn.UC_HOOK_CODE, self._take)

    def _take(self, uc: Any, _address: int, _size: int, _data: object) -> None:
        uc.reg_write(self.REGISTERS["x18"], GARBAGE)

    def register(self, name: str) -> int:
        return self.get(SlotArm64.X18) if name == "x18" else super().register(name)

    def load(self, registers: Mapping[str, int]) -> None:
        super().load({name: n for name, n in registers.items() if name != "x18"})
        if "x18" in registers:
            self.set(SlotArm64.X18, registers["x18"])

    def signal(self, number: int, code: int = 1) -> None:
        super().signal(number, code)
        self.frame_set("x18", GARBAGE)

    def _restore(self) -> None:
        kept = self.register("x18")
        super()._restore()
        self.set(SlotArm64.X18, kept)

    # -- instructions with x18 ---------------------------------------------------------------------

    def put(self, word: int) -> None:
        """An instruction with x18 stands at X18_SITE, patched."""
        made = trampoline(X18_TRAMPOLINE, X18_SITE, self.address("use_x18"))
        back = X18_TRAMPOLINE + Trampoline.BACK
        made = made[: Trampoline.BACK] + branch(back, BODY) + made[Trampoline.BACK + 4 :]
        self.write(X18_SITE, branch(X18_SITE, X18_TRAMPOLINE))
        self.write(X18_TRAMPOLINE, made)
        self.write(BODY, x18.body(word, X18_SITE - SITE, BODY - SITE))

    def use_x18(self, before: Mapping[str, int], end: int = X18_SITE + 4) -> None:
        """Run that instruction, up to `end`."""
        self.guest_sp = before["sp"]
        self.load(before)
        self.enter(X18_SITE, end)
