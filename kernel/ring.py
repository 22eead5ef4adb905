"""The ring: who has posted, who is answered, who is kicked. Only this module writes control words.

Every slot has a byte in the bell page. The kernel polls that page while there is traffic and sleeps
on the doorbell eventfd otherwise: a sleep/wake pair costs 17-45 us, a polled round trip 0.3 us, so
when to stop polling decides the speed of the control plane. It polls as long as the last requests
came quickly, and gives the core away when they did not.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from codegen.layout import (
    BELLS_AWAKE,
    BELLS_CPU,
    BELLS_FIRST,
    BELLS_SPIN,
    NO_CPU,
    PAGE,
    Slot,
    State,
)
from codegen.poll_layout import IDLE, PLAIN
from kernel.host.linux import address_of, change_cpu, futex_wake, tgkill
from kernel.slot import shared_memory

if TYPE_CHECKING:
    from kernel.poller import Poller
    from kernel.records import Records
    from kernel.task import Task

_PENDING, _SLEEPING, _STATE, _ATTENTION = (
    Slot.PENDING // 4,
    Slot.SLEEPING // 4,
    Slot.STATE // 4,
    Slot.ATTENTION // 4,
)
_BATCH = 64  # requests served before the event loop gets its turn
_SLOT_MASK = PLAIN - 1
_ENOUGH = 4  # what the requests count that `poll` answers at most in one call
_ROUND = 16  # `poll` looks so often in vain, or as long as Python would for that
_POLLS_MIN, _POLLS_MAX = 8, 2000  # empty polls before sleeping; one is about 0.15 us
PATIENCE = 128  # empty polls before work is done that nobody waits for
_BUSY = 16  # requests served before a child's end is looked at
_PREEMPTED_NS = 150_000  # sixteen polls took this long: the core was taken away meanwhile
_CROWDED_NS = 10_000_000
_LENT_NS = 1_000_000
_GUEST_SPIN_CROWDED = 30
_GUEST_SPIN = 6000  # pauses; a request that takes long is parked and does not spin


class Ring:
    """A container's ring. `serve(task)` is called for each posted request."""

    def __init__(
        self,
        serve: Callable[[Task], None],
        idle: Callable[[], None],
        kick_signal: int,
        records: Records,
        poller: Poller | None = None,
        serve_plain: Callable[[Task], None] | None = None,
        fence: AbstractContextManager[Any] | None = None,
    ) -> None:
        """`poller`: the loop in generated code, where the host has one.

        `serve_plain`: instead of `serve`, for requests that the loop has looked at.

        `fence`: entering it orders what is before and what follows; a lock, on most CPUs.
        """
        self._records = records
        self._poller = poller
        self._kick_signal = kick_signal
        self._serve = serve
        self._serve_plain = serve_plain or serve
        self._idle = idle
        self.bell_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.page_fd = shared_memory(PAGE)
        self._bells = mmap.mmap(self.page_fd, PAGE)
        self._words = memoryview(self._bells).cast("I")
        self._words[BELLS_CPU // 4] = NO_CPU
        self._tasks: list[Task | None] = []
        self._fence = fence or threading.Lock()
        self._polls = _POLLS_MAX
        self._next = BELLS_FIRST
        self._poll = poller.poll if poller is not None else self._poll_in_python
        self._answered = poller.answered if poller is not None else lambda: 0
        self._publish = poller.publish if poller is not None else None
        self._scheduled = False
        self._moved = 0  # when we went to another core
        self.patience = 0  # empty polls before `idle` is called
        self._lent_until = 0  # a guest's new process may have our core until then
        self._quiet_from = 0  # when to poll again, after others wanted our core; 0: now
        self._loop: asyncio.AbstractEventLoop | None = None
        self._crowd = os.cpu_count() or 1
        self._later: deque[Callable[[], None]] = deque()
        self.interrupted = False  # `idle` is to be called

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin serving on `loop`."""
        self._loop = loop
        if self._poller is not None:
            self._poller.watch(address_of(self._bells) + BELLS_FIRST)
        self._words[BELLS_SPIN // 4] = _GUEST_SPIN if self._crowd > 1 else 0
        loop.add_reader(self.bell_fd, self._woken)

    def stop(self) -> None:
        """Serve no more; descriptors are closed."""
        if self._loop is not None:
            self._loop.remove_reader(self.bell_fd)
        os.close(self.bell_fd)
        os.close(self.page_fd)

    def attach(self, task: Task) -> None:
        """Serve `task`'s slot from now on, also what it has posted already.

        A bell that the slot's last owner left is harmless: nothing is REQUESTED.
        """
        index = task.slot.index
        while len(self._tasks) <= index:
            self._tasks.append(None)
            if self._poller is not None:
                self._poller.set_count(len(self._tasks))
        self._tasks[index] = task
        self._records.attach(task)

    def detach(self, task: Task) -> None:
        """Forget `task`'s slot."""
        if self._tasks[task.slot.index] is task:
            self._tasks[task.slot.index] = None
            self._records.detach(task)

    def know(self, known: bool) -> None:
        """Whether requests may be answered without `serve`, where the answer is known."""
        if self._poller is not None:
            self._poller.know(known)

    def interrupt(self) -> None:
        """Have `idle` called soon (from a signal handler: the loop may sleep)."""
        self.interrupted = True
        if not self._words[BELLS_AWAKE // 4]:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(self.bell_fd, 1)

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.bell_fd)
        self._words[BELLS_AWAKE // 4] = 1
        if not self._scheduled:
            self._pump()

    def _pump(self) -> None:  # noqa: C901, PLR0912, PLR0915 - one loop, kept flat for its speed
        """Serve what is posted; poll on while traffic lasts, then sleep."""
        self._scheduled = False
        tasks, poll, sched_yield = self._tasks, self._poll, os.sched_yield
        serve, serve_plain = self._serve, self._serve_plain
        served = polls = due = enough = 0
        looked = perf_counter_ns()
        if self._quiet_from and looked > self._quiet_from:
            self._quiet_from = 0
            self._polls = _POLLS_MAX
            self._words[BELLS_SPIN // 4] = _GUEST_SPIN
        limit, answered = self._polls, self._answered()
        while True:
            at = poll()
            if self.interrupted:
                if not due:
                    due, enough = polls + self.patience + 1, served + _BUSY
                if polls >= due or polls >= limit or served >= enough:
                    self.interrupted = False
                    due = 0
                    self._idle()
            if at == IDLE:
                if self._answered() != answered:  # before that there was traffic
                    answered = self._answered()
                    served += 1
                    polls = 0
                    due = due and self.patience + 1
                    if not self._quiet_from:
                        limit = max(limit, 4 * _ROUND)
                polls += _ROUND
                if self._later and (polls >= PATIENCE or polls >= limit) and not due:
                    self._later.popleft()()  # one only: a request may have come meanwhile
                    looked = perf_counter_ns()
                    continue
                if polls >= limit:
                    if self.interrupted:
                        continue
                    break
                sched_yield()  # a guest may be waiting for this very core
                now = perf_counter_ns()
                if now - looked > _PREEMPTED_NS and polls > _ROUND and now > self._lent_until:
                    if self._crowded(now):
                        break
                    now = perf_counter_ns()
                looked = now
                continue
            if at >= 0:
                task = tasks[at & _SLOT_MASK]
                if task is not None:
                    (serve_plain if at & PLAIN else serve)(task)
                served += 1
            else:
                served += _ENOUGH
            if polls:
                # It came while we polled: polling pays, up to the limit.
                if not self._quiet_from:
                    limit = min(_POLLS_MAX, max(limit, polls * 4))
                polls = 0
                due = due and self.patience + 1
            if served >= _BATCH:
                while self._later:  # traffic without a pause must not keep it for ever
                    self._later.popleft()()
                self._polls = limit if not self._quiet_from else 1
                self._again()
                return
        if not self._quiet_from:
            self._polls = limit if served else max(_POLLS_MIN, limit // 2)
        if served:
            # Let callbacks that the requests caused run, then poll once more before sleeping.
            self._again()
            return
        self._words[BELLS_AWAKE // 4] = 0
        with self._fence:  # a locked instruction: AWAKE is visible before the bells are read again
            pass
        if self.interrupted or self._bells.find(b"\1", BELLS_FIRST) >= 0:
            self._words[BELLS_AWAKE // 4] = 1
            self._again()

    def _poll_in_python(self) -> int:
        """The number of a slot whose bell rings; IDLE after a round in vain."""
        find, start, end = self._bells.find, self._next, BELLS_FIRST + len(self._tasks)
        for _ in range(_ROUND):
            at = find(b"\1", start, end)
            if at < 0 and start > BELLS_FIRST:
                at = find(b"\1", BELLS_FIRST, start)
            if at >= 0:
                self._bells[at] = 0
                self._next = at + 1
                return at - BELLS_FIRST
        return IDLE

    def later(self, work: Callable[[], None]) -> None:
        """Call `work` when no request is waiting: what no guest waits for. Requests cause it."""
        self._later.append(work)

    def lend(self) -> None:
        """A process begins in a guest: that it runs in our place for a moment is no crowd."""
        self._lent_until = perf_counter_ns() + _LENT_NS

    def _crowded(self, now: int) -> bool:
        """Somebody else has our core: go to another one, or else yield this one for a while.

        A guest and its kernel on one core wait for each other while another core may be idle: some
        hosts never look for one when they wake a process. Where there is none, whoever polls loses
        its core for milliseconds and whoever sleeps is woken at once: so sleep at the first empty
        poll, and have the guests do so. False: we have moved.
        """
        if now - self._moved > _CROWDED_NS:
            self._moved = now
            change_cpu()
            return False
        self._quiet_from = now + _CROWDED_NS
        self._polls = 1
        self._words[BELLS_SPIN // 4] = _GUEST_SPIN_CROWDED
        return True

    def _again(self) -> None:
        if not self._scheduled and self._loop is not None:
            self._scheduled = True
            self._loop.call_soon(self._pump)

    def publish(self, task: Task) -> None:
        """The reply in `task`'s slot is complete: let the guest have it."""
        slot = task.slot
        if self._publish is not None:
            self._publish(slot.futex_address - Slot.STATE)
            return
        words = slot.words
        words[_STATE] = State.DONE
        with self._fence:  # a locked instruction: DONE is visible before SLEEPING is read
            pass
        if words[_SLEEPING]:
            futex_wake(slot.futex_address)

    @staticmethod
    def park(task: Task) -> None:
        """The answer will take long: the guest need not spin for it."""
        task.slot.words[_STATE] = State.PARKED

    def kick(self, task: Task) -> None:
        """Take `task`'s thread out of native code: it will post DELIVER."""
        task.slot.words[_PENDING] = 1
        if task.host_tid:
            tgkill(task.process.host_pid, task.host_tid, self._kick_signal)

    @staticmethod
    def mark_pending(task: Task) -> None:
        """Like kick, for a thread that is waiting for our reply: no host signal is needed."""
        task.slot.words[_PENDING] = 1

    @staticmethod
    def clear_pending(task: Task) -> None:
        """The thread's pending work is being done now."""
        task.slot.words[_PENDING] = 0

    @staticmethod
    def take_attention(task: Task) -> None:
        """Reset ATTENTION."""
        task.slot.words[_ATTENTION] = 0
