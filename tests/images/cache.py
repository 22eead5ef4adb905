"""Where test material that takes long to make is kept, and how two runs share it.

Everything is made once per description (package list, sources) below `.cache/` of the working
tree, under a name that holds the description's hash. `DDOCK_TEST_CACHE` names another place.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def directory() -> Path:
    """Return the cache directory, made if it is missing."""
    path = Path(os.environ.get("DDOCK_TEST_CACHE") or ROOT / ".cache").absolute()
    path.mkdir(parents=True, exist_ok=True)
    return path


def digest(*parts: bytes | str) -> str:
    """Name a description: equal parts give equal names."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part.encode() if isinstance(part, str) else part)
        state.update(b"\0")
    return state.hexdigest()[:16]


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Let one process at a time make `name`."""
    with (directory() / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def made(name: str, description: str, make: Callable[[Path], None]) -> Path:
    """The directory `<name>-<description>`; `make` fills it where it is missing."""
    path = directory() / f"{name}-{description}"
    with lock(name):
        if not path.exists():
            partial = path.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            make(partial)
            partial.rename(path)
    return path
