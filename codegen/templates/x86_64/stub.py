"""The x86_64 stub, assembled from its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codegen.asm.assembler import Memo
from codegen.asm.x86_64 import AsmX86
from codegen.layout import PAGE, STUB_BASE
from codegen.templates import tables
from codegen.templates.x86_64 import boot, entry, post, program, signals
from codegen.templates.x86_64.common import Stub
from codegen.variant import ORDINARY, Variant

TEXT_START = STUB_BASE + PAGE  # the first page holds the ELF header


def build(
    numbers: Mapping[str, int],
    rows: Sequence[post.Row],
    memo: Memo,
    variant: Variant = ORDINARY,
) -> Stub:
    """The whole stub, laid out at TEXT_START; `finish()` of its assembler gives the bytes."""
    s = Stub(AsmX86(TEXT_START, memo))
    entry.dispatch(s)
    entry.native(s)
    entry.guards(s)
    entry.newfstatat(s)
    entry.wait4(s, numbers["wait4"])
    entry.identities(s)
    entry.set_tid_address(s)
    entry.set_robust_list(s)
    entry.exits(s, numbers["exit_group"])
    post.slow(s)
    post.waiting(s)
    program.interpreter(s)
    program.host_calls(s)
    program.memory(s)
    program.descriptors(s)
    program.clone(s)
    program.enter(s)
    signals.traps(s)
    signals.handler(s)
    boot.boot(s)
    s.bind("empty_string")
    s.a.set_bytes(bytes(8), '.asciz ""')
    tables.emit(s, numbers, rows, b"\xcc", variant)
    return s
