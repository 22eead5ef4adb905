"""Every excuse in emulator_limits.toml is true: the emulator alone, without ddock, shows it."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

from tests.guests import build, cross, emulator_limits, transcripts
from tests.guests.emulator_limits import ALL, Limit

REASON = cross.available() or emulator_limits.available()
pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(bool(REASON), reason=f"NO ORACLE: {REASON}"),
]
# Programs in which plain qemu-user does all that Linux does, so that any difference is ours.
FAULTLESS = (
    *("credentials", "devices", "dirs", "epolls", "event_fds", "files", "futexes"),
    *("inet_sockets", "links", "locks", "pipes", "signals_basic", "signals_fault"),
    *("signals_info", "signals_restart", "signals_threads", "system_v", "timers"),
    *("watches", "xattrs"),
)


@functools.cache
def _lines(programs: Path, variant: str, name: str) -> tuple[str, ...]:
    run = emulator_limits.plain(programs, variant, name)
    return tuple(run.stdout.decode(errors="replace").splitlines())


@pytest.mark.parametrize(
    ("limit", "variant"),
    [(limit, variant) for limit in ALL for variant in limit.variants],
    ids=lambda value: f"{value.program}: {value.linux[:40]}" if isinstance(value, Limit) else value,
)
def test_the_emulator_alone_shows_the_limit(
    arm64_programs: Path, limit: Limit, variant: str
) -> None:
    linux = transcripts.expected(limit.program).splitlines()
    lines = _lines(arm64_programs, variant, limit.program)
    assert lines.count(limit.linux) < linux.count(limit.linux)
    assert any(re.fullmatch(limit.emulator, line) for line in lines)


@pytest.mark.parametrize("name", FAULTLESS)
def test_the_emulator_alone_gives_the_expected_transcript(arm64_programs: Path, name: str) -> None:
    # The cross compiler's build is a faithful one, and so is what an arm64 Linux would print.
    variant = "glibc-static"
    assert _lines(arm64_programs, variant, name) == tuple(transcripts.expected(name).splitlines())


def test_every_limit_names_a_line_of_a_transcript() -> None:
    for limit in ALL:
        assert limit.linux in transcripts.expected(limit.program).splitlines()
        assert set(limit.variants) <= set(build.VARIANTS)


def test_an_excuse_is_used_once() -> None:
    limit = Limit("p", "child exited 0", "child exited 1", "")
    twice = "child exited 1\nchild exited 1\n"
    expected = "child exited 0\nchild exited 1\n"
    assert emulator_limits.forgiven(twice, expected, [limit]) == expected
    assert emulator_limits.forgiven(expected, expected, [limit]) == expected
