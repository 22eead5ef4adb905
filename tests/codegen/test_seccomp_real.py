"""The filter in a real kernel: what a process under it can do."""

from __future__ import annotations

import errno
import os
import platform
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import tables
from codegen.layout import BELL_FD, CTRL_FD, STUB_BASE, STUB_FD
from tests.codegen.programs.seccomp_probe import ENTRY, TRAPPED

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64",
    reason="an x86_64 Linux host's filter",
)
NUMBERS = tables.load("x86_64").numbers
SETUP_CALLS = 3
Case = tuple[str, list[int], str]


def probe(tmp_path: Path, *cases: Case) -> tuple[int, list[int]]:
    """Exit status and the cases' results."""
    results = tmp_path / "results"
    results.touch()
    listed = [(NUMBERS[name], args, where) for name, args, where in cases]
    done = subprocess.run(
        [sys.executable, "-m", "tests.codegen.programs.seccomp_probe", str(results)],
        input=repr(listed),
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    values = [row[-1] for row in ENTRY.iter_unpack(results.read_bytes())]
    if values:
        assert values[:SETUP_CALLS] == [0] * SETUP_CALLS, "the filter could not be installed"
    return done.returncode, values[SETUP_CALLS:-1]


def test_the_stub_works_and_everything_else_traps(tmp_path: Path) -> None:
    page = STUB_BASE + 0x900
    status, results = probe(
        tmp_path,
        ("getcpu", [0, 0, 0], "stub"),
        ("getcpu", [0, 0, 0], "guest"),
        ("sched_yield", [], "stub"),
        ("eventfd2", [0, 0], "stub"),
        ("openat", [-100 & 0xFFFF_FFFF, page, 0], "guest"),
        ("openat", [-100 & 0xFFFF_FFFF, page, 0], "stub"),
        ("kill", [0, 9], "guest"),
        ("mprotect", [STUB_BASE, 4096, 7], "stub"),
        ("mprotect", [STUB_BASE - 4096, 8192, 7], "stub"),
        ("munmap", [STUB_BASE, 4096], "stub"),
        ("mremap", [STUB_BASE, 4096, 4096, 3, 0x3000_0000], "stub"),
        ("close", [STUB_FD], "stub"),
        ("dup2", [0, CTRL_FD], "stub"),
        ("dup2", [0, 700], "stub"),
        ("close", [700], "stub"),
        ("close", [700], "stub"),
        ("fcntl", [BELL_FD, 3], "stub"),
        ("ioctl", [0, 0x5412, page], "stub"),
        ("sendmsg", [1, page, 0], "stub"),
        ("mmap", [0, 4096, 3, 0x22, 0xFFFF_FFFF, 0], "guest"),
    )
    assert status == 0
    assert results == [
        0,
        TRAPPED,
        0,
        results[3],
        TRAPPED,
        TRAPPED,
        TRAPPED,
        *[-errno.ENOMEM] * 4,
        -errno.EBADF,
        -errno.EBADF,
        700,
        0,
        -errno.EBADF,
        -errno.EBADF,
        -errno.ENOTTY,
        TRAPPED,
        TRAPPED,
    ]
    assert results[3] > 2


def test_reading_and_writing_go_through(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        os.set_inheritable(theirs.fileno(), True)
        ours.send(b"ping")
        fd, buffer = theirs.fileno(), 0x2100_0200
        results = tmp_path / "results"
        results.touch()
        cases = [
            (NUMBERS["read"], [fd, buffer, 16], "stub"),
            (NUMBERS["sendto"], [fd, buffer, 4, 0, 0, 0], "stub"),
            (NUMBERS["write"], [fd, buffer, 4], "guest"),
        ]
        subprocess.run(
            [sys.executable, "-m", "tests.codegen.programs.seccomp_probe", str(results)],
            input=repr(cases),
            text=True,
            check=True,
            timeout=60,
            pass_fds=[fd],
            cwd=Path(__file__).parents[2],
        )
        values = [row[-1] for row in ENTRY.iter_unpack(results.read_bytes())][SETUP_CALLS:-1]
        assert values == [4, 4, TRAPPED]
        assert ours.recv(16) == b"ping"


def test_the_other_abi_is_death(tmp_path: Path) -> None:
    status, results = probe(tmp_path, ("read", [], "int80"), ("sched_yield", [], "stub"))
    assert status == -signal.SIGSYS
    assert results == [0, 0]
