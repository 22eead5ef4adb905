"""A running container: its processes, ids, slots and ring; birth and death of processes.

One kernel process serves one container. Nothing here knows the Docker API: `kernel.boot` builds a
Container from a ContainerSpec and reports its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal as host_signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.layout import BELL_FD, CTRL_FD, SLOT_LIMIT, STUB_FD, WATCH_FD, Slot
from codegen.poll import build_poll
from kernel import endings, isa
from kernel.channel import Stock
from kernel.clock import Clock
from kernel.credentials import Credentials
from kernel.dispatch import Dispatcher
from kernel.errors import LinuxError
from kernel.fs.filetable import FileTable
from kernel.host.engines import host_isa
from kernel.host.linux import tgkill
from kernel.limits import container_limits
from kernel.loader import lay_out_early, prepare
from kernel.look import Look
from kernel.memory_limit import MemoryLimit
from kernel.poller import Poller
from kernel.process import Process
from kernel.reaping import Reaper
from kernel.records import Records
from kernel.ring import Ring
from kernel.signals.state import (
    SIGKILL,
)
from kernel.slot import SlotPool
from kernel.task import Task, Waiter
from kernel.texts import Untouched
from kernel.weak_ring import Ordering, WeakRing

if TYPE_CHECKING:
    from codegen.image import StubImage
    from kernel.fs.context import FsContext
    from kernel.fs.mounts import MountTable
    from kernel.host.engines import Engine
    from kernel.host.walls import Walls
    from kernel.slot import SlotMemory
    from kernel.spec import ContainerSpec
    from kernel.texts import TextPolicy
    from tables import Table

_log = logging.getLogger("ddock.kernel")
_EAGAIN = 11
_PID_MAX = 32767


@dataclass(frozen=True)
class Start:
    """What to execute: an absolute or relative guest path (already looked up in PATH)."""

    path: bytes
    argv: list[bytes]
    envp: list[bytes]
    terminal: bool = False


class Container:
    """The root object of a kernel process. `on_end(status)` is called once init is gone."""

    def __init__(
        self,
        spec: ContainerSpec,
        abi: Table,
        stub: StubImage,
        mounts: MountTable,
        on_end: Callable[[int], None],
        engine: Engine,
    ) -> None:
        self.spec = spec
        self.abi = abi
        self.isa = isa.of(abi.isa)
        self.stub = stub
        self.engine = engine
        self.page_size = engine.profile.page_size  # as guests see it, bytes
        self.larger_pages = engine.larger_pages
        self.walls: Walls | None = None  # put up before an emulator runs
        self.stub_fd = os.open(stub.path, os.O_RDONLY | os.O_CLOEXEC)
        self.translations: TextPolicy = Untouched()
        self.capabilities = 0  # the bounding set of what starts from outside
        self.mounts = mounts
        self.hostname = spec.hostname.encode()
        self.domainname = spec.domainname.encode() or b"(none)"
        self.clock = Clock()
        self.network: Any = None
        self.ipc: Any = None
        self.pids_limit = spec.pids_limit or SLOT_LIMIT
        self.oom_killed = False
        self.memory = MemoryLimit(self)
        self.pids: dict[int, Process] = {}
        self.by_host_pid: dict[int, Process] = {}
        self.stopped: set[Process] = set()  # by job control
        self.collected: set[Process] = set()  # waited for, but not known to have ended
        self.signal_waits: dict[Task, tuple[int, Waiter]] = {}
        self.calls_entered = 0  # system calls of threads that have ended ...
        self.calls_trapped = 0  # ... and how many of them came through a trap
        self.socket_timeouts = False  # some socket has SO_RCVTIMEO or SO_SNDTIMEO
        self.pidfd_users = False  # some guest has a pidfd
        self.pidfd_inodes: dict[int, int] = {}  # inode of pidfds -> guest pid
        self.host_groups: dict[int, int] = {}  # guest process group or session -> host id
        self.ioctl_handler: Callable[..., Any] | None = None  # network requests (SIOC*)
        self.dispatcher = Dispatcher(self)
        self._reaper = Reaper(self)
        self.records = Records()
        self.ring = self._make_ring()
        self.channels = Stock(self.ring.later)
        self.slots = SlotPool(SLOT_LIMIT, self.records)
        self._retired: list[tuple[SlotMemory, int, int]] = []
        self._last_pid = 0
        self._wrapped = False  # ids have been used before
        self._tids: set[int] = set()
        self._on_end = on_end
        self.ended = False
        self.confinement: Callable[[Task], Any] | None = None

    def _make_ring(self) -> Ring:
        arguments = self.dispatcher.serve, self.reap, self.engine.host_kick, self.records
        if self.engine.kind == "native" and self.isa.weakly_ordered:
            return WeakRing(*arguments, Ordering(self.stub))
        code = build_poll(host_isa(), Path(self.spec.cache))
        if code is None:
            return Ring(*arguments)
        try:
            poller = Poller(code, self.abi, self.isa, self.records, self.mounts.answers)
        except OSError as error:  # a host or an interpreter that lets nobody make code
            _log.warning("requests are polled for in Python: %s", error)
            return Ring(*arguments)
        return Ring(*arguments, poller, self.dispatcher.serve_plain)

    # -- starting --------------------------------------------------------------------------------

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve guests on `loop`, which runs in the main thread."""
        self.ring.start(loop)
        host_signal.signal(host_signal.SIGCHLD, self._child_signal)

    def _child_signal(self, _number: int, _frame: object) -> None:
        self.ring.interrupt()

    def new_pid(self) -> int:
        """A free id; ids go up and wrap at 32768 as Linux's do (never to a small one)."""
        if not self._wrapped and self._last_pid < _PID_MAX:
            self._last_pid += 1
            self._tids.add(self._last_pid)
            return self._last_pid
        self._wrapped = True
        for _ in range(32768):
            self._last_pid = self._last_pid + 1 if self._last_pid < _PID_MAX else 300
            if self._last_pid not in self._tids and not self._in_use(self._last_pid):
                self._tids.add(self._last_pid)
                return self._last_pid
        raise LinuxError(_EAGAIN)

    def _in_use(self, number: int) -> bool:
        return number in self.pids or any(
            number in (p.group, p.session) for p in self.pids.values()
        )

    def unborn(self, slot: SlotMemory, pid: int) -> None:
        """A process whose birth failed before it was told of: its slot and id are free again."""
        self._tids.discard(pid)
        self.slots.give(slot)

    def take_slot(self) -> SlotMemory:
        """A slot for a new thread; EAGAIN when the container has its full number of them."""
        if len(self._tids) >= self.pids_limit:
            raise LinuxError(_EAGAIN)
        if self._retired:
            self._collect_slots()
        slot = self.slots.take()
        if slot is None:
            raise LinuxError(_EAGAIN)
        return slot

    def guest_group(self, host: int) -> int:
        """The guest's id of a host process group; 0 for none of ours."""
        for group, founder in self.host_groups.items():
            if founder == host and any(p.group == group for p in self.pids.values()):
                return group
        return 0

    def spawn(
        self,
        start: Start,
        credentials: Credentials,
        fs: FsContext,
        stdio: tuple[int, int, int],
    ) -> Process:
        """Start a process from outside: the container's init or `docker exec`. LinuxError."""
        slot = self.take_slot()
        pid = self.new_pid()
        files = FileTable(slot.flags_view)
        process = Process(self, pid, None, slot, self.channels.take(), files)
        process.group = process.session = pid
        process.terminal_stdin = start.terminal
        process.limits = container_limits(self.spec)
        task = Task(process, pid, slot, credentials, fs, self.abi)
        try:
            process.image = prepare(task, start.path, start.argv, start.envp)
        except BaseException:
            process.channel.close()
            self._tids.discard(pid)
            self.slots.give(slot)
            if pid == self._last_pid:
                self._last_pid -= 1
            raise
        process.first_boot = True
        if self.spec.init:  # a real init of Docker's would pass signals on to it
            process.unkillable = False
        task.write_identity()
        self.add_task(task)
        self.pids[pid] = process
        process.channel.send_boot(slot, self.ring.page_fd)
        descriptors = [
            *((fd, number) for number, fd in enumerate(stdio)),
            (self.stub_fd, WATCH_FD),  # a guest's F_DUPFD must never find it free
            (self.stub_fd, STUB_FD),
            (process.channel.guest_end.fileno(), CTRL_FD),
            (self.ring.bell_fd, BELL_FD),
        ]
        process.host_pid = self._start(descriptors)
        slot.words[Slot.HOST_TID // 4] = process.host_pid
        self.host_groups[pid] = process.host_pid
        process.channel.guest_end.close()
        self.ring.later(functools.partial(lay_out_early, task, process.image))
        return process

    def _start(self, descriptors: list[tuple[int, int]]) -> int:
        """The host process of a new guest process: its pid."""
        path, arguments = self.engine.command(str(self.stub.path))
        if self.walls is not None:
            return self.walls.spawn((path, arguments, self.engine.environment), descriptors)
        return os.posix_spawn(
            path,
            arguments,
            self.engine.environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in descriptors],
            setsid=True,
            setsigmask=host_signal.valid_signals(),
            setsigdef=host_signal.valid_signals() - {SIGKILL, 19},
        )

    def add_task(self, task: Task) -> None:
        """A new thread: reachable by its slot and its process. Its identity is in the slot."""
        task.process.tasks[task.tid] = task
        self.ring.attach(task)

    # -- ending ----------------------------------------------------------------------------------

    def retire_task(self, task: Task) -> None:
        """A thread has announced its end; its slot is reused when the host thread is gone."""
        process = task.process
        if process.tasks.pop(task.tid, None) is None:
            return
        task.wean()
        task.abandon()
        for waiter in (*task.errands_done, *(waiter for _, _, waiter in task.errands)):
            waiter.wake()
        self.calls_entered += task.slot.q[Slot.ENTRIES // 8]
        self.calls_trapped += task.slot.q[Slot.TRAPS // 8]
        self.signal_waits.pop(task, None)
        self.ring.detach(task)
        if task.tid != process.pid:
            self._tids.discard(task.tid)
        if task.slot is not process.leader_slot:
            self._retired.append((task.slot, process.host_pid, task.host_tid))

    def _collect_slots(self) -> None:
        kept = []
        for slot, host_pid, host_tid in self._retired:
            process = self.by_host_pid.get(host_pid)
            if process is None:
                self.slots.give(slot)
            elif tgkill(host_pid, host_tid, 0) == 0:
                kept.append((slot, host_pid, host_tid))
            else:
                process.spare_slots.append(slot)
        self._retired = kept

    def discard(self, task: Task) -> None:
        """A task whose host thread was never made."""
        process = task.process
        process.tasks.pop(task.tid, None)
        self.ring.detach(task)
        self._tids.discard(task.tid)
        if task.slot is process.leader_slot:
            process.leader_slot = None
            process.channel.close()
            process.files.clear()
            self.pids.pop(process.pid, None)
            process.set_parent(None)
            self.slots.give(task.slot)
        else:
            process.spare_slots.append(task.slot)

    def kill(self, process: Process, signal: int) -> None:
        """End every thread of `process` now; it will be reported as killed by `signal`.

        No core is ever written, as where core_pattern leads nowhere.
        """
        if process.ending:
            return
        process.status = signal
        self.dispatcher.last_words(process)
        if process.host_pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.host_pid, SIGKILL)
        else:
            process.killed_unborn = True

    def kill_all(self) -> None:
        """End every process of the container."""
        for process in (*self.pids.values(), *self.collected):
            if not process.zombie and process.host_pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.host_pid, SIGKILL)

    def reap(self) -> None:
        """Collect host processes that have ended."""
        while (ended := self._reaper.next()) is not None:
            process = ended.process
            if process is not None:
                process.rusage = ended.usage
                endings.ended(process, ended.status)

    def learn_pidfd(self, process: Process) -> None:
        """Remember the inode that pidfds of `process` have."""
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(process.host_pid)
            self.pidfd_inodes[os.fstat(fd).st_ino] = process.pid
            os.close(fd)

    def release(self, process: Process) -> None:
        """An ended process: its threads, descriptors and timers go; memory a little later."""
        for task in list(process.tasks.values()):
            self.retire_task(task)
        process.files.clear()
        process.stop_timers()
        self.ring.later(functools.partial(self._recycle, process))

    def _recycle(self, process: Process) -> None:
        """What an ended process had of ours is free for others."""
        if process.leader_slot is not None:
            if not process.leaves_slot_behind:
                self.slots.give(process.leader_slot)
            process.leader_slot = None
        for slot in process.spare_slots:
            self.slots.give(slot)
        process.spare_slots.clear()
        self._collect_slots()
        process.channel.close()

    def forget(self, process: Process) -> None:
        """The guest's zombie is gone: nothing finds the process any more, its id is free."""
        self._reaper.release(process)
        self.pids.pop(process.pid, None)
        self._tids.discard(process.pid)

    def end(self, status: int) -> None:
        """Init has ended: so does everything."""
        self.kill_all()
        self.ended = True
        self._on_end(status)

    def look(self, credentials: Credentials, fs: FsContext) -> Look:
        """Path look-ups from outside, as somebody who is no process yet."""
        return Look(self, credentials, fs)

    def read_file(self, path: bytes) -> bytes | None:
        """A guest file's content as root sees it; None when it cannot be read."""
        return self.look(Credentials(), self.mounts.context()).read(path)

    def restart_rule(self, number: int) -> str:
        """The restart class of a system call."""
        return self.dispatcher.restart_rule(number)

    def close(self) -> None:
        """Reap what is left and give everything back."""
        self.kill_all()
        for process in (*self.pids.values(), *self.collected):
            if process.host_pid and not process.zombie:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.host_pid, 0)
        host_signal.signal(host_signal.SIGCHLD, host_signal.SIG_DFL)
        self.channels.close()
        self.ring.stop()
        os.close(self.stub_fd)
        if self.walls is not None:
            self.walls.close()
