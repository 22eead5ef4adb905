"""From a posted request to its answer.

`serve` is the control plane's hot path: number -> compiled handler -> answer into the slot ->
publish. What the tables call the data plane normally never arrives here; when it does (a flagged
descriptor, a detour) and no handler wants it, the guest is told to run it natively after all.
"""

from __future__ import annotations

import errno
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from codegen.layout import STUB_FDS, Request, Slot, State
from codegen.poll_layout import Record
from kernel import families
from kernel.errors import Interrupted, LinuxError
from kernel.loader import boot
from kernel.reply import OutReply, Program, Reply
from kernel.robust import release
from kernel.signals.delivery import deliver, note_host_signals
from kernel.signals.sending import deliverable
from kernel.syscalls.declare import REGISTRY, Handler, decoders
from kernel.task import ProgramFailed

if TYPE_CHECKING:
    from kernel.container import Container
    from kernel.process import Process
    from kernel.task import Task
    from tables import Syscall

_log = logging.getLogger("ddock.kernel")
_NR, _ARGS, _TRAPS = Slot.NR // 8, Slot.ARGS // 8, Slot.TRAPS // 8
_EXIT_NAMES = ("exit", "exit_group")
_HOST_SIGNALS = Slot.HOST_SIGNALS // 8
_HOLD, _SEEN = Record.HOLD // 8, Record.TRAPS // 8
_LIMIT = 512
_REQUEST_MASK = 0xFFFF_FFFF


