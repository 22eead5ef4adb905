"""The docker CLI the tests drive: the machine's, or Debian's unpacked into the cache.

`DDOCK_TEST_DOCKER` names another one.
"""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

from tests.images import cache
from tools import debs


@functools.cache
def path() -> Path:
    """Return the program's path. Raises debs.DebsError when there is none to be had."""
    chosen = os.environ.get("DDOCK_TEST_DOCKER") or shutil.which("docker")
    if chosen:
        return Path(chosen)
    prefix = cache.directory() / "docker-cli"
    program = prefix / "usr/bin/docker"
    with cache.lock("docker-cli"):
        if not program.exists():
            try:
                debs.fetch(["docker-cli"], prefix)  # its own package since Debian 13
            except debs.DebsError:
                debs.fetch(["docker.io"], prefix)
    return program
