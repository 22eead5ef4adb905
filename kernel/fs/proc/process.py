"""/proc/PID: one directory a process, and one below task/ a thread.

Who may look: the mode bits decide, and for what tells of a process's memory, files or environment
also the rule of ptrace(2) (same ids, or CAP_SYS_PTRACE).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from codegen.layout import STUB_FDS
from kernel.errors import LinuxError
from kernel.fs.descriptors import descriptor_name, host_stat, link_of, node_of
from kernel.fs.metadata import SYMLINK, head
from kernel.fs.node import Entry, FileSystem, Node
from kernel.fs.proc import host, memory, mountinfo, status
from kernel.fs.synthetic import Directory, File, Link, SyntheticNode, Table
from kernel.host.linux_fs import lstat_raw
from kernel.isa.openflags import O_LARGEFILE

if TYPE_CHECKING:
    from kernel.process import Process
    from kernel.task import Task

CAP_SYS_PTRACE: Final = 19
CAP_SYS_RESOURCE: Final = 24
_STUB_FDS: Final = frozenset(STUB_FDS)
_FD_TEXT: Final = b"pos:\t%d\nflags:\t0%o\nmnt_id:\t%d\nino:\t%d\n"
_NAMESPACES: Final = {
    b"cgroup": 4026531835,
    b"ipc": 4026532201,
    b"mnt": 4026532199,
    b"net": 4026532204,
    b"pid": 4026532202,
    b"pid_for_children": 4026532202,
    b"time": 4026531834,
    b"time_for_children": 4026531834,
    b"user": 4026531837,
    b"uts": 4026532200,
}


def may_look(task: Task, process: Process) -> bool:
    """ptrace_may_access(PTRACE_MODE_READ_FSCREDS)."""
    if process is task.process:
        return True
    who = task.credentials
    if who.can(CAP_SYS_PTRACE):
        return True
    leader = process.leader
    if leader is None:
        return False
    other = leader.credentials
    return (
        {other.uid, other.euid, other.suid} == {who.fsuid}
        and {other.gid, other.egid, other.sgid} == {who.fsgid}
        and not other.permitted & ~who.permitted
    )


class ProcessDirectory(Directory):
    """/proc/PID, or /proc/PID/task/TID when `thread` is given."""

    __slots__ = ("process", "thread")

    def __init__(
        self, fs: FileSystem, parent: Node, name: bytes, process: Process, thread: Task | None
    ) -> None:
        super().__init__(fs, parent, name)
        self.process = process
        self.thread = thread
        task = thread or process.leader
        if task is not None:
            self.uid, self.gid = task.credentials.euid, task.credentials.egid

    @property
    def gone_process(self) -> bool:
        """The process has been waited for since this directory was looked up."""
        return self.process.container.pids.get(self.process.pid) is not self.process

    def lookup(self, name: bytes) -> Node:
        if self.gone_process:
            raise LinuxError(errno.ENOENT)
        make = _NODES.get(name)
        if make is None or (self.thread is not None and name == b"task"):
            return self.negative(name)
        node = make(self, name)
        node.uid, node.gid = self.uid, self.gid
        return node

    def entries(self, task: Task) -> list[Entry]:
        if self.gone_process:
            raise LinuxError(errno.ENOENT)
        nodes = (self.lookup(name) for name in _NODES)
        return [Entry(n.name, n.inode(), n.kind >> 12) for n in nodes if n.kind]


Maker = Callable[[ProcessDirectory, bytes], SyntheticNode]
_Content = Callable[["Task", "Process", "Task | None"], bytes]
_Store = Callable[["Task", "Process", "Task | None", bytes], None]


def _file(
    content: _Content,
    mode: int = 0o444,
    store: _Store | None = None,
    live: bool = False,
    private: bool = False,
) -> Maker:
    """A file of a process; `private`: only for those who may trace it."""

    def make(directory: ProcessDirectory, name: bytes) -> SyntheticNode:
        process, thread = directory.process, directory.thread

        def read(task: Task) -> bytes:
            if private and not may_look(task, process):
                raise LinuxError(errno.EACCES)
            return content(task, process, thread)

        def write(task: Task, data: bytes) -> None:
            if not may_look(task, process):
                raise LinuxError(errno.EACCES)
            assert store is not None
            store(task, process, thread, data)

        return File(directory, name, read, write if store else None, mode, live)

    return make


def _host(name: bytes) -> _Content:
    return lambda _task, process, thread: host.read_of(process, name, thread)


def _fixed(data: bytes) -> _Content:
    return lambda _task, _process, _thread: data


def _link(
    text: Callable[[Task, Process], bytes], jump: Callable[[Task, Process], Node | None]
) -> Maker:
    def make(directory: ProcessDirectory, name: bytes) -> SyntheticNode:
        process = directory.process

        def guarded(task: Task) -> bytes:
            if not may_look(task, process):
                raise LinuxError(errno.EACCES)
            return text(task, process)

        def go(task: Task) -> Node | None:
            guarded(task)
            return jump(task, process)

        return Link(directory, name, guarded, go)

    return make


# -- links -----------------------------------------------------------------------------------------


def _exe(_task: Task, process: Process) -> Node:
    node = process.exe
    if not isinstance(node, Node) or process.zombie:
        raise LinuxError(errno.ENOENT)
    while node.moved is not None:
        node = node.moved
    return node


def _exe_text(task: Task, process: Process) -> bytes:
    return _shown(_exe(task, process), task)


def _shown(node: Node, task: Task) -> bytes:
    path = node.path(task.fs.root)
    return path + b" (deleted)" if node.gone else path


def _leader(process: Process) -> Task:
    leader = process.leader
    if leader is None:
        raise LinuxError(errno.ENOENT)
    return leader


def _cwd(_task: Task, process: Process) -> Node:
    return _leader(process).fs.cwd


def _root(_task: Task, process: Process) -> Node:
    return _leader(process).fs.root


# -- descriptors -----------------------------------------------------------------------------------


def descriptors(process: Process) -> list[int]:
    """The guest's open descriptors, without the stub's own."""
    if process.zombie or not process.host_pid:
        return []
    try:
        names = os.listdir(b"/proc/%d/fd" % process.host_pid)
    except OSError:
        return sorted(process.files)
    return sorted(fd for fd in map(int, names) if fd not in _STUB_FDS)


def _fd_directory(make_entry: Callable[[Node, Process, int], SyntheticNode]) -> Maker:
    def make(directory: ProcessDirectory, name: bytes) -> SyntheticNode:
        process = directory.process

        def names(task: Task) -> list[bytes]:
            if not may_look(task, process):
                raise LinuxError(errno.EACCES)
            return [b"%d" % fd for fd in descriptors(process)]

        def find(parent: Node, entry: bytes) -> Node | None:
            if not entry.isdigit() or (entry[:1] == b"0" and len(entry) > 1):
                return None
            fd = int(entry)
            known = process.files.get(fd) is not None
            if fd in _STUB_FDS or not (
                known or os.path.lexists(b"/proc/%d/fd/%d" % (process.host_pid, fd))
            ):
                return None
            node = make_entry(parent, process, fd)
            node.uid, node.gid = directory.uid, directory.gid
            return node

        return Table(directory, name, names, find, 0o500)

    return make


def _fd_link(parent: Node, process: Process, fd: int) -> SyntheticNode:
    def owner(task: Task) -> Task:
        if not may_look(task, process):
            raise LinuxError(errno.EACCES)
        return _leader(process)

    link = Link(
        parent,
        b"%d" % fd,
        lambda task: descriptor_name(owner(task), fd, task.fs.root),
        lambda task: node_of(owner(task), fd),
    )
    link.mode = SYMLINK | _access(process, fd)
    link.size = 64
    return link


def _access(process: Process, fd: int) -> int:
    """The link's permission bits say how the descriptor was opened."""
    file = process.files.get(fd)
    if file is not None:
        return {os.O_RDONLY: 0o500, os.O_WRONLY: 0o300}.get(file.flags & os.O_ACCMODE, 0o700)
    raw = lstat_raw(b"/proc/%d/fd/%d" % (process.host_pid, fd))
    return head(raw)[3] & 0o700 if isinstance(raw, bytes) else 0o700


