"""Run the core of the suite as an ordinary user, when started as root.

The tests marked `core` and a part of the scenarios run once more, as the user `ddocktest` (made if
it is missing), in a copy of the tree with an environment of its own. Started by an ordinary user
this does nothing: everything has run as one already.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
USER = "ddocktest"
# What shows a difference between root and others at the smallest cost.
SELECTED = [
    "tests/test_tiny.py",
    "tests/docker/test_run.py",
    "tests/docker/test_errors.py",
    "tests/docker/test_lifecycle.py",
    "tests/docker/test_images.py",
    "tests/docker/test_limits.py",
    "tests/docker/test_exec.py",
    "tests/guests/test_ddock.py",
    "tests/guests/test_arm64.py",
    "tests/guests/test_arm64_walls.py",
    "tests/scenarios",
]
# Of arm64 guests, which take their time, only some that need no large image.
EXPRESSION = (
    "not glibc-static and not musl and not TestDaemonRestart"
    " and (not test_arm64 or busybox_image or test_arm64_walls)"
)


def ensure_user() -> pwd.struct_passwd:
    """Return the user, made if missing."""
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        shell = shutil.which("useradd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        subprocess.run([shell or "useradd", "--create-home", USER], check=True)
        return pwd.getpwnam(USER)


def copy_tree(target: Path, user: pwd.struct_passwd) -> None:
    """Copy what git knows, or would add, into a directory of the user's."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        source, copy = ROOT / name, target / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
    cache = Path(os.environ.get("DDOCK_TEST_CACHE") or ROOT / ".cache")
    for kept in cache.glob("*"):
        # Archives and compiled programs; unpacked trees belong to root and are unpacked anew.
        wanted = kept.is_file() or kept.name.startswith(("guests-", "storm-", "mmdebstrap"))
        if wanted and not kept.name.endswith(".lock"):
            copy = target / ".cache" / kept.name
            copy.parent.mkdir(exist_ok=True)
            if kept.is_file():
                _link_or_copy(kept, copy)
            else:
                shutil.copytree(kept, copy, symlinks=True)
    for directory, folders, files in os.walk(target):
        for name in [".", *folders, *files]:
            path = Path(directory) / name
            if path.stat(follow_symlinks=False).st_nlink == 1 or path.is_dir():
                os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def _link_or_copy(source: Path, target: Path) -> None:
    """Share a large file that is only read."""
    try:
        os.link(source, target)
        source.chmod(0o644)
    except OSError:
        shutil.copyfile(source, target)


def find_python() -> str:
    """Find an interpreter that the user can reach, too."""
    for candidate in (sys.base_prefix + "/bin/python3", "/usr/bin/python3"):
        done = (
            subprocess.run(
                [candidate, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"],
                user=USER,
                check=False,
                capture_output=True,
            )
            if _reachable(candidate)
            else None
        )
        if done and done.returncode == 0:
            return candidate
    return ""


def _reachable(program: str) -> bool:
    """Tell whether others may walk to the program and run it."""
    path = Path(program)
    if not path.exists():
        return False
    chain = {path.resolve(), *path.resolve().parents, *path.parents}
    return all(step.stat().st_mode & 0o001 for step in chain)


def main() -> int:
    """Copy, install, test."""
    if os.geteuid():
        print("already an ordinary user: the suite has run as one")
        return 0
    user = ensure_user()
    python = find_python()
    if not python:
        print("NOT RUN as an ordinary user: no Python 3.11+ that others than root can reach")
        return 0
    target = Path(tempfile.mkdtemp(prefix="ddock-user-", dir="/tmp"))
    try:
        target.chmod(0o755)
        copy_tree(target, user)
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DDOCK_", "XDG_"))
        } | {"HOME": user.pw_dir, "USER": USER, "LOGNAME": USER, "PYTHONDONTWRITEBYTECODE": "1"}
        groups = [group.gr_gid for group in grp.getgrall() if USER in group.gr_mem]
        command = f"""
            set -e
            {python} -m tools.make_venv test
            .venv/bin/python -m tests.images
            exec .venv/bin/python -m pytest -m 'not slow' -k "$1" $2
        """
        print(f"the core of the suite as {USER}, in {target}", flush=True)
        done = subprocess.run(
            ["sh", "-c", command, "sh", EXPRESSION, " ".join(SELECTED)],
            cwd=target,
            env=environment,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=groups,
            check=False,
        )
        return done.returncode
    finally:
        shutil.rmtree(target, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
