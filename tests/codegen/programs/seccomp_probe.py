"""Make system calls under the real filter, from inside and outside of a stand-in stub.

    seccomp_probe.py RESULTS < cases

Reads a Python literal: a list of (number, [arguments], "stub" or "guest"). The calls run from a
small machine-code loop, because once the filter is on Python itself can make none. Each result is
stored in the file RESULTS as an int64; a trapped call counts as TRAPPED.
"""

from __future__ import annotations

import ast
import ctypes
import mmap
import struct
import sys

import keystone

import tables
from codegen import seccomp
from codegen.layout import STUB_BASE

TRAPPED = -99999
ENTRY = struct.Struct("<Q6QQq")
EMPTY = STUB_BASE + 0x800
_GUEST_TEXT = 0x2000_0000
_DATA = 0x2100_0000

# rdi = table, rsi = entries. SysV calling convention.
_LOOP = """
    push rbx; push rbp; push r12
    mov rbx, rdi; mov rbp, rsi
again:
    test rbp, rbp; je done
    mov rax, [rbx]; mov rdi, [rbx+8]; mov rsi, [rbx+16]; mov rdx, [rbx+24]
    mov r10, [rbx+32]; mov r8, [rbx+40]; mov r9, [rbx+48]
    call [rbx+56]
    mov [rbx+64], rax
    add rbx, 72; dec rbp; jmp again
done:
    pop r12; pop rbp; pop rbx; ret
"""
_GADGET = "syscall; ret"
_INT80 = "int 0x80; ret"
_HANDLER = f"mov qword ptr [rdx+144], {TRAPPED}; ret"  # ucontext.uc_mcontext.gregs[REG_RAX]
_RESTORER = "mov eax, 15; syscall"


def _assemble(text: str) -> bytes:
    assembler = keystone.Ks(keystone.KS_ARCH_X86, keystone.KS_MODE_64)
    return bytes(assembler.asm(text)[0])


def _map(libc: ctypes.CDLL, address: int, length: int) -> None:
    libc.mmap.restype = ctypes.c_void_p
    c_int = ctypes.c_int
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, c_int, c_int, c_int, ctypes.c_long]
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10_0000  # MAP_FIXED_NOREPLACE
    prot = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    if libc.mmap(address, length, prot, flags, -1, 0) != address:
        raise SystemExit(f"cannot map {address:#x}")


def main() -> None:
    """Install the filter, run the cases, exit."""
    cases = ast.literal_eval(sys.stdin.read())
    table = tables.load("x86_64")
    numbers = table.numbers
    libc = ctypes.CDLL(None, use_errno=True)
    for address, length in ((STUB_BASE, 4096), (_GUEST_TEXT, 4096), (_DATA, 1 << 20)):
        _map(libc, address, length)
    pieces = {"loop": _LOOP, "stub": _GADGET, "handler": _HANDLER, "restorer": _RESTORER}
    places, at = {}, STUB_BASE
    for name, text in pieces.items():
        code = _assemble(text)
        ctypes.memmove(at, code, len(code))
        places[name] = at
        at += (len(code) + 15) & ~15
    assert at < EMPTY
    places["guest"] = _GUEST_TEXT
    ctypes.memmove(_GUEST_TEXT, _assemble(_GADGET), 3)
    places["int80"] = _GUEST_TEXT + 0x100
    ctypes.memmove(_GUEST_TEXT + 0x100, _assemble(_INT80), 3)

    program = seccomp.build_filter(table, empty_path=EMPTY, text=(STUB_BASE, STUB_BASE + 4096))
    ctypes.memmove(_DATA + 0x1_0000, program, len(program))
    header = struct.pack("<H6xQ", len(program) // 8, _DATA + 0x1_0000)
    ctypes.memmove(_DATA, header, len(header))
    action = struct.pack("<QQQQ", places["handler"], 4 | 0x0400_0000, places["restorer"], 0)
    ctypes.memmove(_DATA + 0x100, action, len(action))

    setup = [
        (numbers["rt_sigaction"], [31, _DATA + 0x100, 0, 8], "stub"),
        (numbers["prctl"], [table.constants["PR_SET_NO_NEW_PRIVS"], 1, 0, 0, 0], "stub"),
        (numbers["seccomp"], [1, 0, _DATA], "stub"),
    ]
    calls = [*setup, *cases, (numbers["exit_group"], [0], "stub")]
    packed = b"".join(
        ENTRY.pack(
            nr, *(a & (1 << 64) - 1 for a in [*args, *[0] * (6 - len(args))]), places[where], 0
        )
        for nr, args, where in calls
    )
    with open(sys.argv[1], "r+b") as file:
        file.truncate(len(packed))
        results = mmap.mmap(file.fileno(), len(packed))
    results[:] = packed
    start = ctypes.addressof(ctypes.c_char.from_buffer(results))
    ctypes.CFUNCTYPE(None, ctypes.c_uint64, ctypes.c_uint64)(places["loop"])(start, len(calls))


if __name__ == "__main__":
    main()
