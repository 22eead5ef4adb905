"""`ddock daemon`: start the daemon, and return when it answers."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from api.daemon import Daemon, DaemonError, daemon_pid
from api.engine.home import Home
from api.versions import DEFAULT_ZYGOTE
from cli.client import Client

_START_SECONDS = 30.0
_TAIL_LINES = 20


def main(home: Home, arguments: list[str]) -> int:
    """0 when the daemon answers; 1 when it cannot start, or runs already."""
    parser = argparse.ArgumentParser(prog="ddock daemon", description=__doc__)
    parser.add_argument("--home", type=Path, help="default: $DDOCK_HOME or ~/.ddock")
    parser.add_argument("--socket", type=Path, help="default: <home>/run/docker.sock")
    parser.add_argument("--foreground", action="store_true", help="stay, and log to the terminal")
    parser.add_argument("--zygote", default=DEFAULT_ZYGOTE, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.home:
        home = Home(options.home.absolute())
    socket = options.socket.absolute() if options.socket else home.socket
    try:
        if options.foreground:
            Daemon(home, socket, options.zygote).run()
        else:
            start(home, socket, options.zygote)
            print(f"ddock: listening on {socket}\nexport DOCKER_HOST=unix://{socket}")
    except DaemonError as error:
        print(f"ddock: {error}", file=sys.stderr)
        return 1
    return 0


def start(home: Home, socket: Path, zygote: str = DEFAULT_ZYGOTE) -> subprocess.Popen[bytes]:
    """Start a daemon in the background and wait until it answers. Raises DaemonError."""
    pid = daemon_pid(home)
    if pid:
        raise DaemonError(f"a daemon is already running for {home.root} (pid {pid})")
    home.log.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-m", "api", "--home", os.fspath(home.root)]
    command += ["--socket", os.fspath(socket), "--zygote", zygote]
    paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    output = home.log / "daemon.out"
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            env=environment,
            cwd="/",
        )
    client = Client(socket)
    deadline = time.monotonic() + _START_SECONDS
    while not client.answers():
        if process.poll() is not None:
            raise DaemonError(f"the daemon ended at once:\n{_tail(output)}{_tail(home.daemon_log)}")
        if time.monotonic() > deadline:
            process.terminate()
            raise DaemonError(f"the daemon does not answer; see {home.daemon_log}")
        time.sleep(0.02)
    return process


def _tail(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "".join(f"  {line}\n" for line in lines[-_TAIL_LINES:])
