"""Random functions, patched and unpatched, must be the same program."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegen import patch
from codegen.asm.decode import sweep
from codegen.patch import Patcher
from codegen.patch_elf import read_image
from tests.codegen.elf import assemble, elf
from tests.codegen.machine import NAMES, Machine

PLAIN = [
    line.strip()
    for line in """
        mov rdi, rbx|mov esi, 1|mov edx, 0x81|xor esi, esi|xor edi, edi|mov rsi, [r12+8]
        mov r10, [r12+0x60]|mov [r12+0x10], rdi|mov [rsp-0x18], rax|mov rdx, [rsp-0x18]
        lea rdi, [r12+0x40]|lea rsi, [rdi+rdx*2+5]|and esi, 0x80|or esi, 7|add rbx, 5|sub r8, rdi
        cmp rdi, 7|test edx, edx|sete dl|cmovne rsi, r8|mov r9d, 0x12345|not rdx|neg rdi|inc ebx
        movabs r8, 0x1122334455667788|mov dword ptr [r12+0x20], 0x50f|shl rdi, 3|sar rbx, 1
        movsxd rdi, esi|movzx edx, dl|dec r8|mov rax, r8|mov eax, edx|mov rax, rdi|lea r9, [rip]
        push rbx; pop r13|movups xmm0, [r12]|movaps [r12+0x80], xmm0|xor sil, 0x81|mov rcx, rdi
        mov r11, rbx|mov rdx, rcx|mov rdi, r11|cdqe|xchg rbx, r13|mov edi, 0x050f|nop|cld
        """.replace("\n", "|").split("|")
    if line.strip()
]
# Enough code in front for sweeps to agree in.
FILLER = "; ".join(["mov rax, [rsp-8]", "add rax, 1", "mov [rsp-8], rax", "test eax, eax"] * 8)
CONDITIONS = ("je", "jne", "jb", "ja", "jl", "jg", "js", "jns")


@st.composite
def functions(draw: st.DrawFn) -> str:
    """Blocks that end in a forward branch, a return or nothing, with alignment where code ends."""
    count = draw(st.integers(1, 6))
    lines: list[str] = []
    plain = st.lists(st.sampled_from(PLAIN), max_size=5)
    for block in range(count):
        lines.append(f"b{block}:")
        lines += draw(plain)
        if draw(st.booleans()):
            lines.append(f"mov eax, {draw(st.integers(0, 330))}")
        lines += draw(st.lists(st.sampled_from(PLAIN), max_size=2))
        if draw(st.integers(0, 4)):
            lines.append("syscall")
        ahead = f"b{draw(st.integers(block + 1, count))}"
        end = draw(st.sampled_from(("jcc", "jmp", "ret", "go on")))
        if end == "jcc":
            lines.append(f"{draw(st.sampled_from(CONDITIONS))} {ahead}")
        elif end != "go on":
            lines += [f"jmp {ahead}" if end == "jmp" else "ret", ".balign 16"]
    return "; ".join([*lines, f"b{count}:", "ret", ".balign 16", "ret"]).replace(":;", ":")


values = st.fixed_dictionaries(
    {name: st.integers(0, (1 << 64) - 1) for name in NAMES if name not in {"rsp", "r12"}}
    | {"r12": st.just(0x7D00_0000_0400)}
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(functions(), values, st.booleans())
def test_the_program_cannot_tell(text: str, registers: dict[str, int], described: bool) -> None:
    if not described:
        text = f"{FILLER}; {text}"
    code = assemble(text)
    image = read_image(elf(code, [(0, len(code))] if described else []))
    assert image is not None
    plan = Patcher(image).plan()
    patches = dict(enumerate(plan.patches, 3))
    patched = patch.apply(image, patches)
    decoded = sweep(image.text, 0, image.end)
    boundaries = {i.offset for i in decoded}
    targets = {
        int(i.operands, 16)
        for i in decoded
        if i.mnemonic.startswith("j") and i.operands[:2] == "0x"
    }
    sites = {i.offset for i in decoded if i.mnemonic == "syscall"}
    assert {p.site for p in plan.patches} <= sites
    # Everywhere the program itself may arrive, and every system call as if restarted.
    for start in sorted({0} | (targets & boundaries) | sites):
        before = Machine(image.text).run(start, registers)
        after = Machine(patched, patches).run(start, registers)
        assert not before.fault
        assert not after.fault
        assert after.calls == before.calls
        assert after.end == before.end
        assert after.memory == before.memory
    # What a system call returns to begins as it was, or with another patch.
    begins = {at for p in plan.patches for at in (p.site, p.jump, *(at for at, _ in p.fixed))}
    for p in plan.patches:
        end = p.returns_to
        assert end in begins or patched[end] == image.text[end]
