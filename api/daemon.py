"""The daemon process: one per home. Lock, pid file, socket, engine, and a clean end.

The lock file decides who is the daemon; pid file and socket are only there for others to find it.
A socket left by a dead daemon is removed by the next one that holds the lock.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import resource
import signal
import sys
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

from api.engine.home import Home
from api.versions import DEFAULT_ZYGOTE

_LOG = logging.getLogger("ddock.daemon")
_LOG_BYTES, _LOG_FILES = 8 << 20, 2
_SOCKET_PATH_BYTES = 107  # unix(7): sun_path


class DaemonError(Exception):
    """The daemon cannot start; the message says why."""


class Daemon:
    """Runs until SIGTERM or SIGINT."""

    def __init__(
        self, home: Home, socket: Path | None = None, zygote: str = DEFAULT_ZYGOTE
    ) -> None:
        self._home = home
        self._socket = socket or home.socket
        self._zygote = zygote
        self._lock = -1

    def run(self) -> None:
        """Serve. Raises DaemonError when another daemon has this home, or nothing can be served."""
        for directory in (self._home.root, self._home.run, self._home.log):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if len(os.fsencode(self._socket)) > _SOCKET_PATH_BYTES:
            raise DaemonError(
                f"the socket path is longer than {_SOCKET_PATH_BYTES} bytes:"
                f" {self._socket} (choose another with --socket)"
            )
        self._take_lock()
        try:
            import uvloop  # noqa: PLC0415 - `ddock stop` and `doctor` do without

            _set_up_logging(self._home.daemon_log)
            uvloop.run(self._serve())
        finally:
            os.close(self._lock)

    async def _serve(self) -> None:
        from api.app import Application  # noqa: PLC0415
        from api.engine.engine import Engine  # noqa: PLC0415
        from api.hijack import HttpServer  # noqa: PLC0415

        _raise_limits()
        loop = asyncio.get_running_loop()
        ending = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ending.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        engine = Engine(self._home, self._zygote)
        server = HttpServer(Application(engine))
        try:
            self._socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                self._socket.unlink()
            await engine.start()
            await server.start(os.fspath(self._socket))
            self._home.socket_file.write_text(os.fspath(self._socket))
            _LOG.info("listening on %s", self._socket)
            await ending.wait()
            _LOG.info("stopping")
        finally:
            server.stop_listening()
            with suppress(FileNotFoundError):
                self._socket.unlink()
            await engine.stop()
            await server.stop()
            self._home.pid_file.unlink(missing_ok=True)
            self._home.socket_file.unlink(missing_ok=True)
        _LOG.info("stopped")

    def _take_lock(self) -> None:
        self._lock = os.open(self._home.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DaemonError(
                f"a daemon is already running for {self._home.root} (pid {daemon_pid(self._home)})"
            ) from None
        self._home.pid_file.write_text(f"{os.getpid()}\n")


def daemon_pid(home: Home) -> int:
    """The pid of the daemon that has this home, 0 when there is none."""
    try:
        descriptor = os.open(home.lock_file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with suppress(OSError, ValueError):
            return int(home.pid_file.read_text())
        return 0
    else:
        return 0
    finally:
        os.close(descriptor)


def _set_up_logging(path: Path) -> None:
    handler = RotatingFileHandler(path, maxBytes=_LOG_BYTES, backupCount=_LOG_FILES, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handlers: list[logging.Handler] = [handler]
    if sys.stderr.isatty():
        handlers.append(logging.StreamHandler())
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _raise_limits() -> None:
    """As many descriptors as the host grants: each running container holds about eight."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
