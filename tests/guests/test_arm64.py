"""The same transcripts in an arm64 container, whose programs run under the emulator."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from kernel.host import engines
from tests.docker.daemon import Daemon
from tests.guests import build, cross, emulator_limits, transcripts

_ENGINE = engines.find("arm64")
REASON = cross.available() or ("" if _ENGINE else "no engine for arm64 guests on this host")
pytestmark = [pytest.mark.docker, pytest.mark.skipif(bool(REASON), reason=REASON)]


# The others differ little, and emulated programs take their time.
_VARIANTS = cross.VARIANTS if "DDOCK_ALL_VARIANTS" in os.environ else ("glibc", "musl-static")


def _programs() -> list[object]:
    known = tomllib.loads((Path(__file__).parent / "known_failures.toml").read_text())
    known |= known.pop("arm64")
    return [
        pytest.param(name, marks=pytest.mark.xfail(reason=known[name])) if name in known else name
        for name in build.names()
    ]


def _transcript_holds(docker: Daemon, image: str, programs: Path, variant: str, name: str) -> None:
    run = docker(
        *("run", "--rm", "--platform", "linux/arm64", "-v", f"{programs}:/mnt/guests:ro"),
        *(image, f"/mnt/guests/{variant}/{name}"),
        timeout=100,
    )
    expected = transcripts.expected(name)
    known = emulator_limits.limits(name, variant)
    if _ENGINE is None or _ENGINE.kind != "emulated":
        known = []
    assert emulator_limits.forgiven(run.stdout, expected, known) == expected
    assert (run.stderr, run.status) == ("", 0)


@pytest.mark.parametrize("name", _programs())
@pytest.mark.parametrize("variant", _VARIANTS)
def test_an_arm64_container_gives_the_expected_transcript(
    docker: Daemon, arm64_debian: str, arm64_programs: Path, name: str, variant: str
) -> None:
    _transcript_holds(docker, arm64_debian, arm64_programs, variant, name)


@pytest.mark.parametrize("name", ["fork_wait", "threads"])
def test_a_compiled_program_runs_in_a_busybox_image(
    docker: Daemon, arm64_busybox: str, arm64_programs: Path, name: str
) -> None:
    _transcript_holds(docker, arm64_busybox, arm64_programs, "glibc-static", name)


def test_a_static_program_runs_in_a_busybox_image(docker: Daemon, arm64_busybox: str) -> None:
    script = "echo $0 $#; uname -m; busybox uname -s; seq 3 | wc -l; exit 7"
    words = ["run", "--rm", "--platform", "linux/arm64", arm64_busybox, "sh", "-c", script, "a"]
    run = docker(*words)
    assert run == ("a 0\naarch64\nLinux\n3\n", "", 7)