class Dispatcher:
    """Serves the tasks of one container."""

    def __init__(self, container: Container) -> None:
        families.load()
        self._container = container
        self.abi = container.abi
        self._names = self.abi.names
        self._calls: list[Callable[..., Any] | None] = [None] * _LIMIT
        self._handlers: list[Handler | None] = [None] * _LIMIT
        for name, call in decoders(self.abi).items():
            number = self.abi.numbers[name]
            self._calls[number] = call
            self._handlers[number] = REGISTRY[name]
        self._exit_numbers = {self.abi.numbers[name] for name in _EXIT_NAMES}
        self._exit_group = self.abi.numbers["exit_group"]
        self.unimplemented: dict[str, int] = {}
        self.recent: deque[tuple[int, int]] = deque(maxlen=32)
        self._trace: Callable[[Task, int, Any], None] | None = None

    @property
    def trace(self) -> Callable[[Task, int, Any], None] | None:
        """Called with each finished call when set."""
        return self._trace

    @trace.setter
    def trace(self, tracer: Callable[[Task, int, Any], None] | None) -> None:
        self._trace = tracer
        self._container.ring.know(tracer is None)

    # -- requests --------------------------------------------------------------------------------

    def serve(self, task: Task) -> None:
        """Handle whatever `task`'s slot holds."""
        q = task.slot.q
        control = q[0]
        if control >> 32:
            self._container.ring.take_attention(task)
        if q[_HOST_SIGNALS]:  # also those that came just before this request was posted
            note_host_signals(task)
        if control & _REQUEST_MASK != State.REQUESTED:
            return
        record = task.slot.record
        if record[_HOLD]:
            record[_HOLD] = 0
        if q[_TRAPS] != record[_SEEN]:
            self._container.translations.trapped(task)
        self.serve_plain(task)

    def serve_plain(self, task: Task) -> None:
        """Handle a posted request that leaves nothing else to look at."""
        if task.coroutine is not None and not task.in_guest:
            return  # the call it posted is still being served; only attention was wanted
        process = task.process
        if process.unsettled:
            process.settle()
        q = task.slot.q
        nr = q[_NR]
        if nr >= Request.FIRST:
            self._special(task, nr)
            return
        if nr in self._exit_numbers:
            self._exit(task, nr)
            return
        if task.in_guest:
            self._broken(task, f"call {nr} while a program was running")
            return
        task.call_nr = nr
        task.recover = None
        call = self._calls[nr] if nr < _LIMIT else None
        try:
            answer = self._missing(task, nr) if call is None else call(task, q, task.slot.mm)
        except LinuxError as error:
            answer = -error.errno
        except Exception:  # noqa: BLE001 - our bug: the thread group ends, the kernel lives
            _log.exception("handler of %s failed", self._names.get(nr, nr))
            answer = None
        if type(answer) is int:
            if self._trace is not None:
                self._trace(task, nr, answer)
            task.slot.write_result(answer)
            self._container.ring.publish(task)
        elif hasattr(answer, "send"):
            task.start(answer, self._finish)
            if task.coroutine is not None and not task.in_guest:
                self._container.ring.park(task)
        else:
            self._finish(task, answer)

    def _finish(self, task: Task, answer: Any) -> None:
        """Write and publish the answer of a finished call."""
        if task.process.ending or task.tid not in task.process.tasks:
            return
        if self._trace is not None:
            self._trace(task, task.call_nr, answer)
        ring = self._container.ring
        if isinstance(answer, Interrupted):
            task.restart_nr = task.call_nr
            task.slot.write_result(-errno.EINTR)
            ring.mark_pending(task)
        elif isinstance(answer, int):
            task.slot.write_result(answer)
            if deliverable(task) or task.saved_mask is not None:
                ring.mark_pending(task)
        elif isinstance(answer, Reply):
            try:
                answer.emit(task)
                if type(answer) is OutReply and deliverable(task):
                    ring.mark_pending(task)
            except (LinuxError, OSError, ValueError) as error:
                _log.debug("answer could not be sent: %s", error)
                task.slot.write_result(-(getattr(error, "errno", None) or errno.EIO))
        else:
            self._broken(task, "handler gave no answer")
            return
        if task.recover is not None:
            task.hold()
        ring.publish(task)
        if task.after is not None:
            after, task.after = task.after, None
            after()

    def _special(self, task: Task, nr: int) -> None:
        """BOOT, DELIVER and the two ends of an awaited program."""
        if nr == Request.DELIVER:
            if task.coroutine is not None:
                self._broken(task, "signal frame inside a program")
                return
            task.start(deliver(task), self._delivered)
        elif nr == Request.BOOT:
            task.abandon()
            task.start(boot(task), self._booted)
        elif nr == Request.CONTINUED and task.in_guest:
            task.resume(None)
        elif nr == Request.LAST_WILL and task.coroutine is None:
            task.start(self._last_will(task), self._gone)
        elif nr == Request.FAILED:
            index, result = task.slot.q[_ARGS], task.slot.q[_ARGS + 1]
            number = -(result - (1 << 64)) if result >> 63 else errno.EIO
            if task.in_guest:
                task.throw(ProgramFailed(number, index))
            else:
                self._failed_answer(task, index, number)
        else:
            self._broken(task, f"unexpected request {nr:#x}")

    def _failed_answer(self, task: Task, index: int, number: int) -> None:
        """A checked op of a call's final answer failed: that errno is the answer."""
        recover, task.recover = task.recover, None
        if recover is not None:
            self._finish(task, recover(index, number))
        elif number == errno.EINTR:
            self._finish(task, Interrupted())
        else:
            self._finish(task, -number)

    def _delivered(self, task: Task, answer: Any) -> None:
        if task.process.ending:
            return
        if answer is not None:
            self._broken(task, f"signal delivery failed: {answer}")
            return
        if deliverable(task):
            self._container.ring.mark_pending(task)
        self._container.ring.publish(task)

    def _booted(self, task: Task, answer: Any) -> None:
        if task.process.ending:
            return
        if isinstance(answer, Program):
            if deliverable(task) or task.errands:
                self._container.ring.mark_pending(task)
            answer.emit(task)
            task.hold()  # for what its failure means
            self._container.ring.publish(task)
        else:
            _log.error("loading pid %d failed: %s", task.process.pid, answer)
            self._container.kill(task.process, 11)

    def _exit(self, task: Task, nr: int) -> None:
        """The stub says good-bye and does not wait."""
        self._leave(task, nr, task.slot.q[_ARGS] & 0xFF)

    def farewell(self, task: Task) -> None:
        """`task` has ended its process without waiting for us: what its slot still says."""
        q = task.slot.q
        if q[_TRAPS] != task.traps_seen:
            self._container.translations.trapped(task)
        if self.trace is not None and self.exit_status(task) is not None:
            self.trace(task, q[_NR], None)

    def exit_status(self, task: Task) -> int | None:
        """The wait status of a thread that is making, or has made, exit_group."""
        q = task.slot.q
        if q[0] & _REQUEST_MASK == State.REQUESTED and q[_NR] == self._exit_group:
            return (q[_ARGS] & 0xFF) << 8
        return None

    async def _last_will(self, task: Task) -> tuple[int, int]:
        """A thread that may hold robust mutexes ends: release them first."""
        code, nr = task.slot.q[_ARGS] & 0xFF, task.slot.q[_ARGS + 1]
        every = self._names.get(nr) == "exit_group"
        await release(task, list(task.process.tasks.values()) if every else [task])
        return nr, code

    def _gone(self, task: Task, answer: Any) -> None:
        """The will has been executed: the thread makes its call."""
        if task.process.ending:
            return
        if not isinstance(answer, tuple) or answer[0] not in self._exit_numbers:
            self._broken(task, f"exit failed: {answer}")
            return
        nr, code = answer
        program = Program()
        program.hostcall(nr, code)
        program.emit(task)
        self._leave(task, nr, code)
        self._container.ring.publish(task)

    def _leave(self, task: Task, nr: int, code: int) -> None:
        process = task.process
        if self.trace is not None:
            self.trace(task, nr, None)
        if self._names[nr] == "exit_group" or len(process.tasks) == 1:
            if process.status is None:
                process.status = code << 8
            self._container.by_host_pid.setdefault(process.host_pid, process)
            for other in list(process.tasks.values()):
                self._container.retire_task(other)
        else:
            self._container.retire_task(task)

    # -- what has no handler ---------------------------------------------------------------------

    def _missing(self, task: Task, nr: int) -> Any:
        name = self._names.get(nr)
        row: Syscall | None = self.abi.syscalls.get(name) if name is not None else None
        if row is not None and row.plane == "data":
            return self._native(task, row)
        key = name or str(nr)
        self.unimplemented[key] = self.unimplemented.get(key, 0) + 1
        return -errno.ENOSYS

    @staticmethod
    def _native(task: Task, row: Syscall) -> Any:
        """A data-plane call that took the ring: the stub makes it after all."""
        args = [task.slot.q[_ARGS + i] for i in range(len(row.args))]
        for value, argument in zip(args, row.args, strict=True):
            if argument.kind == "fd" and (value & 0xFFFF_FFFF) in STUB_FDS:
                return -errno.EBADF
        return Reply.hostcall(row.name, *args)

    def restart_rule(self, number: int) -> str:
        """never, always, nohand or block: the handler's word, else the tables'."""
        handler = self._handlers[number] if number < _LIMIT else None
        if handler is not None:
            return handler.restart.value
        name = self._names.get(number)
        return self.abi.syscalls[name].restart if name is not None else "never"

    def _broken(self, task: Task, why: str) -> None:
        _log.error("pid %d tid %d: %s", task.process.pid, task.tid, why)
        self._container.kill(task.process, 11)

    def last_words(self, process: Process) -> None:
        """Debug note of a process killed by the kernel."""
        _log.debug("pid %d (%s) ends with status %s", process.pid, process.comm, process.status)