def _fd_info(parent: Node, process: Process, fd: int) -> SyntheticNode:
    def content(task: Task) -> bytes:
        if not may_look(task, process):
            raise LinuxError(errno.EACCES)
        file = process.files.get(fd)
        if file is not None:
            flags = file.flags | (0o2000000 if process.files.cloexec(fd) else 0)
            node = file.node
            shown = task.isa.open_flags.to_guest(flags | O_LARGEFILE)
            return _FD_TEXT % (file.position, shown, node.fs.id, node.inode())
        text = host.read(b"/proc/%d/fdinfo/%d" % (process.host_pid, fd))
        if not text:
            raise LinuxError(errno.ENOENT)
        return _guest_fdinfo(_leader(process), fd, text)

    return File(parent, b"%d" % fd, content)


def _guest_fdinfo(task: Task, fd: int, text: bytes) -> bytes:
    """The host's fdinfo with the guest's mount id and, for a pidfd, the guest's pid."""
    container = task.process.container
    found = container.mounts.locate(os.readlink(link_of(task, fd)))
    rows = []
    for line in text.splitlines():
        name, _, value = line.partition(b":")
        if name == b"mnt_id":
            value = b"\t%d" % (found[0].id if found else 15)
        elif name == b"flags":
            value = b"\t0%o" % task.isa.open_flags.to_guest(int(value, 8))
        elif name == b"ino" and found:
            value = b"\t%d" % head(container.mounts.present(task, fd, host_stat(task, fd)))[1]
        elif name in (b"Pid", b"NSpid"):
            number = int(value.split()[0])
            process = container.by_host_pid.get(number)
            value = b"\t%d" % (process.pid if process is not None else min(number, 0))
        rows.append(name + b":" + value + b"\n")
    return b"".join(rows)


