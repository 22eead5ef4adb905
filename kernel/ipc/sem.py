"""System V semaphores (semop(2), semctl(2)).

An operation array is tried whole or not at all. Sleepers are queued in order of arrival; whoever
changes a value tries them again, carries out those that can go on, and only then wakes them.
"""

from __future__ import annotations

import asyncio
import errno
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from kernel.errors import LinuxError
from kernel.ipc.objects import IPC_NOWAIT, READ, WRITE, Object, Registry
from kernel.task import Waiter

if TYPE_CHECKING:
    from kernel.credentials import Credentials
    from kernel.process import Process
    from kernel.task import Task

SEMMNI, SEMMSL, SEMOPM, SEMVMX = 32000, 32000, 500, 32767
SEMMNS: Final = SEMMNI * SEMMSL
_SEM_UNDO: Final = 0x1000
_SEMBUF = struct.Struct("<HhH")


class Operation(NamedTuple):
    """Struct sembuf."""

    number: int
    change: int
    flags: int


class Sleeper:
    """A semop that cannot be carried out yet; `stuck` is the operation that is in the way."""

    def __init__(self, process: Process, operations: list[Operation], stuck: Operation) -> None:
        self.process = process
        self.operations = operations
        self.stuck = stuck
        self.waiter = Waiter()


class SemaphoreSet(Object):
    """A set: values, the pid that last changed each, and adjustments to undo at a process's end."""

    def __init__(self, key: int, mode: int, who: Credentials, count: int) -> None:
        super().__init__(key, mode, who)
        self.values = [0] * count
        self.pids = [0] * count
        self.operated = 0  # time
        self.sleepers: list[Sleeper] = []
        self.undo: dict[Process, list[int]] = {}

    def attempt(self, process: Process, operations: list[Operation]) -> Operation | None:
        """Carry out all of `operations`, or none and answer the one in the way. ERANGE."""
        values = dict.fromkeys((op.number for op in operations), 0)
        for number in values:
            values[number] = self.values[number]
        undo = self.undo.get(process)
        adjusted: dict[int, int] = {}
        for op in operations:
            value = values[op.number]
            if (op.change == 0 and value) or value + op.change < 0:
                return op
            if value + op.change > SEMVMX:
                raise LinuxError(errno.ERANGE)
            values[op.number] = value + op.change
            if op.flags & _SEM_UNDO:
                old = undo[op.number] if undo is not None else 0
                new = adjusted.get(op.number, old) - op.change
                if not -SEMVMX - 1 <= new <= SEMVMX:
                    raise LinuxError(errno.ERANGE)
                adjusted[op.number] = new
        for number, value in values.items():
            self.values[number] = value
            self.pids[number] = process.pid
        if adjusted:
            self._remember(process, adjusted)
        self.operated = int(time.time())
        return None

    def _remember(self, process: Process, adjusted: dict[int, int]) -> None:
        undo = self.undo.get(process)
        if undo is None:
            undo = self.undo[process] = [0] * len(self.values)
            process.on_end.append(lambda _status: self.ended(process))
        for number, value in adjusted.items():
            undo[number] = value

    def ended(self, process: Process) -> None:
        """A process has ended: take back what it did with SEM_UNDO."""
        undo = self.undo.pop(process, None)
        if undo is None or self.removed:
            return
        for number, change in enumerate(undo):
            if change:
                self.values[number] = max(0, min(self.values[number] + change, SEMVMX))
                self.pids[number] = process.pid
        self.retry()

    def retry(self) -> None:
        """A value has changed: let those sleepers go on that now can."""
        woken: list[tuple[Sleeper, int]] = []
        progress = True
        while progress:
            progress = False
            for sleeper in list(self.sleepers):
                try:
                    stuck = self.attempt(sleeper.process, sleeper.operations)
                except LinuxError as error:
                    outcome = -error.errno
                else:
                    if stuck is not None:
                        sleeper.stuck = stuck
                        continue
                    outcome = 0
                self.sleepers.remove(sleeper)
                woken.append((sleeper, outcome))
                progress = True
        for sleeper, outcome in woken:
            sleeper.waiter.wake(outcome)

    def waiting(self, number: int, for_zero: bool) -> int:
        """GETZCNT and GETNCNT."""
        stuck = [sleeper.stuck for sleeper in self.sleepers]
        return sum(op.number == number and (op.change == 0) == for_zero for op in stuck)

    def assign(self, task: Task, first: int, values: list[int]) -> None:
        """SETVAL, SETALL: set values and clear their undo adjustments. ERANGE."""
        if any(not 0 <= value <= SEMVMX for value in values):
            raise LinuxError(errno.ERANGE)
        for number, value in enumerate(values, first):
            self.values[number] = value
            self.pids[number] = task.process.pid
            for undo in self.undo.values():
                undo[number] = 0
        self.changed = int(time.time())
        self.retry()


