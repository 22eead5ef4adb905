"""Device nodes: /dev as Docker populates it, and what opening a device number gives.

A device node is an entry in the ownership index; opening one of the harmless devices opens the
host's own. Everything else answers EPERM, as the device cgroup of a real container does.

Pseudo terminals are the host's. /dev/pts shows exactly those that were opened in this container or
for it, under numbers of the container's own: the lowest free one, as in a devpts instance of its
own. An O_PATH descriptor pins each, so a number that the host gave to somebody else later is never
reached.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import TYPE_CHECKING, Final

from kernel.errors import LinuxError
from kernel.fs.metadata import CHARACTER, S_IFMT
from kernel.fs.node import Entry, FileSystem, Node
from kernel.fs.synthetic import Directory, SyntheticFs, SyntheticNode

if TYPE_CHECKING:
    from kernel.fs.openfile import OpenFile
    from kernel.task import Task

_TIOCGPTN: Final = 0x80045430
_SLAVES: Final = range(136, 144)
_OPEN_FLAGS = (
    os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_SYNC | os.O_NOCTTY | os.O_CLOEXEC
)  # fmt: skip

TTY: Final = os.makedev(5, 0)
PTMX: Final = os.makedev(5, 2)
_SAME_AS_HOST: Final = {
    os.makedev(1, 3): b"/dev/null",
    os.makedev(1, 5): b"/dev/zero",
    os.makedev(1, 7): b"/dev/full",
    os.makedev(1, 8): b"/dev/random",
    os.makedev(1, 9): b"/dev/urandom",
}

NODES: Final = [
    (b"null", 0o666, os.makedev(1, 3)),
    (b"zero", 0o666, os.makedev(1, 5)),
    (b"full", 0o666, os.makedev(1, 7)),
    (b"random", 0o666, os.makedev(1, 8)),
    (b"urandom", 0o666, os.makedev(1, 9)),
    (b"tty", 0o666, TTY),
]
LINKS: Final = [
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
    (b"core", b"/proc/kcore"),
    (b"ptmx", b"pts/ptmx"),
]


class TerminalDescriptor(int):
    """A just opened terminal: it may become the opener's controlling terminal (tty_open)."""

    __slots__ = ()


def is_terminal(rdev: int) -> bool:
    """Whether a device number is a pseudo terminal's slave (UNIX98_PTY_SLAVE_MAJOR)."""
    return os.major(rdev) in _SLAVES


def populate(root: Node, console: bool) -> dict[int, Node]:
    """Make the usual nodes in an empty /dev; the devices by number.

    Docker mounts the first terminal as the console.
    """
    nodes = {}
    for name, mode, rdev in NODES:
        nodes[rdev] = root.lookup(name)
        root.make_node(nodes[rdev], CHARACTER | mode, rdev, (0, 0))
    if console:
        root.make_node(root.lookup(b"console"), CHARACTER | 0o620, slave_number(0), (0, 5))
    for name, target in LINKS:
        root.make_symlink(root.lookup(name), target, (0, 0))
    for name, mode in ((b"pts", 0o755), (b"shm", 0o1777), (b"mqueue", 0o1777)):
        root.make_directory(root.lookup(name), mode, (0, 0))
    return nodes


def open_device(task: Task, node: Node, rdev: int, flags: int) -> tuple[int, OpenFile | None]:
    """Open a device node. ENXIO for sockets, EPERM for devices a container may not have."""
    if node.kind != CHARACTER:
        raise LinuxError(errno.ENXIO if node.kind & S_IFMT == 0o140000 else errno.EPERM)
    flags = (flags & _OPEN_FLAGS) | os.O_CLOEXEC
    path = _SAME_AS_HOST.get(rdev)
    if path is not None:
        return os.open(path, flags), None
    terminals = task.process.container.mounts.terminals
    if rdev == PTMX:
        return terminals.open_master(flags), None
    if rdev == TTY:
        host = _controlling_terminal(task.process.host_pid)
        return os.open(host, flags | os.O_NOCTTY), None
    if is_terminal(rdev):
        return terminals.open_slave(slave_index(rdev), flags), None
    raise LinuxError(errno.EPERM)


