"""Starting an emulator's process behind walls that it cannot take down.

The host sees every instruction of an emulated guest as the emulator's, so the stub cannot put up a
filter by itself as native stubs do. Before the emulator runs, its process gives up what it does not
need: Landlock leaves it the two files it executes, no TCP port and no process outside to signal;
a seccomp filter refuses what Landlock does not know. All that follow inherit both.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

from kernel import elf, isa
from kernel.errors import LinuxError
from kernel.host.engines import host_isa
from kernel.host.landlock import landlock_version

_libc = ctypes.PyDLL(None, use_errno=True)
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # on every architecture
_RULE_PATH_BENEATH = 1
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}  # ABI from which on there are so many
_EXECUTE_AND_READ = 1 | 4
_NET_ABI, _TCP = 4, 3
_SCOPE_ABI, _ABSTRACT_SOCKETS_AND_SIGNALS = 6, 3
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, _PR_SET_NO_NEW_PRIVS = 22, 2, 38
_CANNOT_START = 127


class Walls:
    """For the processes of one container. `program` and `stub` are what they execute."""

    def __init__(self, program: str, stub: str, code: bytes) -> None:
        """`code`: an array of struct sock_filter. OSError if the files cannot be read."""
        self._ruleset = _ruleset(program, stub)
        self._code = ctypes.create_string_buffer(code, len(code))
        self._filter = ctypes.create_string_buffer(
            struct.pack("<H6xQ", len(code) // 8, ctypes.addressof(self._code))
        )

    def close(self) -> None:
        """No more processes will be started."""
        if self._ruleset >= 0:
            os.close(self._ruleset)
            self._ruleset = -1

    def spawn(
        self,
        command: tuple[str, Sequence[str], Mapping[str, str]],
        descriptors: Iterable[tuple[int, int]],
    ) -> int:
        """As posix_spawn with a session of its own and all signals blocked; the host pid.

        `descriptors` are (ours, the child's number), done in this order.
        """
        pairs = list(descriptors)
        pid = os.fork()
        if pid:
            return pid
        try:
            self._become(command, pairs)
        finally:
            os._exit(_CANNOT_START)

    def _become(
        self,
        command: tuple[str, Sequence[str], Mapping[str, str]],
        descriptors: list[tuple[int, int]],
    ) -> NoReturn:
        signals = signal.valid_signals()
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        for each in signals - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(each, signal.SIG_DFL)
        os.setsid()
        for ours, number in descriptors:
            os.dup2(ours, number)
        zero = ctypes.c_ulong(0)
        failed = _libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero)
        if self._ruleset >= 0:
            failed |= _libc.syscall(_RESTRICT_SELF, self._ruleset, zero)
        failed |= _libc.prctl(
            _PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), self._filter, zero, zero
        )
        if failed:
            os._exit(_CANNOT_START)
        path, arguments, environment = command
        os.execve(path, list(arguments), dict(environment))  # noqa: S606 - no shell is wanted


def _ruleset(program: str, stub: str) -> int:
    """A Landlock ruleset; -1 where the host has none or `program` needs more than two files."""
    version = landlock_version()
    if not version or not _self_contained(program):
        return -1
    rights = max(count for abi, count in _FS_RIGHTS.items() if abi <= version)
    attributes = struct.pack(
        "<QQQ",
        (1 << rights) - 1,
        _TCP if version >= _NET_ABI else 0,
        _ABSTRACT_SOCKETS_AND_SIGNALS if version >= _SCOPE_ABI else 0,
    )
    size = 8 * (1 + (version >= _NET_ABI) + (version >= _SCOPE_ABI))
    ruleset: int = _libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0)
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    for path in (program, stub):
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        beneath = struct.pack("<Qi", _EXECUTE_AND_READ, fd)
        added = _libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, beneath, 0)
        os.close(fd)
        if added < 0:
            raise OSError(ctypes.get_errno(), "landlock_add_rule")
    return ruleset


def _self_contained(program: str) -> bool:
    """A static executable, that is; not a script, not one with a loader and libraries."""
    fd = os.open(program, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return elf.parse(fd, isa.of(host_isa()).elf_machine).interpreter is None
    except LinuxError:
        return False
    finally:
        os.close(fd)
