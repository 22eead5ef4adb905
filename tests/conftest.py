"""Fixtures of the tests that drive the docker CLI.

After every such test nothing of the test may be left.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker import leaks
from tests.docker.daemon import Daemon
from tests.images import arm64, debian


@pytest.fixture(scope="session")
def session_daemon() -> Iterator[Daemon]:
    """A daemon for the whole session, with the image busybox:latest."""
    daemon = Daemon()
    daemon.start()
    made = daemon.ddock("image", "bootstrap", "busybox", "--offline")
    assert made.status == 0, made
    yield daemon
    daemon.remove()


@pytest.fixture(scope="session")
def debian_image(session_daemon: Daemon) -> str:
    """The Debian tree, imported; its name."""
    done = session_daemon("import", str(debian.tarball()), "debian:test", timeout=300)
    assert done.status == 0, done
    return "debian:test"


@pytest.fixture(scope="session")
def arm64_debian(session_daemon: Daemon) -> str:
    """The arm64 Debian tree (unpacked packages, nothing configured), imported; its name."""
    return _imported(session_daemon, arm64.tarball(), "debian:arm64")


@pytest.fixture(scope="session")
def arm64_busybox(session_daemon: Daemon) -> str:
    """An arm64 image with busybox only; its name."""
    return _imported(session_daemon, arm64.busybox(), "busybox:arm64")


def _imported(daemon: Daemon, archive: Path, name: str) -> str:
    done = daemon("import", "--platform", "linux/arm64", str(archive), name, timeout=300)
    assert done.status == 0, done
    return name


def remove_containers(daemon: Daemon) -> None:
    """Remove every container, running or not."""
    listed = daemon("ps -aq").stdout.split()
    if listed:
        daemon("rm", "-f", "-v", *listed)


@pytest.fixture
def docker(session_daemon: Daemon) -> Iterator[Daemon]:
    """The CLI against the session's daemon, which has a busybox image."""
    if not session_daemon.running:
        session_daemon.start()  # an earlier test's crash is that test's failure only
    before = leaks.State.of(session_daemon)
    yield session_daemon
    remove_containers(session_daemon)
    leaks.check(before, session_daemon)


@pytest.fixture
def own_daemon() -> Iterator[Daemon]:
    """A daemon that the test may stop and kill."""
    daemon = Daemon()
    daemon.start()
    made = daemon.ddock("image", "bootstrap", "busybox", "--offline")
    assert made.status == 0, made
    yield daemon
    if daemon.running:
        remove_containers(daemon)
    daemon.remove()
    assert not leaks.users_of(daemon.home)
