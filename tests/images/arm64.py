"""What arm64 containers are made from: a static busybox, and a Debian tree.

Both are archives for `docker import --platform linux/arm64`; `tree()` is the second one unpacked,
where an emulator finds the loader and the libraries of dynamic programs (`-L`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tests.images import cache, debian, foreign

# Moderate: every package is emulated when it runs, so this is what the tests need and no more.
PACKAGES = (
    "base-files",
    "base-passwd",
    "bash",
    "busybox-static",
    "coreutils",
    "dash",
    "diffutils",
    "dpkg",
    "findutils",
    "grep",
    "gzip",
    "hostname",
    "libc-bin",
    "libc6",
    "mawk",
    "musl",  # the loader of programs built against it
    "ncurses-base",
    "perl-base",
    "procps",
    "python3",
    "sed",
    "sqlite3",
    "tar",
)
# Applets that tests and healthy curiosity use; a hard link each.
APPLETS = """
[ ash awk basename cat chmod chown cmp comm cp cut date dd df dirname du echo env expr false find
free grep gunzip gzip head hostname id kill killall ln ls md5sum mkdir mkfifo mktemp mount mv
nproc od pidof ping printenv printf ps pwd readlink realpath rm rmdir sed seq sh sha256sum sleep
sort stat stty sync tail tar tee test time timeout top touch tr true tty umount uname uniq vi wc
wget which whoami xargs yes"""


def _name(kind: str) -> str:
    source = Path(foreign.__file__).read_bytes()
    return f"arm64-{kind}-{cache.digest(debian.SUITE, source, *PACKAGES, APPLETS)}"


def _make_busybox(target: Path) -> None:
    """One program, its names, and the places programs look for."""
    root = foreign.Root(target)
    with tempfile.TemporaryDirectory(prefix="foreign-") as state:
        for package in foreign.download(["busybox-static"], debian.SUITE, Path(state)):
            for entry, content in foreign.members(package):
                if entry.name == "usr/bin/busybox":
                    root.file("bin/busybox", content, 0o755)
    for name in ("dev", "etc", "proc", "root", "sys", "tmp"):
        root.directory(name, 0o1777 if name == "tmp" else 0o755)
    for name in APPLETS.split():
        root.link(f"bin/{name}", "bin/busybox", tarfile.LNKTYPE)
    root.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")
    root.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    root.close()


def busybox() -> Path:
    """The archive of an image with busybox only."""
    path = cache.directory() / f"{_name('busybox')}.tar"
    with cache.lock("arm64-busybox"):
        if not path.exists():
            partial = path.with_suffix(".partial")
            _make_busybox(partial)
            partial.rename(path)
    return path


def tarball() -> Path:
    """The archive of the Debian tree."""
    path = cache.directory() / f"{_name('debian')}.tar"
    with cache.lock("arm64-debian"):
        if not path.exists():
            partial = path.with_suffix(".partial")
            foreign.make(PACKAGES, debian.SUITE, partial)
            partial.rename(path)
    return path


def tree() -> Path:
    """The Debian tree unpacked. Nobody changes it."""
    archive = tarball()
    path = cache.directory() / archive.stem
    with cache.lock("arm64-debian-tree"):
        if not path.exists():
            partial = path.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            owner = "--no-same-owner" if os.geteuid() else "--same-owner"
            command = ["tar", "-C", str(partial), "-xf", str(archive), owner]
            subprocess.run([*command, "--preserve-permissions"], check=True)
            partial.rename(path)
    return path
