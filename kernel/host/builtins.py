"""Python functions whose code is ours: builtins that the interpreter calls without ctypes between.

A call costs what len() costs, a tenth of a call through ctypes. The C API used here is part of the
stable ABI (PEP 384); only CPython has it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

METH_NOARGS, METH_O = 0x4, 0x8  # Include/methodobject.h

_libc = ctypes.PyDLL(None, use_errno=True)
_mprotect = _libc.mprotect
_mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class _MethodDef(ctypes.Structure):  # PyMethodDef
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("code", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def c_function(name: str) -> int:
    """The address of a function of Python's C API."""
    address = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
    assert address is not None
    return address


class Code:
    """Machine code in this process and the builtins that are made of it."""

    def __init__(self, text: bytes) -> None:
        """OSError: this interpreter or this host lets us make none."""
        if sys.implementation.name != "cpython":
            raise OSError(errno.ENOSYS, "only CPython calls machine code so")
        self._memory = mmap.mmap(-1, len(text))
        self._memory.write(text)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        if _mprotect(self._base, len(text), mmap.PROT_READ | mmap.PROT_EXEC):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._kept: list[_MethodDef] = []

    def builtins(
        self, symbols: Mapping[str, int], wanted: Mapping[str, int]
    ) -> dict[str, Callable[..., Any]]:
        """A builtin for each name of `wanted`, which says how it is called (METH_*)."""
        make = ctypes.pythonapi.PyCFunction_NewEx
        make.argtypes = [ctypes.POINTER(_MethodDef), ctypes.c_void_p, ctypes.c_void_p]
        make.restype = ctypes.py_object
        made: dict[str, Callable[..., Any]] = {}
        for name, flags in wanted.items():
            method = _MethodDef(name.encode(), self._base + symbols[name], flags, None)
            self._kept.append(method)  # the builtin refers to it, and to our code
            made[name] = make(ctypes.byref(method), None, None)
        return made
