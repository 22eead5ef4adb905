"""The filter lets the stub do what it does, and nothing of it from elsewhere."""

from __future__ import annotations

import struct

import pytest

import tables
from codegen import bpf, seccomp
from codegen.layout import (
    BELL_FD,
    BELLS_BASE,
    CTRL_FD,
    PAGE,
    SLOT_SIZE,
    SLOTS_BASE,
    WATCH_FD,
)
from codegen.seccomp_rules import ALLOW, TRAP
from codegen.templates.native import NATIVE
from codegen.templates.x86_64.common import HostCall
from tests.codegen.stub_machine import SITE, stub
from tests.codegen.stub_machine import address as address_in

TABLE = tables.load("x86_64")


def address(name: str) -> int:
    return address_in("x86_64", name)


FILTER = seccomp.build_filter(TABLE, empty_path=address("empty_string"))
ARCH = TABLE.constants["AUDIT_ARCH_X86_64"]
SYSCALLS = [
    offset + 2 for offset, text in stub("x86_64").a.listing if text == "syscall"
]  # the filter sees the address after the instruction
GUEST = 0x7F00_0000_0000
# Arguments the templates load; every call not named here is made with zeros.
OWN: dict[str, list[tuple[int, ...]]] = {
    "write": [(BELL_FD, address("one"), 8)],
    "mmap": [
        (SLOTS_BASE + 5 * SLOT_SIZE, SLOT_SIZE, 3, 0x11, 7, 0), (BELLS_BASE, PAGE, 3, 0x11, 8, 0),
    ],
    "close": [(3,), (WATCH_FD - 1,)],
    "rt_sigaction": [(n, GUEST, 0, 8) for n in range(1, 65)],
    "madvise": [(SLOTS_BASE, SLOT_SIZE, 10), (SLOTS_BASE + 4000 * SLOT_SIZE, SLOT_SIZE, 10)],
    "sendmsg": [(CTRL_FD, SLOTS_BASE, 0)],
    "recvmsg": [(CTRL_FD, SLOTS_BASE, 0x4000_0040)],
    "clone": [(0x0001_0F00,), (0x8000 | 17,)],  # a thread; a child of the kernel
    "fcntl": [(9, 2, 1)],
    "prctl": [(1, 9)],
    "arch_prctl": [(0x1001, SLOTS_BASE)],
    "dup3": [(9, CTRL_FD, 0), (9, WATCH_FD, 0)],
}  # fmt: skip
# Harmless arguments of natively served calls that the filter looks at.
GUESTS: dict[str, tuple[int, ...]] = {
    "mmap": (0, PAGE, 3, 0x22, (1 << 64) - 1, 0),
    "munmap": (GUEST, PAGE),
    "mprotect": (GUEST, PAGE, 1),
    "madvise": (GUEST, PAGE, 4),
    "mremap": (GUEST, PAGE, 2 * PAGE, 1, 0),
    "ioctl": (0, 0x5401, GUEST),
    "fcntl": (0, 3),
    "setsockopt": (3, 6, 1, GUEST, 4),
    "arch_prctl": (0x1002, GUEST),
}


def judge(name: str, arguments: tuple[int, ...], ip: int) -> int:
    padded = [*arguments, *([0] * (6 - len(arguments)))]
    return bpf.run(FILTER, struct.pack("<IIQ6Q", TABLE.numbers[name], ARCH, ip, *padded))[0]


def stub_ip(which: int = 0) -> int:
    return stub("x86_64").a.base + SYSCALLS[which]


def host_calls() -> dict[str, int]:
    return {TABLE.names[n]: n for k, n in vars(HostCall).items() if k.isupper()}


def test_the_stubs_own_numbers_have_the_names_of_the_tables() -> None:
    for constant, number in vars(HostCall).items():
        if constant.isupper():
            assert TABLE.names[number] == constant.lower()


@pytest.mark.parametrize("name", sorted(host_calls()))
def test_the_stubs_own_calls_pass(name: str) -> None:
    for arguments in OWN.get(name, [(0,)]):
        assert judge(name, arguments, stub_ip()) == ALLOW
        assert judge(name, arguments, SITE) == TRAP


def made_by_the_stub() -> list[str]:
    """Without those answered from the slot or by the kernel."""
    return sorted(n for n, label in NATIVE.items() if not label.startswith(("get", "sigreturn")))


@pytest.mark.parametrize("name", made_by_the_stub())
def test_native_calls_pass(name: str) -> None:
    assert judge(name, GUESTS.get(name, (0,)), stub_ip()) == ALLOW
    assert judge(name, GUESTS.get(name, (0,)), SITE) == TRAP


def test_every_syscall_instruction_of_the_stub_is_within_the_filters_text() -> None:
    assert len(SYSCALLS) > 10
    for which in range(len(SYSCALLS)):
        assert judge("getrandom", (0,), stub_ip(which)) == ALLOW
