"""Patched text on the real CPU: cache, site table, return table and trampolines together."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from codegen.cache import TranslationCache
from tests.codegen.elf import TEXT_OFFSET, assemble, elf
from tests.codegen.programs.patched_call import ENTRY

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="runs x86_64 machine code"
)
# f(n): n times: getpid by A, dup(-1) by D, close(-1) by B. Adds up the results.
LOOP = """
    push rbx; push r12; mov rbx, rdi; xor r12d, r12d
again:
    mov eax, 39; syscall
    add r12, rax
    mov eax, 32; cmp rbx, 0; or rdi, -1; xor esi, esi; syscall
    setl dl; movzx edx, dl; add r12, rax; add r12, rdx
    mov eax, 3; lea rsi, [rip]; syscall
    add r12, rax; dec rbx; jne again
    mov rax, r12; pop r12; pop rbx; ret
"""


def test_a_guest_would_run_it(tmp_path: Path) -> None:
    code = assemble(LOOP)
    code += b"\xcc" * (16 + -len(code) % 16)
    program = tmp_path / "program"
    program.write_bytes(elf(code, [(0, len(code))]))
    cache = TranslationCache(tmp_path / "cache", ENTRY)
    fd = os.open(program, os.O_RDONLY)
    assert cache.prepare(fd)
    text = cache.lookup(fd)
    assert text is not None
    assert text.patched is not None
    assert len(text.patched.sites) == 3
    assert text.patched.segment_offset == TEXT_OFFSET
    os.close(fd)
    cache.close()
    times = 1000
    done = subprocess.run(
        [sys.executable, "-m", "tests.codegen.programs.patched_call",
         str(tmp_path / "cache"), str(program), str(times)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    result, calls, pid = map(int, done.stdout.split())
    assert calls == 3 * times
    ebadf = 9
    assert result == times * (pid - 2 * ebadf)
