"""System V message queues (msgop(2), msgctl(2))."""

from __future__ import annotations

import errno
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from kernel.errors import LinuxError
from kernel.ipc.objects import IPC_NOWAIT, READ, WRITE, Object, Registry
from kernel.task import Waiter

if TYPE_CHECKING:
    from kernel.credentials import Credentials
    from kernel.task import Task

MSGMNI, MSGMAX, MSGMNB = 32000, 8192, 16384
_MSG_NOERROR, _MSG_EXCEPT, _MSG_COPY = 0o10000, 0o20000, 0o40000


class Message(NamedTuple):
    """One message."""

    type: int
    text: bytes


class Queue(Object):
    """A queue with its sleeping senders and receivers, each woken to look again."""

    def __init__(self, key: int, mode: int, who: Credentials) -> None:
        super().__init__(key, mode, who)
        self.messages: deque[Message] = deque()
        self.bytes = 0
        self.limit = MSGMNB
        self.sent = self.received = 0  # times
        self.last_sender = self.last_receiver = 0
        self.senders: list[Waiter] = []
        self.receivers: list[Waiter] = []

    def has_room(self, size: int) -> bool:
        """Whether a message of `size` bytes may be queued now."""
        return self.bytes + size <= self.limit and len(self.messages) + 1 <= self.limit

    def choose(self, wanted: int, flags: int) -> Message | None:
        """The message msgrcv(2) would take."""
        if flags & _MSG_COPY:
            return self.messages[wanted] if 0 <= wanted < len(self.messages) else None
        if wanted == 0:
            return self.messages[0] if self.messages else None
        if wanted < 0:
            low = [message for message in self.messages if message.type <= -wanted]
            return min(low, key=lambda message: message.type) if low else None
        unwanted = bool(flags & _MSG_EXCEPT)
        for message in self.messages:
            if (message.type == wanted) != unwanted:
                return message
        return None

    def wake(self, waiters: list[Waiter]) -> None:
        """Let sleepers look again."""
        woken, waiters[:] = waiters[:], []
        for waiter in woken:
            waiter.wake()

    async def sleep(self, task: Task, waiters: list[Waiter]) -> None:
        """Sleep among `waiters`. LinuxError(EIDRM) if the queue was removed meanwhile."""
        waiter = Waiter()
        waiters.append(waiter)
        try:
            await task.sleep_on(waiter)
        finally:
            if waiter in waiters:
                waiters.remove(waiter)
        if self.removed:
            raise LinuxError(errno.EIDRM)


class Queues:
    """All message queues of a container."""

    def __init__(self) -> None:
        self.registry: Registry[Queue] = Registry(MSGMNI)

    def get(self, task: Task, key: int, flags: int) -> int:
        """msgget(2)."""
        found = self.registry.get(task, key, flags, lambda _found: None)
        if found is not None:
            return found.id
        return self.registry.add(Queue(key, flags, task.credentials))

    def remove(self, gone: Queue) -> None:
        """IPC_RMID."""
        self.registry.drop(gone)
        gone.messages.clear()
        gone.wake(gone.senders)
        gone.wake(gone.receivers)

    async def send(self, task: Task, identifier: int, message: Message, flags: int) -> int:
        """msgsnd(2)."""
        queue = self.registry.find(identifier)
        while True:
            queue.check(task.credentials, WRITE)
            if queue.has_room(len(message.text)):
                break
            if flags & IPC_NOWAIT:
                return -errno.EAGAIN
            await queue.sleep(task, queue.senders)
        queue.messages.append(message)
        queue.bytes += len(message.text)
        queue.sent = int(time.time())
        queue.last_sender = task.process.pid
        queue.wake(queue.receivers)
        return 0

    async def receive(
        self, task: Task, identifier: int, size: int, wanted: int, flags: int
    ) -> Message:
        """msgrcv(2): the message, its text cut to `size` if the flags allow that. E2BIG, ENOMSG."""
        queue = self.registry.find(identifier)
        if flags & _MSG_COPY and (flags & _MSG_EXCEPT or not flags & IPC_NOWAIT):
            raise LinuxError(errno.EINVAL)
        while True:
            queue.check(task.credentials, READ)
            message = queue.choose(wanted, flags)
            if message is not None:
                break
            if flags & IPC_NOWAIT:
                raise LinuxError(errno.ENOMSG)
            await queue.sleep(task, queue.receivers)
        if len(message.text) > size and not flags & _MSG_NOERROR:
            raise LinuxError(errno.E2BIG)
        if not flags & _MSG_COPY:
            queue.messages.remove(message)
            queue.bytes -= len(message.text)
            queue.received = int(time.time())
            queue.last_receiver = task.process.pid
            queue.wake(queue.senders)
        return message._replace(text=message.text[:size])
