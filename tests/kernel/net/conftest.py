"""Two containers on one host, with a fake guest in each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import kernel.syscalls.messages
import kernel.syscalls.sockets  # noqa: F401 - declares the calls
from tests.kernel.net.fake import FakeContainer, FakeTask

# Addresses of this test process only, so that parallel runs do not meet.
_BLOCK = 1 + os.getpid() % 14, os.getpid() // 14 % 256


def address(number: int) -> str:
    return f"127.{_BLOCK[0]}.{_BLOCK[1] & 0xF0}.{number}"


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[tuple[FakeContainer, FakeContainer]]:
    first = FakeContainer(tmp_path, address(2), "a")
    second = FakeContainer(tmp_path, address(3), "b")
    yield first, second
    first.close()
    second.close()


@pytest.fixture
def guest(containers: tuple[FakeContainer, FakeContainer]) -> FakeTask:
    return containers[0].task()


@pytest.fixture
def neighbour(containers: tuple[FakeContainer, FakeContainer]) -> FakeTask:
    return containers[1].task()
