"""The daemon's orders to a kernel: start, exec, signal, pause, files, figures (see `Control`)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from codegen.layout import SLOT_LIMIT
from kernel.archives import Archives
from kernel.container import Start
from kernel.credentials import container_credentials
from kernel.errors import LinuxError
from kernel.fs.layer import LayerError
from kernel.fs.metadata import DIRECTORY
from kernel.packets import Message, PacketChannel
from kernel.signals.sending import send_to_process
from kernel.signals.state import SI_USER, SIGKILL, Info
from kernel.tracing import Tracer
from kernel.users import UserError, resolve_user

if TYPE_CHECKING:
    from kernel.container import Container
    from kernel.credentials import Credentials
    from kernel.fs.context import FsContext
    from kernel.process import Process

_log = logging.getLogger("ddock.kernel")
_DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Refused(Exception):
    """An order that cannot be carried out; `kind` is one of the protocol's words."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Control:
    """Answers control messages. An operation is a method `do_<name>` of (message, fds)."""

    def __init__(self, container: Container, stdio: list[int]) -> None:
        self._container = container
        self._stdio = stdio
        self.channel: PacketChannel | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._paused: list[int] = []
        self._execs: dict[str, Process] = {}

    def received(self, message: Message, fds: list[int]) -> None:
        """A message from the daemon; the descriptors are ours to close."""
        operation = getattr(self, "do_" + str(message.get("op")).replace("-", "_"), None)
        if operation is None:
            self._answer(message, {"error": {"kind": "invalid", "message": "no such operation"}})
            for fd in fds:
                os.close(fd)
            return
        task = asyncio.ensure_future(self._run(operation, message, fds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(
        self, operation: Callable[..., Coroutine[Any, Any, Any]], message: Message, fds: list[int]
    ) -> None:
        try:
            answer: Message = {"ok": await operation(message, fds)}
        except Refused as refused:
            answer = {"error": {"kind": refused.kind, "message": str(refused)}}
        except LinuxError as error:
            answer = {"error": {"kind": _kind(error.errno), "message": os.strerror(error.errno)}}
        except Exception as error:  # noqa: BLE001 - logged and told
            _log.exception("control operation %s failed", message.get("op"))
            answer = {"error": {"kind": "internal", "message": str(error)}}
        finally:
            for fd in fds:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self._answer(message, answer)

    def _answer(self, message: Message, answer: Message) -> None:
        if self.channel is not None and self.channel.is_open:
            self.channel.send({"id": message.get("id"), **answer})

    # -- processes -------------------------------------------------------------------------------

    async def do_start(self, _message: Message, _fds: list[int]) -> dict[str, int]:
        """Start the container's first process."""
        spec = self._container.spec
        try:
            process = self._spawn(
                spec.argv, spec.env, spec.cwd, spec.user, spec.terminal, self._stdio
            )
        finally:
            for fd in self._stdio:
                os.close(fd)
        return {"pid": process.host_pid}

    async def do_exec(self, message: Message, fds: list[int]) -> dict[str, int]:
        """Start another process beside it (`docker exec`)."""
        if message["terminal"] and os.isatty(fds[0]):
            self._container.mounts.terminals.adopt(os.fsencode(os.ttyname(fds[0])))
        process = self._spawn(
            message["argv"], message["env"], message["cwd"], message["user"],
            bool(message["terminal"]), fds, bool(message.get("privileged")),
        )  # fmt: skip
        identifier = message["exec"]

        def ended(status: int) -> None:
            from kernel.session import exit_code  # noqa: PLC0415 - session imports us

            self._execs.pop(identifier, None)
            if self.channel is not None and self.channel.is_open:
                self.channel.send(
                    {"event": "exec-exit", "exec": identifier, "code": exit_code(status)}
                )

        process.on_end.append(ended)
        self._execs[identifier] = process
        return {"pid": process.host_pid}

    def _spawn(
        self,
        argv: list[str],
        env: list[str],
        cwd: str,
        user: str,
        terminal: bool,
        stdio: list[int],
        privileged: bool = False,
    ) -> Process:
        container = self._container
        credentials, home = self._credentials(user, privileged)
        fs = container.mounts.context()
        environment = _environment(env, home, container.spec.hostname, terminal)
        look = container.look(credentials, fs)
        self._enter(look, fs, os.fsencode(cwd or "/"))
        arguments = [os.fsencode(a) for a in argv]
        path = self._find(look, arguments[0], environment)
        start = Start(path, arguments, environment, terminal)
        try:
            return container.spawn(start, credentials, fs, (stdio[0], stdio[1], stdio[2]))
        except LinuxError as error:
            raise _exec_refusal(argv[0], error) from error

    def _credentials(self, user: str, privileged: bool) -> tuple[Credentials, bytes]:
        container = self._container
        spec = container.spec
        try:
            found = resolve_user(
                user, container.read_file(b"/etc/passwd"), container.read_file(b"/etc/group"),
                spec.groups,
            )  # fmt: skip
        except UserError as error:
            raise Refused("invalid", str(error)) from error
        bounding = (1 << 41) - 1 if privileged else container.capabilities
        who = container_credentials(
            found.uid, found.gid, found.groups, bounding, spec.no_new_privileges
        )
        return who, found.home

    @staticmethod
    def _enter(look: Any, fs: FsContext, cwd: bytes) -> None:
        """Docker creates a missing working directory."""
        try:
            node = look.make_directories(cwd)
        except LinuxError as error:
            raise Refused(
                _kind(error.errno),
                f'chdir to cwd ("{os.fsdecode(cwd)}") set in config.json failed: '
                f"{os.strerror(error.errno).lower()}",
            ) from error
        if node.kind != DIRECTORY:
            raise Refused(
                "not-directory",
                f'chdir to cwd ("{os.fsdecode(cwd)}") set in config.json failed: not a directory',
            )
        fs.change_directory(node)

    @staticmethod
    def _find(look: Any, name: bytes, environment: list[bytes]) -> bytes:
        """PATH look-up with runc's errors."""
        shown = os.fsdecode(name)
        if b"/" in name:
            return name
        path = next((e[5:] for e in environment if e.startswith(b"PATH=")), b"")
        denied = False
        for directory in path.split(b":"):
            candidate = (directory or b".") + b"/" + name
            verdict = look.executable(candidate)
            if verdict == 0:
                return candidate
            denied = denied or verdict == errno.EACCES
        if denied:
            raise Refused("not-executable", f'exec: "{shown}": permission denied')
        raise Refused("not-found", f'exec: "{shown}": executable file not found in $PATH')

    async def do_signal(self, message: Message, _fds: list[int]) -> dict[str, Any]:
        """Signal init from outside its pid namespace."""
        number = int(message["signal"])
        init = self._container.pids.get(1)
        if init is None:
            raise Refused("conflict", "container is not running")
        if number == SIGKILL:
            self._container.kill(init, SIGKILL)
        elif number:
            send_to_process(init, Info(number, SI_USER, 0, bytes(8)))
        return {}

    async def do_exec_signal(self, message: Message, _fds: list[int]) -> dict[str, Any]:
        """Signal a process that `exec` started."""
        process = self._execs.get(message["exec"])
        if process is None:
            raise Refused("not-found", "no such exec")
        number = int(message["signal"])
        if number == SIGKILL:
            self._container.kill(process, SIGKILL)
        elif number:
            send_to_process(process, Info(number, SI_USER, 0, bytes(8)))
        return {}

    async def do_update(self, message: Message, _fds: list[int]) -> dict[str, Any]:
        """Change limits of the running container."""
        if "pids_limit" in message:
            self._container.pids_limit = int(message["pids_limit"]) or SLOT_LIMIT
        if "memory_bytes" in message:
            self._container.memory.set(int(message["memory_bytes"]))
        return {}

    async def do_pause(self, _message: Message, _fds: list[int]) -> dict[str, Any]:
        """Stop every guest where it stands, unseen by the guests."""
        self._paused = [p.host_pid for p in self._container.pids.values() if not p.zombie]
        for host_pid in self._paused:
            with contextlib.suppress(ProcessLookupError):
                os.kill(host_pid, signal.SIGSTOP)
        return {}

    async def do_resume(self, _message: Message, _fds: list[int]) -> dict[str, Any]:
        """Undo pause."""
        stopped = {p.host_pid for p in self._container.pids.values() if p.stopped}
        for host_pid in self._paused:
            if host_pid not in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(host_pid, signal.SIGCONT)
        self._paused = []
        return {}

    # -- figures ---------------------------------------------------------------------------------

    async def do_stats(self, _message: Message, _fds: list[int]) -> dict[str, int]:
        """What `docker stats` shows."""
        from kernel.figures import stats  # noqa: PLC0415 - only where somebody asks

        return stats(self._container)

    async def do_top(self, _message: Message, _fds: list[int]) -> dict[str, Any]:
        """What `docker top` shows."""
        from kernel.figures import top  # noqa: PLC0415

        return top(self._container)

    # -- files -----------------------------------------------------------------------------------

    async def do_archive_stat(self, message: Message, _fds: list[int]) -> dict[str, Any]:
        """What a path is."""
        return Archives(self._container).stat(message["path"])

    async def do_archive_get(self, message: Message, fds: list[int]) -> dict[str, Any]:
        """Write a path's tar to the descriptor."""
        await Archives(self._container).get(message["path"], fds[0])
        return {}

    async def do_archive_put(self, message: Message, fds: list[int]) -> dict[str, Any]:
        """Unpack the descriptor's tar."""
        keep = bool(message.get("no_overwrite_dir_non_dir"))
        try:
            await Archives(self._container).put(message["path"], fds[0], keep_kind=keep)
        except LayerError as error:
            raise Refused("invalid", str(error)) from error
        return {}

    async def do_changes(self, _message: Message, fds: list[int]) -> dict[str, Any]:
        """Write what differs from the image to the descriptor."""
        await Archives(self._container).changes(fds[0])
        return {}

    async def do_layer(self, _message: Message, fds: list[int]) -> dict[str, Any]:
        """Write what differs from the image to the descriptor, as a layer's tar."""
        await Archives(self._container).layer(fds[0])
        return {}

    async def do_export(self, _message: Message, fds: list[int]) -> dict[str, Any]:
        """Write the root file system's tar to the descriptor."""
        await Archives(self._container).export(fds[0])
        return {}

    async def do_trace(self, message: Message, fds: list[int]) -> dict[str, Any]:
        """Write a line a call to the descriptor, until told to stop or nobody reads."""
        dispatcher = self._container.dispatcher
        if dispatcher.trace is not None:
            dispatcher.trace = None
        if message.get("on"):
            if not fds:
                raise Refused("invalid", "trace needs a descriptor")
            dispatcher.trace = Tracer(self._container, os.dup(fds[0]))
        return {}


def _environment(env: list[str], home: bytes, hostname: str, terminal: bool) -> list[bytes]:
    """The last of duplicate names wins; PATH, HOSTNAME, HOME and TERM as Docker has them."""
    values: dict[bytes, bytes] = {
        b"PATH": _DEFAULT_PATH[5:].encode(),
        b"HOSTNAME": hostname.encode(),
    }
    if terminal:
        values[b"TERM"] = b"xterm"
    for entry in env:
        name, equals, value = os.fsencode(entry).partition(b"=")
        if equals:
            values[name] = value
    values.setdefault(b"HOME", home)
    return [name + b"=" + value for name, value in values.items()]


def _kind(number: int) -> str:
    return {
        errno.ENOENT: "not-found",
        errno.EACCES: "not-executable",
        errno.ENOTDIR: "not-directory",
    }.get(number, "invalid")


def _exec_refusal(name: str, error: LinuxError) -> Refused:
    if error.errno == errno.ENOENT:
        return Refused("not-found", f'exec: "{name}": stat {name}: no such file or directory')
    if error.errno == errno.EACCES:
        return Refused("not-executable", f'exec: "{name}": permission denied')
    text = {errno.ENOEXEC: "exec format error"}.get(error.errno, os.strerror(error.errno).lower())
    return Refused("invalid", f"exec {name}: {text}")
