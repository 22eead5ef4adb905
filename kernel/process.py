"""A guest process: a thread group, its family, its descriptors, and what is left after its end.

Life: born by clone or spawn with one task; `exited` once the host process is reaped; a zombie until
a parent waits for it. The exit status is known from the stub's EXIT request or a virtual signal and
becomes visible only when the host process is gone, so that its pipes and locks are gone too.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from codegen.layout import Slot
from kernel import watching
from kernel.limits import Limits
from kernel.patching import Texts
from kernel.signals.signalfd import SignalFd
from kernel.signals.state import SIGKILL, Signals

if TYPE_CHECKING:
    from kernel.channel import Channel
    from kernel.container import Container
    from kernel.fs.filetable import FileTable
    from kernel.fs.node import Node
    from kernel.fs.openfile import OpenFile
    from kernel.loader import Image
    from kernel.reply import Result
    from kernel.slot import SlotMemory
    from kernel.task import Task, Waiter
    from kernel.timers import Timer

_RESULTS = Slot.RESULTS // 8
_HOST_TID, _CHILD_HOST_TID = Slot.HOST_TID // 4, Slot.CHILD_HOST_TID // 4
_UNSET = (1 << 64) - 1


class Process:
    """One thread group. `status` is a wait(2) status once known."""

    # What every process begins with, until it is assigned: fork(2) makes many.
    exe: Node | None = None
    comm = b""
    auxv = b""
    brk_start = 0
    brk_end = 0
    stack_at = 0  # an address within the first thread's stack
    oom_score_adj = 0
    image: Image | None = None  # what the next BOOT loads
    first_boot = False  # the stub is to be confined before it loads anything
    terminal_stdin = False  # stdin becomes the controlling terminal
    leaves_slot_behind = False  # its slot stays mapped in memory that it shared
    status: int | None = None
    killed_unborn = False  # before the host had made it
    doomed = False  # SIGKILL waits for its robust mutexes to be released
    zombie = False
    collected_by: Process | None = None  # who has waited for it before we knew of its end
    orphan = False  # its parent has ended before it
    stopped = False
    stop_report: int | None = None  # signal number not yet reported by wait
    continue_report = False
    exit_signal = 17
    has_execed = False
    subreaper = False
    death_signal = 0
    real_timer: Timer | None = None  # ITIMER_REAL
    dumpable = 1
    watched = 0  # pid of the only child, whose pidfd is WATCH_FD (kernel.watching)
    rusage: tuple[float, float, int] = (0.0, 0.0, 0)
    children_rusage: tuple[float, float, int] = (0.0, 0.0, 0)
    maker: SlotMemory | None = None  # slot of the thread that makes it, until its host pid is known
    _host_pid = 0

    def __init__(
        self,
        container: Container,
        pid: int,
        parent: Process | None,
        slot: SlotMemory,
        channel: Channel,
        files: FileTable,
    ) -> None:
        self.container = container
        self.pid = pid
        self.parent = parent
        self.children: list[Process] = []
        self.tasks: dict[int, Task] = {}
        self.channel = channel
        self.leader_slot: SlotMemory | None = slot  # its fd flags count for every thread
        self.files = files
        self.unkillable = pid == 1  # default actions do nothing, until it faults
        self.spare_slots: list[SlotMemory] = []  # mapped here, of threads that have ended
        self.mapped_slots: set[int] = set()  # addresses of thread slots mapped in this process
        self.signal_fds: list[SignalFd] = []
        self.posix_timers: dict[int, tuple[Timer, int]] = {}  # id -> (timer, clock)
        self.start_time_ns = container.clock.monotonic_ns()
        self.waiters: list[Waiter] = []  # tasks of this process inside wait4 or waitid
        self.on_end: list[Callable[[int], None]] = []  # called with the wait status
        self._expected: deque[tuple[Task, int, bool, OpenFile | None]] = deque()
        if parent is None:
            self.group = self.session = pid
            self.limits = Limits()
            self.argv: list[bytes] = []
            self.environ: list[bytes] = []
            self.signals = Signals()
            self.texts = Texts()
        else:
            parent.children.append(self)
            self._inherit(parent)

    def _inherit(self, parent: Process) -> None:
        """Take over what fork(2) copies. Lists of strings are replaced, never changed."""
        self.group, self.session = parent.group, parent.session
        self.comm, self.exe, self.auxv = parent.comm, parent.exe, parent.auxv
        self.argv, self.environ = parent.argv, parent.environ
        self.brk_start, self.brk_end = parent.brk_start, parent.brk_end
        self.stack_at = parent.stack_at
        self.oom_score_adj = parent.oom_score_adj
        self.limits = parent.limits.copy()
        self.signals = parent.signals.copy()
        self.texts = parent.texts.copy()

    @property
    def host_pid(self) -> int:
        """The host's process id, 0 until the host has made the process.

        The process itself tells it, once it runs; its maker knows it before.
        """
        if not self._host_pid and self.leader_slot is not None:
            number = self.leader_slot.words[_HOST_TID]
            if not number and self.maker is not None:
                number = self.maker.words[_CHILD_HOST_TID]
            if number:
                self._host_pid = number
                self.maker = None
                self.container.by_host_pid[number] = self
        return self._host_pid

    @host_pid.setter
    def host_pid(self, value: int) -> None:
        self._host_pid = value
        self.container.by_host_pid[value] = self

    def learn_host_pid(self) -> None:
        """Its maker's slot is about to forget it. What was killed before it existed ends now."""
        if self.host_pid and self.killed_unborn:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.host_pid, SIGKILL)
        self.maker = None

    @property
    def leader(self) -> Task | None:
        """The thread whose tid is the pid, if it is still there; else any thread."""
        return self.tasks.get(self.pid) or next(iter(self.tasks.values()), None)

    @property
    def patchable(self) -> bool:
        """The low tables that patched text jumps through are mapped."""
        return self.texts.patchable

    @property
    def ending(self) -> bool:
        """The process will not run guest code again."""
        return self.status is not None

    # -- descriptors on their way to the guest ---------------------------------------------------

    def expect(self, task: Task, result: Result, cloexec: bool, open_file: OpenFile | None) -> None:
        """A flagged descriptor will appear in `task`'s RESULTS; `settle` finds its number."""
        if open_file is None:
            return
        task.slot.q[_RESULTS + int(result)] = _UNSET
        task.hold()
        self._expected.append((task, int(result), cloexec, open_file))

    def settle(self) -> None:
        """Register flagged descriptors that the guest has received since."""
        for _ in range(len(self._expected)):
            task, register, cloexec, open_file = self._expected.popleft()
            number = task.slot.q[_RESULTS + register]
            if number == _UNSET:
                if task.tid in self.tasks:
                    task.hold()
                    self._expected.append((task, register, cloexec, open_file))
            elif number < 1 << 31 and open_file is not None:
                self.files.set(number, open_file, cloexec)

    @property
    def unsettled(self) -> bool:
        """Descriptors are on their way."""
        return bool(self._expected)

    # -- the end ---------------------------------------------------------------------------------

    def stop_timers(self, posix_only: bool = False) -> None:
        """Disarm (and close signalfds): the process has ended; or POSIX timers only, for execve."""
        for timer, _ in self.posix_timers.values():
            timer.stop()
        self.posix_timers.clear()
        if not posix_only:
            for reader in self.signal_fds:
                reader.close()
            self.signal_fds.clear()
        if self.real_timer is not None and not posix_only:
            self.real_timer.stop()

    def wake_waiters(self, ended: Process | None = None) -> None:
        """Something wait4 may report has happened to a child: it has `ended`, or something else."""
        if self.watched and (ended is None or ended.pid != self.watched):
            watching.end(self)
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter.wake()

    def set_parent(self, parent: Process | None) -> None:
        """Reparent: our parent has ended."""
        if self.parent is not None and self in self.parent.children:
            self.parent.children.remove(self)
            if self.parent.watched == self.pid:
                watching.forget(self.parent)
        self.parent = parent
        if parent is not None:
            watching.end(parent)
            parent.children.append(self)
        for task in self.tasks.values():
            task.write_identity()
