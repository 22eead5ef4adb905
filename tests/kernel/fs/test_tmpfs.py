"""Where private trees lie on the host, and that nothing of them stays."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kernel.fs import tmpfs


@pytest.fixture(params=[True, False], ids=["shared memory", "runtime directory"])
def runtime(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    shared = tmp_path / "shm"
    if request.param:
        shared.mkdir()
    monkeypatch.setattr(tmpfs, "SHARED_MEMORY", os.fsencode(shared))
    return tmp_path


def _fill(directory: bytes) -> Path:
    path = Path(os.fsdecode(directory))
    (path / "1" / "root" / "deep").mkdir(parents=True)
    (path / "1" / "root" / "deep" / "file").touch()
    return path


def test_a_kernel_that_has_ended_takes_nothing_from_the_next_one(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = os.getpid()
    mine = _fill(tmpfs.private_directory("abc", str(runtime)))
    monkeypatch.setattr(os, "getpid", lambda: 1)  # some process that is there
    other = _fill(tmpfs.private_directory("abc", str(runtime)))
    tmpfs.discard_stale("abc", str(runtime))
    assert mine.exists()
    assert other.exists()
    tmpfs.discard("abc", str(runtime), ours)
    assert not mine.exists()
    assert other.exists()
    tmpfs.discard("abc", str(runtime), ours)


def test_what_a_dead_kernel_left_is_removed(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    monkeypatch.setattr(os, "getpid", lambda: dead.pid)
    left = _fill(tmpfs.private_directory("abc", str(runtime)))
    another = _fill(tmpfs.private_directory("abcd", str(runtime)))
    tmpfs.discard_stale("abc", str(runtime))
    assert not left.exists()
    assert another.exists()
