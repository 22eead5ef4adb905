"""A storm of twenty seconds; `python -m tests.stress` runs longer ones."""

from __future__ import annotations

import pytest

from tests.docker.daemon import Daemon
from tests.guests.test_arm64 import REASON
from tests.stress.__main__ import IMAGES, storm

pytestmark = [pytest.mark.docker, pytest.mark.slow]


def test_twenty_seconds(docker: Daemon) -> None:
    assert storm(docker, containers=4, processes=6, seconds=20, seed=7) == []


@pytest.mark.skipif(bool(REASON), reason=REASON)
def test_ten_seconds_of_arm64_guests(docker: Daemon, arm64_busybox: str) -> None:
    assert docker("tag", arm64_busybox, IMAGES["arm64"][-1]).status == 0
    assert storm(docker, containers=2, processes=4, seconds=10, seed=7, isa="arm64") == []
