"""The same transcripts in a container."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.docker.daemon import Daemon
from tests.guests import build, transcripts

pytestmark = pytest.mark.docker


def _programs() -> list[object]:
    known = tomllib.loads((Path(__file__).parent / "known_failures.toml").read_text())
    return [
        pytest.param(name, marks=pytest.mark.xfail(reason=known[name])) if name in known else name
        for name in build.names()
    ]


@pytest.mark.parametrize("name", _programs())
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
