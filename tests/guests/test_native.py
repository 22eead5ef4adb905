"""The oracle first: Linux itself produces every transcript, from every build of a program."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.guests import build, transcripts
from tests.images import native

# One id in the user namespace of an ordinary user: no other owners to try.
NEEDS_ROOT = {"credentials"}

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(bool(native.available()), reason=f"NO ORACLE: {native.available()}"),
]


@pytest.mark.parametrize("name", build.names())
@pytest.mark.parametrize("variant", build.VARIANTS)
def test_linux_gives_the_expected_transcript(programs: Path, name: str, variant: str) -> None:
    if name in NEEDS_ROOT and os.geteuid():
        pytest.skip("NO ORACLE: needs root to change owners natively")
    run = transcripts.natively(programs, variant, name)
    assert run.stdout.decode() == transcripts.expected(name)
    assert (run.stderr, run.status) == (b"", 0)
