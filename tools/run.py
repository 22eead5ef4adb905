"""`make run`: a daemon in the background, a small image, and a first container that says hello.

Safe to repeat: what is already there is used.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DDOCK = ROOT / ".venv/bin/ddock"
GREETING = ["run", "--rm", "busybox", "sh", "-c", "echo hi from $(hostname)"]


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the daemon's unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket file instead of a host and port."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(os.fspath(self.path))


def status(path: Path, target: str) -> int:
    """Return the status of a GET, 0 when no daemon answers."""
    connection = UnixConnection(path)
    try:
        connection.request("GET", target)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def main() -> int:
    """Bring everything up and run the greeting."""
    home = Path(os.environ.get("DDOCK_HOME") or Path.home() / ".ddock").absolute()
    path = home / "run" / "docker.sock"
    environment = os.environ | {"DOCKER_HOST": f"unix://{path}", "DDOCK_HOME": os.fspath(home)}
    environment.pop("DOCKER_CONTEXT", None)
    if status(path, "/_ping") != 200:
        start = [str(DDOCK), "daemon", "--home", str(home), "--socket", str(path)]
        if subprocess.run(start, stdout=subprocess.DEVNULL, check=False).returncode:
            return 1
    if status(path, "/images/busybox/json") != 200:
        bootstrap = [str(DDOCK), "image", "bootstrap", "busybox"]
        if subprocess.run(bootstrap, env=environment, check=False).returncode:
            return 1
    client = shutil.which("docker")
    done = subprocess.run([client or str(DDOCK), *GREETING], env=environment, check=False)
    if done.returncode:
        return done.returncode
    command = "docker" if client else os.path.relpath(DDOCK)
    print(f"\nThe daemon stays up ({path}). Go on with:")
    print(f"    export DOCKER_HOST=unix://{path}")
    print(f"    {command} run --rm -it busybox sh")
    print(f"and stop it with: {os.path.relpath(DDOCK)} stop")
    return 0


if __name__ == "__main__":
    sys.exit(main())
