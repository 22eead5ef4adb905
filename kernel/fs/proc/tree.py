"""The root of /proc: processes by number, the files of `system`, sys/ and net/."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from kernel.errors import LinuxError
from kernel.fs.node import Entry, Node
from kernel.fs.proc import network, sysctl, system
from kernel.fs.proc.process import ProcessDirectory
from kernel.fs.synthetic import Directory, File, Link, SyntheticFs, cast_directory, fill

if TYPE_CHECKING:
    from kernel.process import Process
    from kernel.task import Task


class ProcFs(SyntheticFs):
    """proc for one container: that of the first task which comes here."""

    def __init__(self, device: int) -> None:
        super().__init__(b"proc", 0x9FA0, device)
        self.options = [b"nosuid", b"nodev", b"noexec"]
        self.container: Any = None
        root = ProcRoot(self)
        self.root: Node = root
        for name, make in system.FILES.items():
            fill(root, {name: make})
        for name, make in system.LIVE.items():
            if system.available(name):
                fill(root, {name: make}, live=True)
        cast_directory(root.add(Directory(self, root, b"sys")))
        fill(cast_directory(root.children[b"sys"]), sysctl.files())
        self.network = Directory(self, root, b"net")
        fill(self.network, network.FILES)
        root.add(Link(root, b"self", lambda task: b"%d" % task.process.pid))
        root.add(
            Link(root, b"thread-self", lambda task: b"%d/task/%d" % (task.process.pid, task.tid))
        )
        root.add(Link(root, b"mounts", lambda _task: b"self/mounts"))
        root.add(Link(root, b"net", lambda _task: b"self/net"))
        for directory in (b"fs", b"bus", b"driver", b"irq", b"tty", b"acpi"):
            root.add(Directory(self, root, directory))
        for refused in (b"kmsg", b"kcore", b"sysrq-trigger"):
            root.add(File(root, refused, _refused, mode=0o400))

    def visited(self, task: Task) -> None:
        if self.container is None:
            self.container = task.process.container

    def processes(self) -> dict[int, Process]:
        """The container's processes by pid."""
        found: dict[int, Process] = self.container.pids if self.container is not None else {}
        return found


def _refused(_task: Task) -> bytes:
    raise LinuxError(errno.EPERM)


class ProcRoot(Directory):
    """/proc itself."""

    __slots__ = ()

    fs: ProcFs

    def __init__(self, fs: ProcFs) -> None:
        super().__init__(fs, None, b"")

    def lookup(self, name: bytes) -> Node:
        if name.isdigit():
            number = int(name)
            if name != b"%d" % number:
                return self.negative(name)
            process = self.fs.processes().get(number)
            if process is None:
                process = self._by_thread(number)
            if process is None:
                return self.negative(name)
            return ProcessDirectory(self.fs, self, name, process, None)
        return super().lookup(name)

    def _by_thread(self, number: int) -> Process | None:
        """/proc/TID is there for every thread, though not listed."""
        for process in self.fs.processes().values():
            if number in process.tasks:
                return process
        return None

    def entries(self, task: Task) -> list[Entry]:
        found = super().entries(task)
        found += [
            Entry(b"%d" % pid, self.lookup(b"%d" % pid).inode(), 4)
            for pid in sorted(self.fs.processes())
        ]
        return found
