"""Each tactic: when it is taken, what it writes, and that the program cannot tell."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codegen import patch
from codegen.asm.decode import sweep
from codegen.layout import TRAMPOLINE_SIZE, TRAMPOLINES
from codegen.patch import Patch, Patcher, Plan
from codegen.patch_elf import Image, read_image
from tests.codegen.elf import assemble, elf
from tests.codegen.machine import Machine

GOLDEN = Path(__file__).parent / "golden" / "x86_64"
START = {
    "rdi": 7,
    "rsi": 0x7D00_0000_0100,
    "rdx": 3,
    "rbx": 0x1111,
    "r8": 8,
    "r12": 0x7D00_0000_0040,
}


def image_of(text: str, *, described: bool = True, landing_pads: bool = False, data: bytes = b"",
             fixed: bool = False) -> Image:  # fmt: skip
    code = assemble(text)
    functions = [(0, len(code))] if described else []
    image = read_image(elf(code, functions, landing_pads=landing_pads, data=data, fixed=fixed))
    assert image is not None
    return image


def plan_of(text: str, **how: bool) -> tuple[Image, Plan]:
    image = image_of(text, **how)  # type: ignore[arg-type]
    return image, Patcher(image).plan()


def tactics(text: str, **how: bool) -> list[str]:
    return [p.tactic for p in plan_of(text, **how)[1].patches]


def slots(plan: Plan, first: int = 5) -> dict[int, Patch]:
    """Patches by slot; the first ones are not slot 0, so that a missing slot number shows."""
    return dict(enumerate(plan.patches, first))


def same_behaviour(image: Image, plan: Plan, *starts: int) -> None:
    """Runs from each start see the same system calls, registers and memory."""
    patched = patch.apply(image, slots(plan))
    for start in starts or (0,):
        before = Machine(image.text).run(start, START)
        after = Machine(patched, slots(plan)).run(start, START)
        assert before.calls, "the run reaches no system call"
        assert (after.calls, after.end, after.memory) == (before.calls, before.end, before.memory)


A_CALL = "push rbx; mov edi, 1; mov eax, 39; syscall; add rax, 5; pop rbx; ret"
CASES = {
    "A": A_CALL,
    "D1": "xor edi, edi; mov eax, 12; mov rsi, [rsp-0x1000+0xff8]; syscall; ret",
    "D1-long": "mov eax, 39; mov r10, [r12+0x20]; movabs rdx, 0x1234567812345678; syscall; ret",
    "D": "mov eax, 39; cmp rdi, 7; mov edx, 1; sete dl; and esi, 0x80; mov rdi, rbx; syscall; ret",
}  # fmt: skip


def padded(before: str, pads: dict[int, int]) -> str:
    """`before`, then dead padding: at each offset a `ret` and NOPs up to the given size."""
    nops = {2: "0x66,0x90", 5: "0x0f,0x1f,0x44,0,0", 9: "0x66,0x0f,0x1f,0x84,0,0,0,0,0",
            6: "0x66,0x0f,0x1f,0x44,0,0", 8: "0x0f,0x1f,0x84,0,0,0,0,0"}  # fmt: skip
    code, at = [before], len(assemble(before))
    for offset, size in pads.items():
        fill = offset - 1 - at
        assert fill >= 0
        code.append("; ".join(["xchg rbx, rbx"] * (fill // 3) + ["cld"] * (fill % 3)))
        code += ["ret", f".byte {nops[size]}"]
        at = offset + size
    return "; ".join(c for c in code if c)


RIP_LOAD = "mov eax, 39; lea rdi, [rip]; syscall; test eax, eax; ret"  # only B can do this


# ------------------------------------------------------------------------------- when which tactic
def test_a_takes_the_immediate() -> None:
    image, plan = plan_of(CASES["A"])
    assert [p.tactic for p in plan.patches] == ["A"]
    same_behaviour(image, plan, 0)


def test_a_leaves_the_syscall_itself_in_place() -> None:
    image, plan = plan_of(CASES["A"])
    site = plan.patches[0].site
    patched = patch.apply(image, slots(plan))
    assert patched[site : site + 2] == b"\x0f\x05"
    changed = {i for i, (x, y) in enumerate(zip(image.text, patched, strict=True)) if x != y}
    assert changed <= set(range(site - 5, site))
    trace = Machine(patched, slots(plan)).run(site, START | {"rax": 100})
    assert (trace.traps, trace.calls[0][0], trace.calls[0][1]) == (1, site + 2, 100)


def test_d1_takes_any_plain_instruction_of_five_bytes_or_more() -> None:
    for name in ("D1", "D1-long"):
        image, plan = plan_of(CASES[name])
        assert [p.tactic for p in plan.patches] == ["D1"]
        same_behaviour(image, plan, 0)


def test_d_takes_several() -> None:
    image, plan = plan_of(CASES["D"])
    assert [p.tactic for p in plan.patches] == ["D"]
    assert [len(p.boundaries) for p in plan.patches] == [2]
    same_behaviour(image, plan, 0)


def test_b_uses_padding_of_seven_bytes() -> None:
    text = padded(RIP_LOAD, {31: 9})
    image, plan = plan_of(text)
    assert [p.tactic for p in plan.patches] == ["B"]
    same_behaviour(image, plan, 0, plan.patches[0].site)


def test_b_far_uses_five_bytes_and_the_tail() -> None:
    image, plan = plan_of(padded(RIP_LOAD, {35: 5}))
    assert [p.tactic for p in plan.patches] == ["B-far"]
    assert plan.patches[0].jump >= image.end
    same_behaviour(image, plan, 0, plan.patches[0].site)


def test_b_hops_over_small_padding() -> None:
    text = padded(RIP_LOAD, {118: 2, 238: 2, 312: 8})
    image, plan = plan_of(text)
    assert [p.tactic for p in plan.patches] == ["B-hop"]
    assert len(plan.patches[0].fixed) >= 3
    same_behaviour(image, plan, 0, plan.patches[0].site)


def test_padding_out_of_reach_is_no_use() -> None:
    assert tactics(padded(RIP_LOAD, {160: 8})) == []


def test_padding_is_used_once() -> None:
    text = padded(f"{RIP_LOAD.removesuffix('; ret')}; {RIP_LOAD}", {55: 9})
    image, plan = plan_of(text)
    assert [p.tactic for p in plan.patches] == ["B"]
    assert len(plan.unpatchable) == 1
    same_behaviour(image, plan, 0)


def test_a_site_that_is_branched_to_prefers_padding() -> None:
    text = padded("test edi, edi; mov eax, 100; je go; mov eax, 39; go: syscall; ret", {23: 9})
    image, plan = plan_of(text)
    assert [p.tactic for p in plan.patches] == ["B"]
    same_behaviour(image, plan, 0)


def test_undescribed_code_is_proven_by_agreement() -> None:
    filler = "mov rax, [rdi+8]; add rax, 1; mov [rdi+8], rax; test eax, eax; " * 20
    text = f"{filler} {CASES['A']}"
    assert tactics(text, described=False) == ["A"]


# ---------------------------------------------------------------------------------- what is left
LEFT_ON_THE_TRAP = {
    "rip-relative": "mov eax, 1; lea rsi, [rip+0x1000]; syscall; ret",
    "gs-relative": "mov eax, 1; mov rsi, gs:[0x10]; syscall; ret",
    "a call returns to the middle": "mov eax, 1; call 100; mov edi, ebx; syscall; ret",
    "a push moves the stack": "push rbx; pop rbx; push 0; pop rax; syscall; ret",
    "signal return": "mov rax, 15; syscall",
    "a jump leads to the middle": "mov edi, 5; mov edi, ebx; mov edx, 3; xor esi, edx; syscall; "
    "dec ebx; jne 12; ret",
    "nothing before": "syscall; ret",
}


@pytest.mark.parametrize("why", LEFT_ON_THE_TRAP)
def test_tactic_c(why: str) -> None:
    assert tactics(LEFT_ON_THE_TRAP[why]) == []


MIDDLE = "mov eax, 39; xor edi, edi; and esi, 7; syscall; ret; xchg rbx, rbx; xchg rbx, rbx"
MIDDLE_OFFSET = 7  # of `and esi, 7`


def test_several_are_not_moved_when_the_middle_may_be_entered() -> None:
    assert tactics(MIDDLE) == ["D"]
    assert tactics(MIDDLE, landing_pads=True) == []
    address = 0x3000 + MIDDLE_OFFSET
    size = len(assemble(MIDDLE))
    for name, data, more in [
        ("a pointer in the data", address.to_bytes(8, "little"), ""),
        ("a short branch", b"", f"jne {MIDDLE_OFFSET}"),
        ("a long branch", b"", f".byte 0x0f,0x8f; .long {MIDDLE_OFFSET - size - 6}"),
        ("an address taken", b"", f".byte 0x48,0x8d,0x3d; .long {MIDDLE_OFFSET - size - 7}"),
    ]:
        code = f"{MIDDLE}; {more}" if more else MIDDLE
        image = image_of(code, data=data)
        assert [p.tactic for p in Patcher(image).plan().patches] == [], name


def test_several_are_not_moved_when_a_jump_table_leads_to_the_middle() -> None:
    table = 0x1000  # text offset of the data segment's first byte
    code = f"lea rdx, [rip + {table - 7}]; movsxd rax, [rdx+rdi*4]; add rax, rdx; jmp rax; {MIDDLE}"
    middle = len(assemble(code)) - len(assemble(MIDDLE)) + MIDDLE_OFFSET
    for target, want in [(middle, []), (middle - MIDDLE_OFFSET, ["D"])]:
        data = b"".join((t - table).to_bytes(4, "little", signed=True) for t in (0, target))
        image = image_of(code, data=data + b"\x7f" * 4)
        assert [p.tactic for p in Patcher(image).plan().patches] == want


def test_fixed_images_may_hold_an_address_in_four_bytes() -> None:
    assert [p.tactic for p in Patcher(image_of(MIDDLE, fixed=True)).plan().patches] == ["D"]
    immediate = f"{MIDDLE}; mov edi, {0x40_3000 + MIDDLE_OFFSET}"
    assert [p.tactic for p in Patcher(image_of(immediate, fixed=True)).plan().patches] == []


BEFORE = "mov eax, 39; lea rdi, [rip]; syscall"  # 14 bytes
NOP9, NOP6, NOP8 = (
    "0x66,0x0f,0x1f,0x84,0,0,0,0,0",
    "0x66,0x0f,0x1f,0x44,0,0",
    "0x0f,0x1f,0x84,0,0,0,0,0",
)
MAY_BE_ALIVE = {
    "control falls into it": f"{BEFORE}; cld; .byte {NOP9}",
    "it does not end aligned": f"{BEFORE}; cld; ret; .byte {NOP9}",
    "something branches to it": f"{BEFORE}; jmp 16; .byte {NOP8}; jne 16",
    "it begins with a lone NOP": f"{BEFORE}; ret; .byte 0x90,{NOP8}",
    "the jump before it skips it": f"{BEFORE}; cld; cld; cld; cld; jmp 32; .byte {NOP6},{NOP6}",
}


def test_the_padding_of_the_next_test_would_do() -> None:
    assert tactics(f"{BEFORE}; ret; .byte {NOP9}") == ["B"]


@pytest.mark.parametrize("why", MAY_BE_ALIVE)
def test_padding_that_may_be_alive_is_not_used(why: str) -> None:
    assert tactics(MAY_BE_ALIVE[why]) == []


def test_bytes_inside_an_instruction_are_no_site() -> None:
    image, plan = plan_of("mov edi, 0x050f; mov eax, 39; lea rsi, [rip+0x50f00]; ret")
    assert len(patch.candidates(image)) == 2
    assert (plan.patches, plan.unpatchable) == ((), ())
    assert len(plan.unproven) == 2


def test_a_lone_immediate_is_not_mistaken_for_mov_eax() -> None:
    # c7 44 24 b8 imm32: the byte before the immediate is a displacement that looks like `mov eax`.
    image, plan = plan_of("mov eax, 39; mov dword ptr [rsp-0x48], 0x27; syscall; ret")
    assert plan.patches[0].tactic == "D1"
    same_behaviour(image, plan, 0)
    # 41 b8 imm32 is mov r8d, imm32.
    image, plan = plan_of("mov eax, 39; mov r8d, 0x27; syscall; ret")
    assert plan.patches[0].tactic == "D1"
    same_behaviour(image, plan, 0)


def test_sites_asked_for_are_checked_like_others() -> None:
    image = image_of(CASES["A"])
    site = patch.candidates(image)[0]
    plan = Patcher(image).plan([site, site + 1, 3, 100_000, -1])
    assert [p.site for p in plan.patches] == [site]
    assert set(plan.unproven) == {site + 1, 3, 100_000, -1}


# ---------------------------------------------------------------------------- stopped in between
def test_a_thread_stopped_in_a_trampoline_is_somewhere_in_the_original() -> None:
    _, plan = plan_of(CASES["D"])
    moved = plan.patches[0]
    first, second = moved.boundaries
    assert moved.original_offset(0) == first
    assert moved.original_offset(second - first) == second
    assert moved.original_offset(len(moved.moved)) == moved.site
    assert moved.original_offset(len(moved.moved) + 8) == moved.site


def test_trampolines_fill_their_slot() -> None:
    for text in CASES.values():
        for p in plan_of(text)[1].patches:
            assert len(p.trampoline(8191)) == TRAMPOLINE_SIZE


def test_every_slot_keeps_the_syscall_bytes() -> None:
    for slot in (0, 1, 31, 32, 8191):
        assert patch.table_jump(slot)[-2:] == b"\x0f\x05"


# --------------------------------------------------------------------------------------- listings
def listing(image: Image, plan: Plan) -> str:
    """The code before and after, and the trampolines."""

    def lines(code: bytes, start: int, end: int, base: int = 0) -> list[str]:
        found: list[str] = []
        for i in sweep(code, start, end):
            text = f"{code[i.offset : i.end].hex(' ')}\t{i.mnemonic} {i.operands}".rstrip()
            if found and found[-1].endswith(f"\t{text}"):
                found[-1] = f"{base + i.offset:#x}\t{text}"  # a run of equal ones: only the last
            else:
                found.append(f"{base + i.offset:#x}\t{text}")
        return found

    patched = patch.apply(image, slots(plan))
    parts = [
        "; before",
        *lines(image.text, 0, image.end),
        "",
        "; after",
        *lines(patched, 0, image.end),
    ]
    if patched[image.end :].strip(b"\0"):
        parts += ["", "; behind the segment", *lines(patched, image.end, image.end + 7)]
    for slot, p in slots(plan).items():
        place = TRAMPOLINES + slot * TRAMPOLINE_SIZE
        code = p.trampoline(slot).rstrip(b"\xcc")
        parts += [
            "",
            f"; trampoline of slot {slot}, tactic {p.tactic}",
            *lines(code, 0, len(code), place),
        ]
    return "\n".join(parts) + "\n"


LISTED = {
    "patch_a": CASES["A"],
    "patch_d1": CASES["D1"],
    "patch_d1_long": CASES["D1-long"],
    "patch_d": CASES["D"],
    "patch_b": padded(RIP_LOAD, {31: 9}),
    "patch_b_far": padded(RIP_LOAD, {35: 5}),
    "patch_b_hop": padded(RIP_LOAD, {46: 2, 150: 2, 168: 8}),
}


@pytest.mark.parametrize("name", LISTED)
def test_golden_listing(name: str) -> None:
    """UPDATE_GOLDEN=1 rewrites them; review the diff."""
    text = listing(*plan_of(LISTED[name]))
    file = GOLDEN / f"{name}.s"
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert file.read_text() == text
