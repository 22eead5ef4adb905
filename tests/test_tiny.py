"""If this passes the whole chain works: CLI, daemon, kernel, ring, stub, program."""

from __future__ import annotations

import pytest

from tests.docker.daemon import Daemon, Outcome


@pytest.mark.docker
@pytest.mark.core
def test_a_container_says_hello(docker: Daemon) -> None:
    assert docker("run --rm busybox sh -c 'echo hi; exit 3'") == Outcome("hi\n", "", 3)


@pytest.mark.docker
@pytest.mark.core
def test_our_own_client_does_too(docker: Daemon) -> None:
    run = docker.ddock("run", "--rm", "busybox", "sh", "-c", "echo hi; exit 3")
    assert run == Outcome("hi\n", "", 3)
