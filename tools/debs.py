"""Unpack Debian packages into a private directory, as any user, without installing them.

`apt-get download` needs no privilege, only package lists. Where the machine's lists are missing or
name versions the mirror no longer has, lists are fetched into a directory of our own.

Usage: python3 -m tools.debs PREFIX PACKAGE...
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path


class DebsError(Exception):
    """The packages cannot be had; the text tells the user why."""


def _download(packages: Sequence[str], into: Path, options: Sequence[str]) -> str:
    """Download the packages' files; return apt's complaint, empty when all went well."""
    # Sandbox::User: apt's own download user cannot write into a private directory.
    command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", *options, "download", *packages]
    done = subprocess.run(command, cwd=into, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


def _private_state(at: Path) -> list[str]:
    """Apt options that keep package lists and caches below `at`."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (at / folder).mkdir(parents=True, exist_ok=True)
    return [
        "-o",
        f"Dir::State::Lists={at}/lists",
        "-o",
        f"Dir::Cache={at}/cache",
        "-o",
        "Debug::NoLocking=1",
    ]


def fetch(packages: Sequence[str], prefix: Path) -> None:
    """Unpack the named packages (not what they depend on) below `prefix`.

    Raises DebsError when apt or dpkg-deb are missing or the packages cannot be downloaded.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise DebsError(f"{program} is not here; {', '.join(packages)} cannot be fetched")
    prefix.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="debs-") as scratch:
        archives = Path(scratch) / "archives"
        archives.mkdir()
        complaint = _download(packages, archives, [])
        if complaint:
            options = _private_state(Path(scratch))
            update = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", *options, "update"]
            subprocess.run(update, capture_output=True, check=False)
            complaint = _download(packages, archives, options)
        if complaint:
            raise DebsError(f"cannot download {', '.join(packages)}: {complaint}")
        for archive in sorted(archives.glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", archive, prefix], check=True)


def main(arguments: Sequence[str]) -> int:
    """Fetch what the command line names."""
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        fetch(arguments[1:], Path(arguments[0]))
    except DebsError as error:
        print(f"debs: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
