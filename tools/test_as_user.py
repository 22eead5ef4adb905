"""Run the core of the test suite as an ordinary user, when `make test` runs as root.

Root is never needed by ddock; this shows it. The tree is copied to the home of a user made for it,
which makes a `.venv` of its own from the machine's interpreter, and runs the kernel's unit tests,
the tests through the docker CLI and one variant of the guest programs there.

Usage: python3 -m tools.test_as_user [PYTEST_ARGS ...]
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
USER = "ddocktest"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TESTS = ("tests/kernel", "tests/docker", "tests/guests/test_ddock.py")
SELECTION = "not test_a_container_gives_the_expected_transcript or glibc-"
KEPT_CACHE = ("debian-*.tar", "guests-*", "mmdebstrap", "*.lock")


def _account() -> pwd.struct_passwd:
    """The user, made if there is none."""
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", USER], check=True)
        return pwd.getpwnam(USER)


def _copy(target: Path) -> None:
    """Every file git knows, and what earlier steps downloaded or made."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    ).stdout  # fmt: skip
    for name in listed.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    for pattern in KEPT_CACHE:
        for found in (ROOT / ".cache").glob(pattern):
            if found.is_dir():
                shutil.copytree(found, target / ".cache" / found.name, symlinks=True)
            else:
                (target / ".cache").mkdir(exist_ok=True)
                shutil.copy2(found, target / ".cache" / found.name)


def main() -> int:
    """The tests' exit status; 0 at once for who is no root already."""
    if os.geteuid() != 0:
        print("not root: everything above ran as an ordinary user")
        return 0
    user = _account()
    base = Path(tempfile.mkdtemp(prefix="tree-", dir=user.pw_dir))
    tree = base / "ddock"
    try:
        tree.mkdir()
        _copy(tree)
        subprocess.run(["chown", "-R", f"{user.pw_uid}:{user.pw_gid}", str(base)], check=True)
        arguments = sys.argv[1:] or [*TESTS, "-k", SELECTION]
        command = 'make -s venv-test PYTHON=/usr/bin/python3 && .venv/bin/python -m pytest "$@"'
        done = subprocess.run(
            ["runuser", "-u", USER, "--", "env", "-i", f"HOME={user.pw_dir}", f"PATH={PATH}",
             "sh", "-c", command, "sh", *arguments],
            cwd=tree, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.returncode
    finally:
        subprocess.run(["pkill", "-KILL", "-u", USER], check=False)
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