def _controlling_terminal(host_pid: int) -> bytes:
    """The host path of a process's controlling terminal: guests' sessions are the host's."""
    fd = os.open(b"/proc/%d/stat" % host_pid, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(fd, 4096)
    finally:
        os.close(fd)
    number = int(text[text.rindex(b")") + 2 :].split()[4])
    if not number:
        raise LinuxError(errno.ENXIO)
    return b"/dev/pts/%d" % slave_index(number)


def slave_index(rdev: int) -> int:
    """N of /dev/pts/N."""
    return (os.major(rdev) - _SLAVES.start << 20) + os.minor(rdev)


def slave_number(index: int) -> int:
    """The device number of /dev/pts/N."""
    return os.makedev(_SLAVES.start + (index >> 20), index & 0xFFFFF)


class TerminalFs(SyntheticFs):
    """devpts: the container's pseudo terminals."""

    def __init__(self, device: int, console: bytes | None = None) -> None:
        """`console`: the host path of the terminal that the container was started on, if any."""
        super().__init__(b"devpts", 0x1CD1, device)
        self.options = [b"gid=5", b"mode=620", b"ptmxmode=666"]
        self._pinned: dict[int, tuple[int, int]] = {}  # N -> (O_PATH descriptor, host's N)
        self.root: Node = TerminalDirectory(self)
        if console is not None:
            self.adopt(console)

    def open_master(self, flags: int) -> int:
        """Open /dev/ptmx on the host and let the container see the new slave."""
        fd = os.open(b"/dev/ptmx", flags | os.O_NOCTTY)
        try:
            self._pin(struct.unpack("i", fcntl.ioctl(fd, _TIOCGPTN, bytes(4)))[0])
        except OSError:
            os.close(fd)
            raise
        return fd

    def open_slave(self, index: int, flags: int) -> TerminalDescriptor:
        """Open /dev/pts/`index`. It never becomes the kernel process's own terminal."""
        if index not in self.numbers():
            raise LinuxError(errno.ENXIO)
        path = b"/proc/self/fd/%d" % self._pinned[index][0]
        flags = (flags & _OPEN_FLAGS) | os.O_CLOEXEC | os.O_NOCTTY
        return TerminalDescriptor(os.open(path, flags))

    def adopt(self, host: bytes) -> None:
        """Show a terminal that was made outside, by the host path of its slave."""
        if host.startswith(b"/dev/pts/"):
            self._pin(int(host.rpartition(b"/")[2]))

    def numbers(self) -> list[int]:
        """The slaves that still exist."""
        for index, (fd, _) in list(self._pinned.items()):
            if not os.fstat(fd).st_nlink:
                os.close(fd)
                del self._pinned[index]
        return sorted(self._pinned)

    def number_of(self, host: int) -> int | None:
        """The container's number of the host's /dev/pts/`host`; None if that is not its."""
        for index, (_, number) in self._pinned.items():
            if number == host:
                return index
        return None

    def close(self) -> None:
        for fd, _ in self._pinned.values():
            os.close(fd)
        self._pinned.clear()

    def _pin(self, host: int) -> None:
        taken = self.numbers()
        stale = self.number_of(host)
        if stale is not None:
            os.close(self._pinned.pop(stale)[0])
            taken.remove(stale)
        index = next(i for i in range(len(taken) + 1) if i not in taken)
        fd = os.open(b"/dev/pts/%d" % host, os.O_PATH | os.O_CLOEXEC)
        self._pinned[index] = (fd, host)


class TerminalDirectory(Directory):
    """/dev/pts."""

    __slots__ = ()

    fs: TerminalFs

    def __init__(self, fs: TerminalFs) -> None:
        super().__init__(fs, None, b"", 0o755)

    def lookup(self, name: bytes) -> Node:
        if name == b"ptmx":
            return Terminal(self.fs, self, name, 0o666, PTMX)
        try:
            number = int(name)
        except ValueError:
            return self.negative(name)
        if number not in self.fs.numbers() or name != b"%d" % number:
            return self.negative(name)
        return Terminal(self.fs, self, name, 0o620, slave_number(number))

    def entries(self, task: Task) -> list[Entry]:
        names = [b"ptmx", *(b"%d" % n for n in self.fs.numbers())]
        return [Entry(name, self.lookup(name).inode(), 2) for name in names]


class Terminal(SyntheticNode):
    """/dev/pts/N or /dev/pts/ptmx."""

    __slots__ = ()

    def __init__(self, fs: FileSystem, parent: Node, name: bytes, mode: int, rdev: int) -> None:
        super().__init__(fs, parent, name, CHARACTER | mode)
        self.rdev = rdev
        self.gid = 5 if rdev != PTMX else 0

    def inode(self) -> int:
        return 2 if self.rdev == PTMX else 3 + slave_index(self.rdev)

    def open(self, task: Task, flags: int) -> tuple[int, OpenFile | None]:
        if self.rdev == PTMX:
            return open_device(task, self, PTMX, flags)
        fs = self.fs
        assert isinstance(fs, TerminalFs)
        return fs.open_slave(slave_index(self.rdev), flags), None
