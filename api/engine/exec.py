"""`docker exec`: one more process in a running container, with streams of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from api.engine.attach import AttachOptions, ClientSink, Connection, attach
from api.engine.config import environment_of, override_env
from api.engine.container import Container
from api.engine.errors import Conflict, InvalidParameter
from api.engine.names import new_id
from api.engine.runtime import KernelError, KernelGone
from api.engine.stdio import Sink, Stdin, Stdio
from api.engine.timestamps import now_ns

_DRAIN_SECONDS = 3.0
_LOST_CODE = 137
_OCI = "OCI runtime exec failed: exec failed: unable to start container process"


class ExecFailed(InvalidParameter):
    """The program could not be executed."""


@dataclass(slots=True)
class ExecConfig:
    """What the client asked for at creation."""

    argv: list[str]
    environment: list[str]
    cwd: str
    user: str
    terminal: bool
    privileged: bool
    attach_stdin: bool
    attach_stdout: bool
    attach_stderr: bool
    detach_keys: str

    @classmethod
    def from_request(cls, request: dict[str, Any]) -> ExecConfig:
        """Read the create request. Raises InvalidParameter."""
        command = request.get("Cmd") or []
        if isinstance(command, str):
            command = [command]
        if not command:
            raise InvalidParameter("No exec command specified")
        return cls(
            argv=[str(word) for word in command],
            environment=list(request.get("Env") or []),
            cwd=str(request.get("WorkingDir") or ""),
            user=str(request.get("User") or ""),
            terminal=bool(request.get("Tty")),
            privileged=bool(request.get("Privileged")),
            attach_stdin=bool(request.get("AttachStdin")),
            attach_stdout=bool(request.get("AttachStdout")),
            attach_stderr=bool(request.get("AttachStderr")),
            detach_keys=str(request.get("DetachKeys") or ""),
        )


@dataclass(slots=True)
class Exec:
    """An exec instance; `start` runs it once."""

    container: Container
    config: ExecConfig
    emit: Callable[[str, dict[str, str]], None]
    id: str = field(default_factory=new_id)
    pid: int = 0
    running: bool = False
    exit_code: int | None = None
    started: bool = False
    ended_ns: int = 0
    _stdio: Stdio | None = None
    _sinks: set[Sink] = field(default_factory=set)
    _stdin: Stdin | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _began: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """Tell the world."""
        self.container.execs[self.id] = self
        self._tell(f"exec_create: {' '.join(self.config.argv)}")

    def check_startable(self) -> None:
        """Raises Conflict when it ran already or the container cannot."""
        if self.started:
            raise Conflict(
                f"Error: Exec command {self.id} is already running"
                if self.running
                else f"Error: Exec command {self.id} has already run"
            )
        if self.container.state.paused:
            raise Conflict(
                f"container {self.container.name} is paused, unpause the container before exec"
            )
        _ = self.container.active

    async def start(self, console: tuple[int, int] = (0, 0), *, stdin: bool = False) -> None:
        """Start the process. Raises Conflict, ExecFailed."""
        self.check_startable()
        self.started = True
        run = self.container.active
        self._stdin = Stdin() if stdin else None
        stdio = self._stdio = Stdio(
            terminal=self.config.terminal, stdin=self._stdin, sinks=self._sinks
        )
        if all(console):
            stdio.resize(*console)
        self._tell(f"exec_start: {' '.join(self.config.argv)}")
        try:
            self.running = True
            answer = await run.call(
                "exec",
                tuple(stdio.guest_side),
                exec=self.id,
                argv=self.config.argv,
                env=self._environment(),
                cwd=self.config.cwd or self.container.config["WorkingDir"] or "/",
                user=self.config.user or self.container.config["User"],
                terminal=self.config.terminal,
                privileged=self.config.privileged,
            )
        except KernelGone:
            self._give_up(_LOST_CODE)
            raise Conflict(f"container {self.container.id} is not running") from None
        except KernelError as error:
            self._give_up(126 if error.kind == "not-executable" else 127)
            if error.kind == "internal":
                raise
            raise ExecFailed(f"{_OCI}: {error}: unknown") from None
        except BaseException:
            self._give_up(_LOST_CODE)
            raise
        finally:
            stdio.release()
        self.pid = int(answer["pid"]) if isinstance(answer, dict) else 0
        self._began.set()

    def add_sink(self, sink: Sink) -> None:
        """Let a sink see the output from its first byte: call it before `start`."""
        self._sinks.add(sink)

    def client_sink(self, connection: Connection) -> ClientSink:
        """Let a client see the output from its first byte: call it before `start`."""
        streams = frozenset(
            number
            for number, wanted in ((1, self.config.attach_stdout), (2, self.config.attach_stderr))
            if wanted
        )
        sink = ClientSink(connection, framed=not self.config.terminal, streams=streams)
        self._sinks.add(sink)
        return sink

    async def serve(self, connection: Connection, sink: ClientSink, detach_keys: bytes) -> None:
        """Keep a client connected to the started process until it ends or the client leaves."""
        options = AttachOptions(
            stdin=self._stdin is not None,
            terminal=self.config.terminal,
            close_stdin=True,
            detach_keys=detach_keys,
        )
        if await attach(connection, sink, self._sinks, self._stdin, options):
            self._tell("exec_detach")

    async def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size; waits for the process to have started."""
        if self.exit_code is not None:
            raise Conflict(f"exec {self.id} is not running")
        await asyncio.wait_for(self._began.wait(), 10)
        if self._stdio is not None:
            self._stdio.resize(rows, columns)

    async def ended(self, code: int) -> None:
        """The kernel reports the end: deliver the rest of the output, then tell."""
        if self._stdio is None or self._ended.is_set():
            return
        self.exit_code, self.ended_ns = code, now_ns()
        self._ended.set()
        await self._stdio.drain(_DRAIN_SECONDS)
        self.running = False
        if self._stdin is not None:
            self._stdin.close()
        self._tell("exec_die", exitCode=str(code))
        await self._stdio.drained.wait()
        for sink in tuple(self._sinks):
            sink.finish()

    async def ended_with_container(self) -> None:
        """The container's end is the end of every process in it."""
        if self.running:
            self.exit_code = _LOST_CODE if self.exit_code is None else self.exit_code
            await self.ended(self.exit_code)

    def to_inspect(self) -> dict[str, Any]:
        """Docker's exec object."""
        config = self.config
        process: dict[str, Any] = {
            "tty": config.terminal,
            "entrypoint": config.argv[0],
            "arguments": config.argv[1:],
            "privileged": config.privileged,
        }
        if config.user:
            process["user"] = config.user
        return {
            "ID": self.id,
            "Running": self.running,
            "ExitCode": self.exit_code,
            "ProcessConfig": process,
            "OpenStdin": config.attach_stdin,
            "OpenStderr": config.attach_stderr,
            "OpenStdout": config.attach_stdout,
            "CanRemove": self.exit_code is not None,
            "ContainerID": self.container.id,
            "DetachKeys": config.detach_keys,
            "Pid": self.pid,
        }

    def _environment(self) -> list[str]:
        base = environment_of(self.container.config, self.container.hostname)
        if self.config.terminal:
            base = override_env(["TERM=xterm"], base)
        return override_env(base, self.config.environment)

    def _give_up(self, code: int) -> None:
        self.exit_code, self.running, self.ended_ns = code, False, now_ns()
        self._ended.set()
        self._began.set()
        if self._stdio is not None:
            self._stdio.abandon()
        if self._stdin is not None:
            self._stdin.close()

    def _tell(self, action: str, **own: str) -> None:
        self.emit(action, {"execID": self.id, **own})
