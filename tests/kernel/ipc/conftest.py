"""A container whose processes share this test process's memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import kernel.syscalls.ipc
import kernel.syscalls.mqueue
import kernel.syscalls.sockets  # noqa: F401 - declares the calls
from tests.kernel.net.fake import FakeContainer, FakeTask


@pytest.fixture
def container(tmp_path: Path) -> Iterator[FakeContainer]:
    made = FakeContainer(tmp_path, "127.2.0.3", "p")
    yield made
    made.close()


@pytest.fixture
def guest(container: FakeContainer) -> FakeTask:
    task = container.task()
    task.process.host_pid = os.getpid()
    return task