# -- small directories -----------------------------------------------------------------------------


def _tasks(directory: ProcessDirectory, name: bytes) -> SyntheticNode:
    process = directory.process

    def find(parent: Node, entry: bytes) -> Node | None:
        thread = process.tasks.get(int(entry)) if entry.isdigit() else None
        if thread is None:
            return None
        return ProcessDirectory(parent.fs, parent, entry, process, thread)

    table = Table(
        directory, name, lambda _task: [b"%d" % tid for tid in sorted(process.tasks)], find
    )
    table.links = 2 + len(process.tasks)
    return table


def _namespaces(directory: ProcessDirectory, name: bytes) -> SyntheticNode:
    def find(parent: Node, entry: bytes) -> Node | None:
        number = _NAMESPACES.get(entry)
        if number is None:
            return None
        kind = entry.partition(b"_")[0]
        return Link(parent, entry, lambda _task: b"%s:[%d]" % (kind, number))

    return Table(directory, name, lambda _task: list(_NAMESPACES), find, 0o511)


def _attributes(directory: ProcessDirectory, name: bytes) -> SyntheticNode:
    node = Directory(directory.fs, directory, name)
    for entry in (b"current", b"exec", b"prev", b"fscreate", b"keycreate", b"sockcreate"):
        node.add(File(node, entry, lambda _task: b""))
    return node


def _network(directory: ProcessDirectory, _name: bytes) -> SyntheticNode:
    return directory.fs.network  # type: ignore[attr-defined,no-any-return]


# -- what can be written ---------------------------------------------------------------------------


def _set_comm(task: Task, process: Process, thread: Task | None, data: bytes) -> None:
    if task.process is not process:
        raise LinuxError(errno.EINVAL)
    name = data.rstrip(b"\n").split(b"\0")[0][:15]
    target = thread or process.leader
    if target is not None:
        target.comm = name
    if thread is None or target is process.leader:
        process.comm = name


def _set_oom_score_adj(task: Task, process: Process, _thread: Task | None, data: bytes) -> None:
    try:
        value = int(data)
    except ValueError:
        raise LinuxError(errno.EINVAL) from None
    if not -1000 <= value <= 1000:
        raise LinuxError(errno.EINVAL)
    if value < process.oom_score_adj and not task.credentials.can(CAP_SYS_RESOURCE):
        raise LinuxError(errno.EACCES)
    process.oom_score_adj = value


