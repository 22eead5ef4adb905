"""Run a function from the cache's patched text on this machine, as a guest would.

    patched_call.py CACHE PROGRAM LENGTH

Maps the site table and the patched text of PROGRAM like the kernel does, with a few instructions in
the stub's place that count and make the call. Prints the function's result and the count.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys

from codegen.cache import TranslationCache
from codegen.layout import JUMP_TABLE, RETURN_TABLE
from codegen.site_table import RETURN_TABLE_SIZE, SIZE
from tests.codegen.elf import assemble

ENTRY = 0x6800_0000_0040
_COUNTER, _SCRATCH = ENTRY - 0x40 + 0x1000, ENTRY - 0x40 + 0x1008
_TEXT = 0x7E00_0000_0000
_FIXED, _FIXED_NOREPLACE = 0x10, 0x10_0000
_STUB = f"""
    mov [rip + {_SCRATCH - ENTRY - 7}], rcx
    mov r11, [rip + {_COUNTER - ENTRY - 14}]
    lea r11, [r11 + 1]
    mov [rip + {_COUNTER - ENTRY - 25}], r11
    syscall
    mov rcx, [rip + {_SCRATCH - ENTRY - 34}]
    jmp rcx
"""


def main() -> None:
    """Map, call, print."""
    directory, program, length = sys.argv[1], sys.argv[2], int(sys.argv[3])
    cache = TranslationCache(directory, ENTRY)
    fd = os.open(program, os.O_RDONLY)
    text = cache.lookup(fd)
    assert text is not None
    assert text.patched is not None
    table = cache.site_table_fd()
    assert table is not None
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    c_int = ctypes.c_int
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, c_int, c_int, c_int, ctypes.c_long]

    def place(address: int, size: int, prot: int, flags: int, file: int = -1) -> None:
        assert libc.mmap(address, size, prot, flags, file, 0) == address, hex(address)

    read, write, execute = mmap.PROT_READ, mmap.PROT_WRITE, mmap.PROT_EXEC
    anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    place(JUMP_TABLE, SIZE, read | execute, mmap.MAP_SHARED | _FIXED_NOREPLACE, table)
    place(RETURN_TABLE, RETURN_TABLE_SIZE, read | write, anonymous | _FIXED)
    place(ENTRY & ~0xFFF, 0x2000, read | write | execute, anonymous | _FIXED_NOREPLACE)
    stub = assemble(_STUB)
    ctypes.memmove(ENTRY, stub, len(stub))
    private = mmap.MAP_PRIVATE | _FIXED_NOREPLACE
    place(_TEXT, text.patched.length, read | execute, private, text.patched.fd)
    for address, data in text.patched.return_addresses(_TEXT - text.patched.segment_offset):
        ctypes.memmove(address, data, len(data))
    result = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long)(_TEXT)(length)
    print(result, ctypes.c_long.from_address(_COUNTER).value, os.getpid())


if __name__ == "__main__":
    main()
