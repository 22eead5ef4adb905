"""A guest process: a thread group, its family, its descriptors, and what is left after its end.

Life: born by clone or spawn with one task; `exited` once the host process is reaped; a zombie until
a parent waits for it. The exit status is known from the stub's EXIT request or a virtual signal and
becomes visible only when the host process is gone, so that its pipes and locks are gone too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from codegen.layout import Slot
from kernel.limits import Limits
from kernel.patching import Texts
from kernel.signals.signalfd import SignalFd
from kernel.signals.state import Signals

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
_HOST_TID = Slot.HOST_TID // 4
_UNSET = (1 << 64) - 1


class Process:
    """One thread group. `status` is a wait(2) status once known."""

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
        self.group = pid
        self.session = pid
        self.signals = Signals()
        self.unkillable = pid == 1  # default actions do nothing, until it faults
        self.limits: Limits = Limits() if parent is None else parent.limits.copy()
        self.comm = b""
        self.argv: list[bytes] = []
        self.environ: list[bytes] = []
        self.exe: Node | None = None
        self.auxv = b""
        self.brk_start = 0
        self.brk_end = 0
        self.stack_at = 0  # an address within the first thread's stack
        self.oom_score_adj = 0
        self.image: Image | None = None  # what the next BOOT loads
        self.first_boot = False  # the stub is to be confined before it loads anything
        self.spare_slots: list[SlotMemory] = []  # mapped here, of threads that have ended
        self.mapped_slots: set[int] = set()  # addresses of thread slots mapped in this process
        self.terminal_stdin = False  # stdin becomes the controlling terminal
        self.texts = Texts()
        self.status: int | None = None
        self.doomed = False  # SIGKILL waits for its robust mutexes to be released
        self.zombie = False
        self.orphan = False  # its parent has ended before it
        self.stopped = False
        self.stop_report: int | None = None  # signal number not yet reported by wait
        self.continue_report = False
        self.exit_signal = 17
        self.has_execed = False
        self.subreaper = False
        self.death_signal = 0
        self.signal_fds: list[SignalFd] = []
        self.real_timer: Timer | None = None  # ITIMER_REAL
        self.posix_timers: dict[int, tuple[Timer, int]] = {}  # id -> (timer, clock)
        self.dumpable = 1
        self.start_time_ns = container.clock.monotonic_ns()
        self.waiters: list[Waiter] = []  # tasks of this process inside wait4 or waitid
        self.on_end: list[Callable[[int], None]] = []  # called with the wait status
        self.rusage: tuple[float, float, int] = (0.0, 0.0, 0)
        self.children_rusage: tuple[float, float, int] = (0.0, 0.0, 0)
        self._host_pid = 0
        self._expected: deque[tuple[Task, int, bool, OpenFile | None]] = deque()
        if parent is not None:
            parent.children.append(self)
            self._inherit(parent)

    def _inherit(self, parent: Process) -> None:
        """Take over what fork(2) copies."""
        self.group, self.session = parent.group, parent.session
        self.comm, self.exe, self.auxv = parent.comm, parent.exe, parent.auxv
        self.argv, self.environ = list(parent.argv), list(parent.environ)
        self.brk_start, self.brk_end = parent.brk_start, parent.brk_end
        self.stack_at = parent.stack_at
        self.oom_score_adj = parent.oom_score_adj

    @property
    def host_pid(self) -> int:
        """The host's process id, 0 until the host has made the process."""
        if not self._host_pid and self.leader_slot is not None:
            self._host_pid = self.leader_slot.words[_HOST_TID]
            if self._host_pid:
                self.container.by_host_pid[self._host_pid] = self
        return self._host_pid

    @host_pid.setter
    def host_pid(self, value: int) -> None:
        self._host_pid = value
        self.container.by_host_pid[value] = self

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
        self._expected.append((task, int(result), cloexec, open_file))

    def settle(self) -> None:
        """Register flagged descriptors that the guest has received since."""
        for _ in range(len(self._expected)):
            task, register, cloexec, open_file = self._expected.popleft()
            number = task.slot.q[_RESULTS + register]
            if number == _UNSET:
                if task.tid in self.tasks:
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

    def wake_waiters(self) -> None:
        """Something wait4 may report has happened to a child."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter.wake()

    def set_parent(self, parent: Process | None) -> None:
        """Reparent: our parent has ended."""
        if self.parent is not None and self in self.parent.children:
            self.parent.children.remove(self)
        self.parent = parent
        if parent is not None:
            parent.children.append(self)
        for task in self.tasks.values():
            task.write_identity()
