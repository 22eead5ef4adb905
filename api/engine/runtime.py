"""The daemon's view of what runs containers: one zygote, and a control channel to each kernel.

A kernel is reached through its own socket from boot to its end, so a dying zygote takes no
container with it: the next boot starts another one. A kernel's end is its control channel's end.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from api.engine.errors import EngineError
from api.versions import DEFAULT_ZYGOTE
from kernel.packets import Message, PacketChannel, PacketTooLarge
from kernel.spec import ContainerSpec

_LOG = logging.getLogger("ddock.runtime")
_BOOT_SECONDS = 60.0


class KernelError(EngineError):
    """A kernel's refusal; `kind` is one of the protocol's words."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class KernelGone(KernelError):
    """The kernel process ended before it answered."""

    def __init__(self) -> None:
        super().__init__("internal", "the container's kernel process ended unexpectedly")


class Kernel:
    """A container's kernel process. Events arrive at `on_event`, its end at `on_gone`."""

    def __init__(self, sock: socket.socket) -> None:
        self.pid = 0
        self.on_event: Callable[[Message], None] = lambda _: None
        self.on_gone: Callable[[], None] = lambda: None
        self._numbers = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._channel = PacketChannel(sock, self._received, self._gone)

    @property
    def alive(self) -> bool:
        """Whether the control channel still stands."""
        return self._channel.is_open

    async def call(self, operation: str, descriptors: Sequence[int] = (), **arguments: Any) -> Any:
        """Ask for one control operation. Raises KernelError, KernelGone."""
        return await self.submit(operation, descriptors, **arguments)

    def submit(
        self, operation: str, descriptors: Sequence[int] = (), **arguments: Any
    ) -> asyncio.Future[Any]:
        """Send the request now, so that the caller may close its descriptors; await the answer."""
        number = next(self._numbers)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls[number] = future
        future.add_done_callback(lambda _: self._calls.pop(number, None))
        try:
            self._channel.send({"id": number, "op": operation, **arguments}, descriptors)
        except PacketTooLarge:
            future.set_exception(KernelError("invalid", "argument list too long"))
        except ConnectionError:
            future.set_exception(KernelGone())
        return future

    def destroy(self) -> None:
        """End the kernel process now: the last resort when it does not answer."""
        if self.pid and self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Hang up: a kernel whose control channel has gone ends itself and its guests."""
        self._channel.close()
        self._fail_calls()

    def _received(self, message: Message, descriptors: list[int]) -> None:
        for number in descriptors:
            os.close(number)
        if "event" in message:
            self.on_event(message)
            return
        future = self._calls.get(message.get("id", 0))
        if future is None or future.done():
            return
        if "error" in message:
            error = message["error"]
            future.set_exception(KernelError(error.get("kind", "internal"), error["message"]))
        else:
            future.set_result(message.get("ok"))

    def _gone(self) -> None:
        self._fail_calls()
        self.on_gone()

    def _fail_calls(self) -> None:
        for future in tuple(self._calls.values()):
            if not future.done():
                future.set_exception(KernelGone())


class Runtime:
    """Starts the zygote and boots kernels through it."""

    def __init__(self, run_directory: Path, cache: Path, zygote: str = DEFAULT_ZYGOTE) -> None:
        self._run_directory = run_directory
        self._cache = cache
        self._module = zygote
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: PacketChannel | None = None
        self._boots: deque[asyncio.Future[int]] = deque()

    @property
    def zygote_pid(self) -> int:
        """The zygote's host pid, 0 when there is none."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start the zygote; it imports while the daemon goes on."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module, str(theirs.fileno()), self._cache],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=self._run_directory,
                env=_clean_environment(),
            )
        self._channel = PacketChannel(ours, self._received, self._zygote_ended)

    async def boot(self, spec: ContainerSpec, stdio: Sequence[int]) -> Kernel:
        """Fork a kernel for `spec`; `stdio` are the guest's first three descriptors.

        The caller keeps its own copies of them. Raises EngineError when no kernel comes up.
        """
        if self._channel is None or not self._channel.is_open:
            self.start()
        if self._channel is None:
            raise EngineError("the container runtime is not running")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kernel = Kernel(ours)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._boots.append(future)
        try:
            with theirs:
                self._channel.send(
                    {"op": "boot", "spec": spec.to_dict()}, [theirs.fileno(), *stdio]
                )
            kernel.pid = await asyncio.wait_for(future, _BOOT_SECONDS)
        except PacketTooLarge:
            self._boots.remove(future)
            kernel.close()
            raise KernelError("invalid", "argument list too long") from None
        except BaseException:
            kernel.close()
            raise
        return kernel

    async def stop(self) -> None:
        """Hang up on the zygote and see it end."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        process, self._process = self._process, None
        if process is None:
            return
        try:
            await asyncio.to_thread(process.wait, 2.0)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    def _received(self, message: Message, descriptors: list[int]) -> None:
        for number in descriptors:
            os.close(number)
        if message.get("op") == "died":
            if message.get("status"):
                _LOG.info("kernel %s ended with status %s", message["pid"], message["status"])
            return
        future = self._boots.popleft() if self._boots else None
        if future is None or future.done():
            return
        if message.get("ok"):
            future.set_result(int(message["pid"]))
        else:
            error = message.get("error")
            text = error.get("message") if isinstance(error, dict) else error
            future.set_exception(EngineError(f"cannot start a kernel: {text}"))

    def _zygote_ended(self) -> None:
        status = self._process.poll() if self._process is not None else None
        _LOG.error("the zygote ended (status %s)", status)
        for future in self._boots:
            if not future.done():
                future.set_exception(EngineError("cannot start a kernel: the zygote ended"))
        self._boots.clear()


def _clean_environment() -> dict[str, str]:
    """What a zygote inherits: our settings and the way to our packages, not the user's session."""
    kept = ("PATH", "HOME", "TMPDIR", "PYTHONHASHSEED")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in kept or name.startswith("DDOCK_")
    }
    environment["LANG"] = "C.UTF-8"
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environment
