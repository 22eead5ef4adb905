"""Start, stop, kill, pause, restart: how a container's state changes.

Whoever changes a state holds the container's lock; whoever waits for an exit does not. A run's end
is always handled by `_watch`, whatever ended it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from api.engine import tally
from api.engine.addresses import AddressPool
from api.engine.config import argv_of
from api.engine.container import Container, LogSink
from api.engine.errors import Conflict, EngineError, NotFound, NotModified
from api.engine.events import EventBus
from api.engine.health import HealthMonitor, parse_healthcheck
from api.engine.home import Home
from api.engine.images import ImageStore
from api.engine.launch import build_spec, isa_for_files, isa_to_run, stop_signal_of
from api.engine.restart import RestartDecision, decide
from api.engine.run import Exit, Run
from api.engine.runtime import Kernel, KernelError, KernelGone, Runtime
from api.engine.start_errors import StartFailed, translate_start_error
from api.engine.stdio import Sink
from api.engine.timestamps import now_ns
from api.engine.volumes import VolumeStore
from kernel.spec import ContainerSpec

_LOG = logging.getLogger("ddock.container")
_DRAIN_SECONDS = 3.0
_KILL_SECONDS = 5.0
_SETTLE_SECONDS = 2.0
_DEFAULT_STOP_SECONDS = 10
_NETWORKS = ("bridge", "none", "host")


@dataclass(slots=True)
class Lifecycle:
    """The state machine of every container."""

    home: Home
    runtime: Runtime
    images: ImageStore
    volumes: VolumeStore
    events: EventBus
    addresses: AddressPool
    remove: Callable[[Container], Awaitable[None]]
    stopping: bool = False
    _tasks: set[asyncio.Future[None]] = field(default_factory=set)

    async def start(self, container: Container) -> None:
        """Run the container's program. Raises StartFailed, Conflict, NotModified."""
        async with container.lock:
            state = container.state
            if state.paused:
                raise Conflict("cannot start a paused container, try unpause instead")
            if state.running:
                raise NotModified
            if state.removing or state.dead:
                raise Conflict("container is marked for removal and cannot be started")
            self._cancel_restart(container)
            container.record.stopped_by_user = False
            container.record.restart_count = 0
            await self._launch(container)

    async def _launch(self, container: Container) -> None:
        try:
            run = await self._begin(container)
        except EngineError as error:
            await self._start_failed(container, error)
            raise
        state = container.state
        container.run = run
        state.running, state.paused, state.restarting = True, False, False
        state.oom_killed, state.pid, state.exit_code, state.error = False, run.pid, 0, ""
        state.started_ns = run.started_ns
        check = parse_healthcheck(container.config)
        if check is not None:
            monitor = HealthMonitor(
                container, check, lambda a, own: self._emit(container, a, **own)
            )
            self._spawn(monitor.watch(run))
        container.save()
        self._emit(container, "start")
        self._spawn(self._watch(container, run))

    async def _begin(self, container: Container) -> Run:
        host = container.host
        if host["NetworkMode"] not in _NETWORKS:
            raise NotFound(f"network {host['NetworkMode']} not found")
        isa = isa_to_run(container.record.platform, argv_of(container.config)[0])
        container.address = self.addresses.take()
        spec = self._spec(container, isa)
        container.sinks.add(LogSink(container.log))
        rows, columns = host["ConsoleSize"] or (0, 0)
        try:
            return await Run.begin(
                self.runtime,
                spec,
                container.stdin,
                container.sinks,
                lambda event: self._kernel_event(container, event),
                (rows, columns),
            )
        except KernelError as error:
            raise translate_start_error(error) from None

    @contextlib.asynccontextmanager
    async def kernel_for_files(self, container: Container) -> AsyncIterator[Kernel]:
        """A kernel that can read and write the container's files, whether or not it runs.

        For a container that is not running a kernel is booted without starting anything, and no run
        can begin meanwhile: two kernels must not write one upper directory.
        """
        if container.run is not None:
            yield container.run.kernel
            return
        async with container.lock:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            try:
                spec = self._spec(container, isa_for_files(container.record.platform))
                kernel = await self.runtime.boot(spec, (null, null, null))
            finally:
                os.close(null)
            try:
                yield kernel
            finally:
                kernel.close()

    def _spec(self, container: Container, isa: str) -> ContainerSpec:
        for point in container.record.mounts:
            if point.type == "volume":
                point.source = os.fspath(self.volumes.create(point.name).data)
        for name in ("upper", "run"):
            (container.directory / name).mkdir(mode=0o700, exist_ok=True)
        return build_spec(
            container_id=container.id,
            hostname=container.hostname,
            config=container.config,
            host=container.host,
            layers=[
                os.fspath(self.images.layers.directory(diff_id))
                for diff_id in reversed(container.record.layers)
            ],
            directory=container.directory,
            mounts=container.record.mounts,
            cache=self.home.cache,
            address=container.address,
            isa=isa,
        )

    async def _start_failed(self, container: Container, error: EngineError) -> None:
        code = error.exit_code if isinstance(error, StartFailed) else 128
        state = container.state
        self.addresses.release(container.address)
        container.address = ""
        state.running = state.restarting = False
        state.exit_code, state.error = code, str(error)
        if state.started_ns:
            state.finished_ns = now_ns()
        container.save()
        _finish(container.renew_streams())
        container.tell_exit(Exit(code, error=str(error)))
        if container.host["AutoRemove"]:
            await self.remove(container)

    async def _watch(self, container: Container, run: Run) -> None:
        result = await run.exited
        async with container.lock:
            await run.stdio.drain(_DRAIN_SECONDS)
            for process in tuple(container.execs.values()):
                await process.ended_with_container()
            run.kernel.close()
            await self._ended(container, run, result)

    async def _ended(self, container: Container, run: Run, result: Exit) -> None:
        state = container.state
        container.run = None
        self.addresses.release(container.address)
        container.address = ""
        state.running = state.paused = False
        state.pid, state.exit_code = 0, result.code
        state.oom_killed, state.error = result.oom, result.error
        state.finished_ns = now_ns()
        lasted_ns = state.finished_ns - run.started_ns
        decision = self._restart_decision(container, lasted_ns)
        state.restarting = decision.restart
        old = container.renew_streams()
        if run.stdio.drained.is_set():
            _finish(old)
        else:  # a client is slow to read: it gets everything, but holds nobody up
            self._spawn(_finish_later(run, old))
        container.save()
        if result.oom:
            self._emit(container, "oom")
        self._emit(
            container, "die", exitCode=str(result.code), execDuration=str(lasted_ns // 10**9)
        )
        container.tell_exit(result)
        if decision.restart:
            self._restart_later(container, decision)
        elif container.host["AutoRemove"]:
            await self.remove(container)

    async def stop(
        self, container: Container, seconds: int | None = None, signal_number: int | None = None
    ) -> None:
        """Ask the program to end, then make it. Raises NotModified when it is not running."""
        async with container.lock:  # an end that is being handled may decide on a restart
            self._cancel_restart(container)
            run = container.run
        if run is None or not container.state.running:
            raise NotModified
        container.record.stopped_by_user = True
        if seconds is None:
            seconds = container.config.get("StopTimeout", _DEFAULT_STOP_SECONDS)
        ended = container.wait_exit()
        with suppress(TimeoutError):
            number = signal_number or stop_signal_of(container.config)
            await asyncio.wait_for(self._signal(container, run, number), _KILL_SECONDS)
        if not await _within(ended, None if seconds < 0 else seconds):
            await self._kill_hard(container, run, ended)
        self._emit(container, "stop")

    async def kill(self, container: Container, signal_number: int) -> None:
        """Send a signal. SIGKILL waits until the container has ended. Raises Conflict."""
        run = await self._settled_run(container)
        if run is None or not container.state.running:
            raise Conflict(
                f"cannot kill container: {container.name}: container {container.id} is not running"
            )
        if signal_number in (signal.SIGKILL, stop_signal_of(container.config)):
            container.record.stopped_by_user = True
        if signal_number == signal.SIGKILL:
            await self._kill_hard(container, run, container.wait_exit())
        else:
            await self._signal(container, run, signal_number)

    async def end_now(self, container: Container) -> None:
        """Make sure that it does not run and will not by itself."""
        async with container.lock:
            self._cancel_restart(container)
            container.record.stopped_by_user = True
        with suppress(Conflict):
            await self.kill(container, signal.SIGKILL)

    async def restart(self, container: Container, seconds: int | None = None) -> None:
        """Stop if running, then start."""
        auto_remove, container.host["AutoRemove"] = container.host["AutoRemove"], False
        try:
            with suppress(NotModified):
                await self.stop(container, seconds)
            await self.start(container)
        finally:
            container.host["AutoRemove"] = auto_remove
        self._emit(container, "restart")

    async def pause(self, container: Container) -> None:
        """Freeze every process. Raises Conflict."""
        async with container.lock:
            run = container.active
            if container.state.paused:
                raise Conflict(f"container {container.id} is already paused")
            await run.call("pause")
            container.state.paused = True
            container.save()
            self._emit(container, "pause")

    async def unpause(self, container: Container) -> None:
        """Thaw. Raises Conflict."""
        async with container.lock:
            if container.run is None or not container.state.paused:
                raise Conflict(f"container {container.id} is not paused")
            await container.run.call("resume")
            container.state.paused = False
            container.save()
            self._emit(container, "unpause")

    async def settle(self) -> None:
        """Wait for what the ends of containers still have to do, but for no stuck client."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _SETTLE_SECONDS
        while self._tasks and loop.time() < deadline:
            await asyncio.wait(tuple(self._tasks), timeout=deadline - loop.time())
        for task in tuple(self._tasks):
            task.cancel()

    async def _settled_run(self, container: Container) -> Run | None:
        """The run after a start in progress: its program may already have been heard of."""
        async with container.lock:
            return container.run

    async def _signal(self, container: Container, run: Run, number: int) -> None:
        self._emit(container, "kill", signal=str(number))
        try:
            await run.signal(number)
        except KernelGone:
            return
        if container.state.paused and number in (signal.SIGKILL, signal.SIGTERM):
            with suppress(EngineError):
                await self.unpause(container)

    async def _kill_hard(self, container: Container, run: Run, ended: asyncio.Future[Exit]) -> None:
        with suppress(TimeoutError, KernelError):
            await asyncio.wait_for(self._signal(container, run, signal.SIGKILL), _KILL_SECONDS)
        if not await _within(ended, _KILL_SECONDS):
            _LOG.warning("container %s: the kernel does not answer, killing it", container.id[:12])
            run.kernel.destroy()
            await ended

    def _restart_decision(self, container: Container, lasted_ns: int) -> RestartDecision:
        if self.stopping:
            return RestartDecision(restart=False)
        record = container.record
        return decide(
            record.host["RestartPolicy"],
            exit_code=record.state.exit_code,
            restarts=record.restart_count,
            stopped_by_user=record.stopped_by_user,
            lasted_seconds=lasted_ns / 1e9,
        )

    def _restart_later(self, container: Container, decision: RestartDecision) -> None:
        def due() -> None:
            container.restart_timer = None
            self._spawn(self._restart_now(container))

        container.restart_timer = asyncio.get_running_loop().call_later(decision.delay_seconds, due)

    async def _restart_now(self, container: Container) -> None:
        async with container.lock:
            if not container.state.restarting:
                return
            container.record.restart_count += 1
            with suppress(EngineError):
                await self._launch(container)

    def _cancel_restart(self, container: Container) -> None:
        if container.restart_timer is not None:
            container.restart_timer.cancel()
            container.restart_timer = None
        if container.state.restarting:
            container.state.restarting = False
            container.record.stopped_by_user = True
            container.save()

    def _kernel_event(self, container: Container, event: dict[str, object]) -> None:
        if event["event"] == "exec-exit":
            process = container.execs.get(str(event["exec"]))
            if process is not None:
                self._spawn(process.ended(int(str(event["code"]))))
        elif event["event"] == "exit":
            tally.add(self.home.run, event)

    def _emit(self, container: Container, action: str, **own: str) -> None:
        self.events.emit("container", action, container.id, container.attributes(), **own)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _LOG.error("handling a container's end failed", exc_info=task.exception())


def _finish(sinks: set[Sink]) -> None:
    for sink in tuple(sinks):
        sink.finish()


async def _finish_later(run: Run, sinks: set[Sink]) -> None:
    await run.stdio.drained.wait()
    _finish(sinks)


async def _within(future: asyncio.Future[Exit], seconds: float | None) -> bool:
    done, _ = await asyncio.wait((future,), timeout=seconds)
    return bool(done)
