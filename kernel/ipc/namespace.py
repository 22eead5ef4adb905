"""Everything System V and POSIX that one container has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernel.ipc.mqueue import Queues as PosixQueues
from kernel.ipc.msg import Queues
from kernel.ipc.sem import Semaphores
from kernel.ipc.shm import Segments

if TYPE_CHECKING:
    from kernel.task import Task


class IpcNamespace:
    """The `ipc` of a Container. Empty until a guest uses it."""

    def __init__(self) -> None:
        self.segments = Segments()
        self.semaphores = Semaphores()
        self.queues = Queues()
        self.posix_queues = PosixQueues()

    def close(self) -> None:
        """The container has ended: give host objects back."""
        self.segments.close()
        self.posix_queues.close()


def ipc_of(task: Task) -> IpcNamespace:
    """The namespace of a task's container, made at its first use."""
    container = task.process.container
    if container.ipc is None:
        container.ipc = IpcNamespace()
    ipc: IpcNamespace = container.ipc
    return ipc
