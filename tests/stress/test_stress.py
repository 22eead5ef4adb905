"""A storm of twenty seconds; `python -m tests.stress` runs longer ones."""

from __future__ import annotations

import pytest

from tests.docker.daemon import Daemon
from tests.stress.__main__ import storm

pytestmark = [pytest.mark.docker, pytest.mark.slow]


def test_twenty_seconds(docker: Daemon) -> None:
    assert storm(docker, containers=4, processes=6, seconds=20, seed=7) == []
