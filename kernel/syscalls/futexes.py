"""Priority-inheritance futexes, without the inheritance (futex(2)).

Their words hold thread ids, and the host knows other ones than the guest writes: so the lock is
taken here, by compare-and-exchange in the guest, and only the sleep is the host's. Whoever has
slept takes the lock with FUTEX_WAITERS set, because others may sleep still. All other operations
run natively and come here only by a detour.
"""

import errno

from codegen.layout import Slot
from kernel.abi import Int, Pid, Pointer, UInt
from kernel.errors import LinuxError
from kernel.reply import Answer, Program, Reply
from kernel.robust import (
    FUTEX_OWNER_DIED,
    FUTEX_PRIVATE,
    FUTEX_TID_MASK,
    FUTEX_WAITERS,
    FUTEX_WAKE,
    compare_exchange,
)
from kernel.syscalls.declare import Restart, syscall
from kernel.task import Task

_LOCK_PI, _UNLOCK_PI, _TRYLOCK_PI, _LOCK_PI2 = 6, 7, 8, 13
_WAIT_REQUEUE_PI, _CMP_REQUEUE_PI = 11, 12
_ROBUST_LIST, _HEAD_SIZE = Slot.ROBUST_LIST // 8, 24
_WAIT_BITSET, _ANY = 9, 0xFFFF_FFFF
_CLOCK_REALTIME = 256
_COMMAND = ~(FUTEX_PRIVATE | _CLOCK_REALTIME)


@syscall(restart=Restart.FUTEX, missing="priority inheritance, FUTEX_WAIT_REQUEUE_PI")
async def futex(
    task: Task, uaddr: Pointer, op: Int, val: UInt, utime: Pointer, uaddr2: Pointer, val3: UInt
) -> Answer:
    """futex(2): the PI operations."""
    command = op & _COMMAND
    if command in (_WAIT_REQUEUE_PI, _CMP_REQUEUE_PI):
        return -errno.ENOSYS
    if command not in (_LOCK_PI, _UNLOCK_PI, _TRYLOCK_PI, _LOCK_PI2):
        return Reply.hostcall("futex", uaddr, op, val, utime, uaddr2, val3)
    if op & _CLOCK_REALTIME and command != _LOCK_PI2:
        return -errno.ENOSYS
    if uaddr & 3:
        return -errno.EINVAL
    private = op & FUTEX_PRIVATE
    if command == _UNLOCK_PI:
        return await _unlock(task, uaddr, private)
    if command == _TRYLOCK_PI:
        return 0 if await _try_lock(task, uaddr, 0) is None else -errno.EAGAIN
    clock = _CLOCK_REALTIME if command == _LOCK_PI else op & _CLOCK_REALTIME
    await _lock(task, uaddr, _WAIT_BITSET | private | clock, utime)
    return 0


@syscall()
def get_robust_list(task: Task, pid: Pid, head_ptr: Pointer, len_ptr: Pointer) -> Answer:
    """get_robust_list(2), of threads of the caller's own process only."""
    target = task.process.tasks.get(pid) if pid else task
    if target is None:
        return -errno.EPERM if _alive(task, pid) else -errno.ESRCH
    head = target.slot.q[_ROBUST_LIST].to_bytes(8, "little")
    size = _HEAD_SIZE.to_bytes(8, "little")
    return Reply.out(0, (len_ptr, size), (head_ptr, head))


async def _try_lock(task: Task, address: int, waiters: int) -> int | None:
    """None: the lock is ours. Else the word that says whose it is. EDEADLK, ESRCH."""
    word = await _load(task, address)
    while True:
        owner = word & FUTEX_TID_MASK
        if owner == task.tid:
            raise LinuxError(errno.EDEADLK)
        if owner:
            if _alive(task, owner):
                return word
            before, word = word, await _load(task, address)
            if word == before:
                raise LinuxError(errno.ESRCH)
            continue  # it has unlocked, or its end was noted, since
        kept = word & (FUTEX_WAITERS | FUTEX_OWNER_DIED)
        if await compare_exchange(task, address, word, task.tid | kept | waiters):
            return None
        word = await _load(task, address)


async def _load(task: Task, address: int) -> int:
    return int.from_bytes(await task.copy_in(address, 4), "little")


def _alive(task: Task, tid: int) -> bool:
    return any(tid in process.tasks for process in task.process.container.pids.values())


async def _lock(task: Task, address: int, wait: int, timeout: int) -> None:
    waiters = 0
    while (word := await _try_lock(task, address, waiters)) is not None:
        if not word & FUTEX_WAITERS:
            if not await compare_exchange(task, address, word, word | FUTEX_WAITERS):
                continue
            word |= FUTEX_WAITERS
        try:
            await task.hostcall("futex", address, wait, word, timeout, 0, _ANY)
        except LinuxError as error:
            if error.errno != errno.EAGAIN:
                raise
        waiters = FUTEX_WAITERS


async def _unlock(task: Task, address: int, private: int) -> int:
    while True:
        word = await _load(task, address)
        if word & FUTEX_TID_MASK != task.tid:
            return -errno.EPERM
        if await compare_exchange(task, address, word, 0):
            break
    if word & FUTEX_WAITERS:
        program = Program()
        program.hostcall(
            task.abi.numbers["futex"], address, FUTEX_WAKE | private, 1, 0, 0, 0, checked=False
        )
        await task.run(program)
    return 0
