"""What the kernel runs of this text where the host's CPU is of this instruction set too.

Stores of such a CPU are seen in any order by others, and Python has no instruction that orders them
(codegen.layout: the guest reads an answer once STATE says that it is there). Both are called as C
functions.
"""

from __future__ import annotations

from codegen.asm.arm64 import at, x0, x1, x2
from codegen.templates.arm64.common import Stub


def ordering(s: Stub) -> None:
    """publish: *(u32 *)x0 = w1 behind all stores before it; then, and not before, w0 = *(u32 *)x2.

    fence: nothing is moved across it.
    """
    a = s.a
    s.bind("publish")
    a.stlr(x1.w, at(x0))
    a.dmb("ish")
    a.ldr(x0.w, at(x2))
    a.ret()
    s.bind("fence")
    a.dmb("ish")
    a.ret()
