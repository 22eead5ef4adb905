"""One daemon a session for tests that only need containers; one each for tests that stop it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.support import Daemon, eventually, tar_of

BUSYBOX = {
    "bin/busybox": b"#!/bin/false\n",
    "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n",
}


def _home() -> Path:
    return Path(tempfile.mkdtemp(prefix="dd-", dir="/tmp"))  # a socket path must be short


def _with_image(daemon: Daemon) -> Daemon:
    query = {"fromSrc": "-", "repo": "busybox", "tag": "latest", "changes": ['CMD ["sh"]']}
    list(daemon.client.messages("POST", "/images/create", query, tar_of(BUSYBOX)))
    return daemon


def _end(daemon: Daemon) -> None:
    daemon.stop()
    assert not list(daemon.home.tmp.iterdir()), "scratch files were left behind"
    shutil.rmtree(daemon.home.root)


@pytest.fixture(scope="session")
def _session_daemon() -> Iterator[Daemon]:
    daemon = Daemon(_home())
    daemon.start()
    yield _with_image(daemon)
    daemon.clean()
    eventually(lambda: not _children(daemon.pid, but="zygote"))
    _end(daemon)


@pytest.fixture
def daemon(_session_daemon: Daemon) -> Iterator[Daemon]:
    """A running daemon with a busybox image; the test's containers are removed after it."""
    yield _session_daemon
    _session_daemon.clean()


@pytest.fixture
def own_daemon() -> Iterator[Daemon]:
    """A daemon that the test may stop, kill and start."""
    daemon = Daemon(_home())
    daemon.start()
    yield _with_image(daemon)
    if daemon.pid:
        daemon.clean()
    _end(daemon)


def _children(pid: int, but: str) -> list[str]:
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
            if but not in command:
                found.append(command)
    return found
