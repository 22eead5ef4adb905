"""The daemon's home directory: where everything lies, and how files in it are replaced.

Invariant: a reader sees the old or the new content of a file, never a part; what was being built
when the daemon died lies in `tmp` only, and is swept at the next start.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any


class Home:
    """Paths below one home directory. Creating the object touches nothing; `prepare` does."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.run = root / "run"
        self.log = root / "log"
        self.images = root / "images"
        self.blobs = self.images / "blobs" / "sha256"
        self.layers = root / "layers"
        self.containers = root / "containers"
        self.volumes = root / "volumes"
        self.cache = root / "cache"
        self.tmp = root / "tmp"
        self.socket = self.run / "docker.sock"
        self.pid_file = self.run / "daemon.pid"
        self.socket_file = self.run / "socket"  # where the daemon listens, if not at `socket`
        self.lock_file = self.run / "daemon.lock"
        self.daemon_log = self.log / "daemon.log"

    @classmethod
    def default(cls) -> Home:
        """$DDOCK_HOME, else ~/.ddock."""
        chosen = os.environ.get("DDOCK_HOME")
        return cls(Path(chosen) if chosen else Path.home() / ".ddock")

    def prepare(self) -> None:
        """Make every directory, private to the user, and sweep what a crash left half-made."""
        for directory in (
            self.root,
            self.run,
            self.log,
            self.images,
            self.blobs,
            self.layers,
            self.containers,
            self.volumes,
            self.cache,
        ):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_tree(self.tmp)
        self.tmp.mkdir(mode=0o700)

    def scratch(self, prefix: str) -> Path:
        """A new private directory on the home's filesystem; the caller renames or removes it."""
        return Path(tempfile.mkdtemp(prefix=prefix + "-", dir=self.tmp))


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` by a file holding `data`; readers see the old or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    write_atomically(path, text.encode())


def read_json(path: Path) -> Any:
    """The value in a JSON file. Raises FileNotFoundError, or ValueError for a damaged file."""
    return json.loads(path.read_bytes())


def remove_tree(path: Path) -> None:
    """Remove a directory tree whatever modes its directories have; absence is fine."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except PermissionError:
        for directory, _, _ in os.walk(path):
            os.chmod(directory, stat.S_IRWXU)
        shutil.rmtree(path, ignore_errors=True)