class Semaphores:
    """All semaphore sets of a container."""

    def __init__(self) -> None:
        self.registry: Registry[SemaphoreSet] = Registry(SEMMNI)

    def get(self, task: Task, key: int, count: int, flags: int) -> int:
        """semget(2)."""
        if not 0 <= count <= SEMMSL:
            raise LinuxError(errno.EINVAL)

        def fits(found: SemaphoreSet) -> None:
            if count > len(found.values):
                raise LinuxError(errno.EINVAL)

        found = self.registry.get(task, key, flags, fits)
        if found is not None:
            return found.id
        if not count:
            raise LinuxError(errno.EINVAL)
        return self.registry.add(SemaphoreSet(key, flags, task.credentials, count))

    def remove(self, gone: SemaphoreSet) -> None:
        """IPC_RMID: sleepers get EIDRM."""
        self.registry.drop(gone)
        sleepers, gone.sleepers = gone.sleepers, []
        gone.undo.clear()
        for sleeper in sleepers:
            sleeper.waiter.wake(-errno.EIDRM)

    async def operate(
        self, task: Task, identifier: int, raw: bytes, count: int, seconds: float | None
    ) -> int:
        """semop(2), semtimedop(2); `seconds` limits the sleep."""
        if not count or identifier < 0:
            raise LinuxError(errno.EINVAL)
        if count > SEMOPM:
            raise LinuxError(errno.E2BIG)
        if len(raw) < count * _SEMBUF.size:
            raise LinuxError(errno.EFAULT)
        operations = [Operation(*fields) for fields in _SEMBUF.iter_unpack(raw)]
        target = self.registry.find(identifier)
        if any(op.number >= len(target.values) for op in operations):
            raise LinuxError(errno.EFBIG)
        alters = any(op.change for op in operations)
        target.check(task.credentials, WRITE if alters else READ)
        process = task.process
        stuck = target.attempt(process, operations)
        if stuck is None:
            if alters:
                target.retry()
            return 0
        if stuck.flags & IPC_NOWAIT or seconds == 0:
            return -errno.EAGAIN
        sleeper = Sleeper(process, operations, stuck)
        target.sleepers.append(sleeper)
        return await sleep(task, sleeper.waiter, seconds, lambda: _leave(target, sleeper))


def _leave(target: SemaphoreSet, sleeper: Sleeper) -> None:
    if sleeper in target.sleepers:
        target.sleepers.remove(sleeper)


async def sleep(
    task: Task, waiter: Waiter, seconds: float | None, leave: Callable[[], None]
) -> int:
    """Sleep on `waiter`, at most for a time (then -EAGAIN); `leave` takes it out of its queue."""
    handle = None
    if seconds is not None:
        handle = asyncio.get_running_loop().call_later(seconds, waiter.wake, -errno.EAGAIN)
    try:
        return int(await task.sleep_on(waiter))
    finally:
        leave()
        if handle is not None:
            handle.cancel()
