"""A Debian bookworm root file system, made by mmdebstrap and kept in the cache.

`tarball()` is what `docker import` gets; `tree()` is the same content unpacked, in which
`native` runs commands for comparison. Both are made by root or by an ordinary user; nothing is
installed on the machine: mmdebstrap itself is unpacked into the cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.images import cache
from tools import debs

SUITE = "bookworm"
# The minimal system of required packages, and what the scenarios run.
PACKAGES = (
    "apt",
    "bash",
    "busybox-static",
    "coreutils",
    "dpkg",
    "esbuild",  # Go, static, many threads
    "file",
    "findutils",
    "gcc",
    "git",
    "gosu",  # Go, static, changes ids
    "grep",
    "less",
    "libc6-dev",
    "libsqlite3-dev",
    "make",
    "musl-tools",
    "perl",
    "procps",
    "python3",
    "sqlite3",
    "tar",
)
UNUSED = ("doc", "man", "locale", "info")


class DebianError(Exception):
    """The tree cannot be made here; the text says why."""


def _name() -> str:
    return f"debian-{cache.digest(SUITE, *PACKAGES, *UNUSED)}"


def _mmdebstrap() -> Path:
    """Unpack mmdebstrap into the cache and return its prefix."""
    prefix = cache.directory() / "mmdebstrap"
    if not (prefix / "usr/bin/mmdebstrap").exists():
        debs.fetch(["mmdebstrap"], prefix)
    return prefix


def _make(target: Path) -> None:
    prefix = _mmdebstrap()
    scratch = target.with_name(f"{target.name}.tmp")
    scratch.mkdir(parents=True, exist_ok=True)
    command = [
        str(prefix / "usr/bin/mmdebstrap"),
        "--quiet",
        "--mode=root",
        "--variant=essential",
        "--format=tar",
        f"--include={','.join(PACKAGES)}",
        '--aptopt=Acquire::Languages "none"',
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNUSED),
    ]
    if os.geteuid():
        # Root of a user namespace with one id: no mounts with options, no owners but root.
        fake = [sys.executable, str(Path(__file__).with_name("fake_owners.py"))]
        command = ["unshare", "--map-root-user", "--mount", *fake, *command]
        command.append("--skip=chroot/mount")
    done = subprocess.run(
        [*command, SUITE, str(target)],
        env=os.environ
        | {
            "PATH": f"{prefix}/usr/bin:{os.environ['PATH']}:/usr/sbin:/sbin",
            "TMPDIR": str(scratch),
            "SOURCE_DATE_EPOCH": "1700000000",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    # mmdebstrap cleans up behind itself, unless it was stopped.
    shutil.rmtree(scratch, ignore_errors=True)
    if done.returncode:
        target.unlink(missing_ok=True)
        raise DebianError(f"mmdebstrap: {done.stderr.strip()[-2000:]}")


def tarball() -> Path:
    """Return the tree as an uncompressed tar archive."""
    path = cache.directory() / f"{_name()}.tar"
    with cache.lock("debian"):
        if not path.exists():
            partial = path.with_suffix(".partial")
            _make(partial)
            partial.rename(path)
    return path


def tree() -> Path:
    """Return the unpacked tree. Whoever changes it must change it back."""
    archive = tarball()
    path = cache.directory() / _name()
    with cache.lock("debian-tree"):
        if not path.exists():
            partial = path.with_suffix(".partial")
            if partial.exists():
                shutil.rmtree(partial)
            partial.mkdir()
            # Devices cannot be made by everyone; `native` brings the machine's.
            command = ["tar", "-C", str(partial), "-xf", str(archive), "--exclude=./dev/*"]
            owner = "--no-same-owner" if os.geteuid() else "--same-owner"
            subprocess.run([*command, owner, "--preserve-permissions"], check=True)
            partial.rename(path)
    return path
