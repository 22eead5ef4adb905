"""Host calls made by a guest thread on somebody else's behalf, and under a changed host mask."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from codegen.layout import PAYLOAD, Op
from kernel.errors import Interrupted
from kernel.reply import Program
from kernel.signals.jobcontrol import immune, in_background, stop_background
from kernel.signals.state import SIGTTOU, bit
from kernel.task import Waiter

if TYPE_CHECKING:
    from kernel.process import Process
    from kernel.reply import Answer
    from kernel.task import Task

_SIG_BLOCK, _SIG_UNBLOCK = 0, 1


async def run_in(process: Process, name: str, *args: int) -> None:
    """Have `process` make a host call as soon as it can be interrupted; waits for that."""
    leader = process.leader
    if leader is None or process.ending:
        return
    done = Waiter(interruptible=False)  # setpgid(2) knows no EINTR
    leader.errands.append((name, args, done))
    if not leader.interrupt():
        process.container.ring.kick(leader)
    await done


def errands(task: Task, program: Program) -> None:
    """Append the calls others have asked of `task` to a program it is about to run."""
    pending, task.errands = task.errands, []
    for name, args, done in pending:
        program.hostcall(task.abi.numbers[name], *args, checked=False)
        task.errands_done.append(done)


async def with_ttou(task: Task, fd: int, cmd: int, value: int) -> Answer:
    """A terminal ioctl(fd, cmd, &value) that a group in the background may make only if immune."""
    nr = task.abi.numbers
    program = Program()
    base = task.slot.address + PAYLOAD
    argument = base + program.store(struct.pack("<i", value))
    mask = base + program.store(bit(SIGTTOU).to_bytes(8, "little"))
    blocked = immune(task, SIGTTOU)
    if blocked:
        program.hostcall(nr["rt_sigprocmask"], _SIG_BLOCK, mask, 0, 8)
    flags = 0 if blocked else Op.INTERRUPTIBLE
    register = program.op(Op.HOSTCALL, fd, cmd, argument, nr=nr["ioctl"], flags=flags)
    if blocked:
        program.hostcall(nr["rt_sigprocmask"], _SIG_UNBLOCK, mask, 0, 8)
    await task.run(program)
    result = task.result(register)
    if (
        result == -errno.EIO
        and in_background(task.process, task, fd)
        and stop_background(task, SIGTTOU)
    ):
        raise Interrupted
    return result
