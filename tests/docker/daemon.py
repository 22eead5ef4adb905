r"""A daemon with a home of its own, and the docker CLI pointed at it.

assert docker("run --rm busybox sh -c 'echo hi; exit 3'") == Outcome("hi\n", "", 3)
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.images import client

ROOT = Path(__file__).resolve().parents[2]
DDOCK = [sys.executable, "-m", "cli"]
DEADLINE_SECONDS = 30.0


class Outcome(NamedTuple):
    """What a command printed and how it ended."""

    stdout: str
    stderr: str
    status: int


def eventually(
    condition: Callable[[], Any], what: str = "", deadline_seconds: float = DEADLINE_SECONDS
) -> Any:
    """Wait until the condition gives something true and return that."""
    end = time.monotonic() + deadline_seconds
    pause = 0.002
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_seconds} s: {what or condition}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    return found


class Daemon:
    """One `ddock daemon` and the CLI that talks to it."""

    def __init__(self) -> None:
        # A socket's path is at most 107 bytes: not below pytest's long directories.
        self.base = Path(tempfile.mkdtemp(prefix="dd-", dir="/tmp"))
        self.home = self.base / "home"
        self.socket = self.home / "run" / "docker.sock"
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        kept = {name: os.environ[name] for name in ("PATH", "TERM", "LANG") if name in os.environ}
        self.environment = kept | {
            "HOME": str(self.base),
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_CONFIG": str(self.base / "docker-config"),
            "DDOCK_HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }

    def start(self) -> None:
        """Start it and wait until it answers."""
        done = self.ddock("daemon")
        if done.status:
            raise AssertionError(f"the daemon did not start: {done.stderr}{self.log_tail()}")

    def stop(self) -> None:
        """Stop it in good order."""
        self.ddock("stop")

    def kill(self) -> None:
        """End it as a crash would."""
        os.kill(self.pid, signal.SIGKILL)
        eventually(lambda: not self.running, "the killed daemon is gone")

    @property
    def pid(self) -> int:
        """The daemon's process."""
        return int((self.home / "run/daemon.pid").read_text())

    @property
    def running(self) -> bool:
        """Whether that process lives."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (OSError, ValueError):
            return False
        return state != "Z"

    def remove(self) -> None:
        """Stop it and delete everything it had."""
        self.stop()
        shutil.rmtree(self.base, ignore_errors=True)

    def ddock(self, *words: str, timeout: float = 60) -> Outcome:
        """Run the `ddock` command."""
        return self._run([*DDOCK, *words], b"", timeout)

    def command(self, words: Sequence[str]) -> list[str]:
        """The CLI's command line; a single string is split as a shell would."""
        if len(words) == 1:
            words = shlex.split(words[0])
        return [str(client.path()), *words]

    def __call__(
        self,
        *words: str,
        stdin: bytes = b"",
        timeout: float = 100,
        environment: Mapping[str, str] = {},
    ) -> Outcome:
        """Run the docker CLI to its end."""
        return self._run(self.command(words), stdin, timeout, environment)

    def popen(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start the docker CLI; the caller waits for it."""
        return subprocess.Popen(self.command(words), env=self.environment, **options)

    def _run(
        self,
        command: Sequence[str],
        stdin: bytes,
        timeout: float,
        environment: Mapping[str, str] = {},
    ) -> Outcome:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            env=self.environment | dict(environment),
            timeout=timeout,
            check=False,
        )
        return Outcome(
            done.stdout.decode(errors="surrogateescape"),
            done.stderr.decode(errors="surrogateescape"),
            done.returncode,
        )

    def log_tail(self, lines: int = 40) -> str:
        """The end of the daemon's log, for a failure's report."""
        text = ""
        for path in sorted((self.home / "log").glob("*")):
            tail = path.read_text(errors="replace").splitlines()[-lines:]
            text += f"--- {path.name}\n" + "\n".join(tail) + "\n"
        return text
