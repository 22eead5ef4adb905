"""Fixtures of the guest programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guests import build


@pytest.fixture(scope="session")
def programs() -> Path:
    """The compiled programs: `<variant>/<name>`."""
    return build.compiled()
