"""The arm64 stub, assembled from its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codegen.asm.arm64 import AsmArm64
from codegen.asm.assembler import Memo
from codegen.layout import PAGE, STUB_BASE
from codegen.templates import tables
from codegen.templates.arm64 import (
    boot,
    clone,
    descriptors,
    entry,
    ordering,
    post,
    program,
    signals,
    threads,
)
from codegen.templates.arm64.common import Stub
from codegen.templates.rows import Row
from codegen.variant import ORDINARY, Variant

TEXT_START = STUB_BASE + PAGE  # the first page holds the ELF header


def build(
    numbers: Mapping[str, int], rows: Sequence[Row], memo: Memo, variant: Variant = ORDINARY
) -> Stub:
    """The whole stub, laid out at TEXT_START; `finish()` of its assembler gives the bytes."""
    s = Stub(AsmArm64(TEXT_START, memo), variant)
    s.a.place(s["guest_sigreturn"], signals.GUEST_SIGRETURN)
    s.a.place(s["thread_table"], threads.TABLE)
    entry.dispatch(s)
    entry.native(s)
    entry.guards(s)
    entry.newfstatat(s)
    entry.wait4(s, numbers["wait4"])
    entry.identities(s)
    entry.set_tid_address(s)
    entry.set_robust_list(s)
    entry.exits(s, numbers["exit_group"])
    threads.set_tls(s)
    if variant.reserved_x18:
        threads.use_x18(s)
    threads.misses(s)
    threads.keys(s)
    post.copy(s)
    post.slow(s)
    post.waiting(s)
    program.interpreter(s)
    program.host_calls(s)
    program.memory(s)
    descriptors.receiving(s)
    descriptors.sending(s)
    clone.clone(s)
    program.enter(s)
    signals.traps(s)
    signals.handler(s)
    boot.boot(s)
    ordering.ordering(s)
    s.bind("empty_string")
    s.a.set_bytes(bytes(8), '.asciz ""')
    tables.emit(s, numbers, rows, b"\0", variant)
    return s