def _accept(_task: Task, _process: Process, _thread: Task | None, _data: bytes) -> None:
    """Clearing reference bits and the like changes nothing a program can see."""


def _id_map(_task: Task, _process: Process, _thread: Task | None) -> bytes:
    return b"%10d %10d %10d\n" % (0, 0, 4294967295)


_NODES: Final[dict[bytes, Maker]] = {
    b"attr": _attributes,
    b"autogroup": _file(_fixed(b""), 0o644),
    b"auxv": _file(lambda _t, process, _th: process.auxv, 0o400, private=True),
    b"cgroup": _file(_fixed(b"0::/\n")),
    b"clear_refs": _file(_fixed(b""), 0o200, _accept),
    b"cmdline": _file(lambda _t, p, _th: status.strings(p, p.argv, "argument_area")),
    b"comm": _file(lambda _t, p, th: status.comm(p, th) + b"\n", 0o644, _set_comm),
    b"coredump_filter": _file(_fixed(b"00000033\n"), 0o644),
    b"cpuset": _file(_fixed(b"/\n")),
    b"cwd": _link(lambda t, p: _shown(_cwd(t, p), t), _cwd),
    b"environ": _file(
        lambda _t, p, _th: status.strings(p, p.environ, "environment_area"), 0o400, private=True
    ),
    b"exe": _link(_exe_text, _exe),
    b"fd": _fd_directory(_fd_link),
    b"fdinfo": _fd_directory(_fd_info),
    b"gid_map": _file(_id_map, 0o644),
    b"io": _file(_host(b"io"), 0o400, private=True),
    b"limits": _file(lambda _t, process, _th: status.limits(process)),
    b"loginuid": _file(_fixed(b"4294967295"), 0o644),
    b"maps": _file(lambda _t, p, _th: memory.maps(p), private=True),
    b"mountinfo": _file(lambda t, p, _th: mountinfo.mountinfo(t, _leader(p))),
    b"mounts": _file(lambda t, p, _th: mountinfo.mounts(t, _leader(p))),
    b"mountstats": _file(lambda t, p, _th: mountinfo.mountstats(t, _leader(p)), 0o400),
    b"net": _network,
    b"ns": _namespaces,
    b"numa_maps": _file(_fixed(b""), private=True),
    b"oom_adj": _file(
        lambda _t, process, _th: b"%d\n" % (process.oom_score_adj * 17 // 1000), 0o644
    ),
    b"oom_score": _file(_host(b"oom_score")),
    b"oom_score_adj": _file(
        lambda _t, process, _th: b"%d\n" % process.oom_score_adj, 0o644, _set_oom_score_adj
    ),
    b"pagemap": _file(_fixed(b""), 0o400, private=True),
    b"personality": _file(_fixed(b"00000000\n"), 0o400, private=True),
    b"projid_map": _file(_id_map, 0o644),
    b"root": _link(lambda t, p: _shown(_root(t, p), t), _root),
    b"sched": _file(_host(b"sched"), 0o644),
    b"schedstat": _file(_host(b"schedstat")),
    b"sessionid": _file(_fixed(b"4294967295")),
    b"setgroups": _file(_fixed(b"allow\n"), 0o644),
    b"smaps": _file(lambda _t, p, _th: memory.smaps(p), private=True),
    b"smaps_rollup": _file(lambda _t, p, _th: memory.smaps_rollup(p), private=True),
    b"stat": _file(lambda _t, p, th: status.stat(p, th), live=True),
    b"statm": _file(lambda _t, p, th: status.statm(p, th), live=True),
    b"status": _file(lambda _t, p, th: status.status(p, th), live=True),
    b"task": _tasks,
    b"timens_offsets": _file(
        _fixed(b"monotonic           0         0\nboottime            0         0\n")
    ),
    b"timerslack_ns": _file(_fixed(b"50000\n"), 0o666),
    b"uid_map": _file(_id_map, 0o644),
    b"wchan": _file(_fixed(b"0")),
}
