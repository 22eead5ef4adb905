"""Fixtures of the guest programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guests import build, cross


@pytest.fixture(scope="session")
def programs() -> Path:
    """The compiled programs: `<variant>/<name>`."""
    return build.compiled()


@pytest.fixture(scope="session")
def arm64_programs() -> Path:
    """The same for arm64, cross-compiled."""
    return cross.compiled()
