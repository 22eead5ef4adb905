"""One run of a container: from the boot of its kernel to the exit of its first process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from api.engine.runtime import Kernel, KernelError, Runtime
from api.engine.stdio import Sink, Stdin, Stdio
from api.engine.timestamps import now_ns
from kernel.packets import Message
from kernel.spec import ContainerSpec

_LOST_CODE = 137
_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Exit:
    """How the first process ended."""

    code: int
    oom: bool = False
    error: str = ""


class Run:
    """A booted kernel and its first process's streams. Make it with `begin`."""

    def __init__(self, kernel: Kernel, stdio: Stdio, on_event: Callable[[Message], None]) -> None:
        self.kernel = kernel
        self.stdio = stdio
        self.pid = 0
        self.started_ns = 0
        self._on_event = on_event
        self.exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        kernel.on_event = self._event
        kernel.on_gone = self._gone

    @classmethod
    async def begin(
        cls,
        runtime: Runtime,
        spec: ContainerSpec,
        stdin: Stdin | None,
        sinks: set[Sink],
        on_event: Callable[[Message], None],
        console: tuple[int, int] = (0, 0),
    ) -> Run:
        """Boot a kernel and start the first process. Raises KernelError; nothing is left then."""
        stdio = Stdio(terminal=spec.terminal, stdin=stdin, sinks=sinks)
        if all(console):
            stdio.resize(*console)
        kernel: Kernel | None = None
        try:
            kernel = await runtime.boot(spec, stdio.guest_side)
            run = cls(kernel, stdio, on_event)
            started = await asyncio.wait_for(kernel.call("start"), _START_SECONDS)
        except BaseException as error:
            stdio.abandon()
            if isinstance(error, TimeoutError) and kernel is not None:
                kernel.destroy()
                raise KernelError("internal", "the container's kernel does not answer") from None
            if kernel is not None:
                kernel.close()
            raise
        finally:
            stdio.release()
        run.pid = int(started["pid"]) if isinstance(started, dict) else kernel.pid
        run.started_ns = now_ns()
        return run

    async def call(
        self, operation: str, descriptors: tuple[int, ...] = (), **arguments: Any
    ) -> Any:
        """A control operation of this run's kernel. Raises KernelError, KernelGone."""
        return await self.kernel.call(operation, descriptors, **arguments)

    async def signal(self, number: int) -> None:
        """Signal the first process."""
        await self.call("signal", signal=number)

    def _event(self, event: Message) -> None:
        if event["event"] == "exit":
            self._on_event(event)
            self._finish(Exit(event["code"], bool(event.get("oom")), event.get("error") or ""))
        else:
            self._on_event(event)

    def _gone(self) -> None:
        self._finish(Exit(_LOST_CODE, error="the container's kernel process ended unexpectedly"))

    def _finish(self, result: Exit) -> None:
        if not self.exited.done():
            self.exited.set_result(result)
