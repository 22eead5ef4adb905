"""Same stdout, stderr and exit code as in a chroot of the same tree."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.daemon import Daemon
from tests.images import debian, native
from tests.scenarios.commands import ALL, Scenario

pytestmark = [
    pytest.mark.docker,
    pytest.mark.oracle,
    pytest.mark.skipif(bool(native.available()), reason=f"NO ORACLE: {native.available()}"),
]
HOSTNAME = "scenario"
CHANGED = ("var/cache/apt", "var/lib/dpkg", "var/log", "var/tmp")


def copy(source: Path, target: Path) -> None:
    """Copy a directory with owners, modes and times."""
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "-T", source, target], check=True)


@pytest.fixture
def oracle(tmp_path: Path) -> Iterator[native.Native]:
    """A chroot in which a script may change /tmp and the package database."""
    tree = debian.tree()
    saved = tmp_path / "saved"
    for name in CHANGED:
        copy(tree / name, saved / name)
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    scratch.chmod(0o1777)
    yield native.Native(tree, scratch, HOSTNAME)
    for name in CHANGED:
        shutil.rmtree(tree / name)
        copy(saved / name, tree / name)


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
def test_a_container_does_what_a_chroot_does(
    docker: Daemon, debian_image: str, oracle: native.Native, scenario: Scenario
) -> None:
    if scenario.root and os.geteuid():
        pytest.skip("NO ORACLE: needs root to change ids natively")
    command = ["bash", "-c", scenario.script]
    expected = oracle.run(command, stdin=scenario.stdin, timeout=110)
    words = ["run", "--rm", "-i", "--hostname", HOSTNAME, debian_image, *command]
    got = docker(*words, stdin=scenario.stdin, timeout=110)
    assert got.stdout == expected.stdout.decode(errors="surrogateescape")
    assert got.stderr == expected.stderr.decode(errors="surrogateescape")
    assert got.status == expected.status
