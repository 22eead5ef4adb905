"""Robust mutexes: whoever waits for a mutex learns that its owner is gone (get_robust_list(2)).

The host does this for its own threads, but it compares the words with its own thread ids, and
guests write the ids we give them. So the kernel walks the list of a thread that ends, while the
process can still run our micro-ops: before exit and exec, before a signal's default action, and
before SIGKILL where the process can be stopped soon enough.
"""

from __future__ import annotations

import asyncio
import errno
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from codegen.layout import Op, Slot
from kernel.errors import LinuxError
from kernel.host.linux import read_memory
from kernel.reply import Program
from kernel.signals.state import SIGKILL

if TYPE_CHECKING:
    from kernel.process import Process
    from kernel.task import Task

FUTEX_WAITERS: Final = 1 << 31
FUTEX_OWNER_DIED: Final = 1 << 30
FUTEX_TID_MASK: Final = (1 << 30) - 1
FUTEX_WAKE, FUTEX_PRIVATE = 1, 128
_HEAD = struct.Struct("<QqQ")  # struct robust_list_head: next, futex_offset, list_op_pending
_WORD, _POINTER = struct.Struct("<I"), struct.Struct("<Q")
_ENTRIES: Final = 2048  # ROBUST_LIST_LIMIT
_ROBUST, _ASK = Slot.ROBUST_LIST // 8, Slot.ASK_BEFORE_EXIT // 4
_GRACE_S: Final = 0.05  # how long a killed process may take to release its mutexes


def ask_before_exit(process: Process) -> None:
    """Have exit_group(2) of any thread ask first: the others may hold mutexes."""
    for task in process.tasks.values():
        task.slot.words[_ASK] = 1


def forget(task: Task) -> None:
    """The memory with the list is gone (execve)."""
    task.slot.q[_ROBUST] = 0
    task.slot.words[_ASK] = 0


def holds(process: Process) -> bool:
    """Whether some thread may hold robust mutexes; True if that cannot be read."""
    for task in process.tasks.values():
        head = task.slot.q[_ROBUST]
        if not head:
            continue
        data = read_memory(process.host_pid, head, _HEAD.size)
        if data is None:
            return True
        if data:
            first, _, pending = _HEAD.unpack(data)
            if first != head or pending:
                return True
    return False


async def release_all(task: Task) -> None:
    """The whole process of `task` is about to lose its memory."""
    process = task.process
    if holds(process):
        await release(task, list(process.tasks.values()))


def kill(process: Process) -> None:
    """SIGKILL. A process that holds robust mutexes gets a moment to release them (see deliver)."""
    container = process.container
    task = process.leader
    if process.doomed or task is None or not holds(process):
        container.kill(process, SIGKILL)
        return
    process.doomed = True
    asyncio.get_running_loop().call_later(_GRACE_S, container.kill, process, SIGKILL)
    if task.coroutine is None or not task.interrupt():
        container.ring.kick(task)


async def release(task: Task, owners: Iterable[Task]) -> None:
    """Mark what the threads `owners` hold, through micro-ops of `task`. Bad lists end early."""
    for owner in owners:
        head = owner.slot.q[_ROBUST]
        if not head:
            continue
        owner.slot.q[_ROBUST] = 0
        try:
            await _walk(task, head, owner.tid)
        except LinuxError:
            continue


async def _walk(task: Task, head: int, tid: int) -> None:
    """exit_robust_list in kernel/futex/core.c. Bit 0 of a pointer marks a PI mutex."""
    entry, offset, pending = _HEAD.unpack(await _read(task, head, _HEAD.size))
    for _ in range(_ENTRIES):
        node = entry & ~1
        if node == head:
            break
        (following,) = _POINTER.unpack(await _read(task, node, 8))
        if node != pending & ~1:
            await _owner_died(task, node + offset, tid, bool(entry & 1), False)
        entry = following
    if pending & ~1:
        await _owner_died(task, (pending & ~1) + offset, tid, bool(pending & 1), True)


async def _owner_died(task: Task, address: int, tid: int, pi: bool, pending: bool) -> None:
    """handle_futex_death: mark the word if `tid` owns it, and wake one waiter."""
    if address & 3:
        return
    while True:
        (word,) = _WORD.unpack(await _read(task, address, 4))
        owner = word & FUTEX_TID_MASK
        if pending and not pi and not owner:
            break  # it died between unlocking and waking
        if owner != tid:
            return
        if await compare_exchange(task, address, word, word & FUTEX_WAITERS | FUTEX_OWNER_DIED):
            if not word & FUTEX_WAITERS:
                return
            break
    program = Program()
    for flag in (0, FUTEX_PRIVATE):  # waiters for a PI mutex use whichever they like
        program.hostcall(
            task.abi.numbers["futex"], address, FUTEX_WAKE | flag, 1, 0, 0, 0, checked=False
        )
    await task.run(program)


async def compare_exchange(task: Task, address: int, expected: int, new: int) -> bool:
    """Replace a word of guest memory if it is still `expected`. LinuxError(EFAULT)."""
    program = Program()
    register = program.op(Op.CMPXCHG32, address, expected, new, flags=Op.CHECKED)
    await task.run(program)
    return task.result(register) == expected


async def _read(task: Task, address: int, length: int) -> bytes:
    data = read_memory(task.process.host_pid, address, length)
    if data is None:
        return await task.copy_in(address, length)
    if not data:
        raise LinuxError(errno.EFAULT)
    return data
