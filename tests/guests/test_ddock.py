"""The same transcripts in a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docker.daemon import Daemon
from tests.guests import build, transcripts

pytestmark = pytest.mark.docker


@pytest.mark.parametrize("name", build.names())
@pytest.mark.parametrize("variant", build.VARIANTS)
def test_a_container_gives_the_expected_transcript(
    docker: Daemon, debian_image: str, programs: Path, name: str, variant: str
) -> None:
    program = f"/mnt/guests/{variant}/{name}"
    run = docker(
        "run", "--rm", "-v", f"{programs}:/mnt/guests:ro", debian_image, program, timeout=60
    )
    assert run.stdout == transcripts.expected(name)
    assert (run.stderr, run.status) == ("", 0)
