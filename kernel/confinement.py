"""Walls around a guest, put up by the guest's own stub before any guest code runs.

no_new_privs, a Landlock domain that grants nothing but reading and executing the stub (where the
host has Landlock), and the seccomp filter. All are inherited by every process that follows.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from codegen.layout import PAYLOAD, STUB_FD, Op
from codegen.seccomp import build_filter
from kernel.reply import Program

if TYPE_CHECKING:
    from kernel.container import Container
    from kernel.task import Task

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_TIOCSCTTY = 0x540E
_LANDLOCK_FS_V1 = (1 << 13) - 1  # every right of ABI 1: all file system access is handled
_LANDLOCK_RUN = 1 | 4  # execute and read file: execve asks for both
_RULE_PATH_BENEATH = 1


def seccomp_filter(container: Container) -> bytes:
    """The container's filter program."""
    stub = container.stub
    return build_filter(
        container.abi,
        empty_path=stub.empty_string,
        text=(stub.text_start, stub.text_end),
    )


class Confinement:
    """Awaited by the loader in a process that comes from outside (init, `docker exec`)."""

    def __init__(self, container: Container, landlock: bool) -> None:
        self._filter = seccomp_filter(container) if container.engine.filtered else b""
        self._landlock = landlock

    async def __call__(self, task: Task) -> None:
        """Confine `task`'s process. LinuxError when a wall cannot be put up."""
        nr = task.abi.numbers
        base = task.slot.address + PAYLOAD
        program = Program()
        if task.process.terminal_stdin:
            program.hostcall(nr["ioctl"], 0, _TIOCSCTTY, 0, checked=False)
        program.hostcall(nr["prctl"], _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if not task.process.container.engine.filtered:
            await task.run(program)
            return
        if self._landlock:
            self._add_landlock(program, nr, base)
        code = base + program.store(self._filter)
        fprog = base + program.store(struct.pack("<H6xQ", len(self._filter) // 8, code))
        program.hostcall(nr["seccomp"], _SECCOMP_SET_MODE_FILTER, 0, fprog)
        await task.run(program)

    @staticmethod
    def _add_landlock(program: Program, nr: dict[str, int], base: int) -> None:
        attributes = base + program.store(struct.pack("<Q", _LANDLOCK_FS_V1))
        ruleset = program.hostcall(nr["landlock_create_ruleset"], attributes, 8, 0)
        beneath = base + program.store(struct.pack("<Qi", _LANDLOCK_RUN, STUB_FD))
        program.hostcall(nr["landlock_add_rule"], ruleset, _RULE_PATH_BENEATH, beneath, 0)
        program.hostcall(nr["landlock_restrict_self"], ruleset, 0)
        program.op(Op.HOSTCALL, ruleset, nr=nr["close"])
