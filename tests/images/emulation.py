"""What tests of arm64 guests need of the machine: an emulator and a cross compiler.

They are Debian packages that only root can install; where they cannot be had, those tests say that
they did not run.
"""

from __future__ import annotations

import os
import shutil
import subprocess

PROGRAMS = ("qemu-aarch64-static", "aarch64-linux-gnu-gcc")
_PACKAGES = ("qemu-user-static", "gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross")
_INSTALL = ("apt-get", "-q", "-y", "--no-install-recommends", "install", *_PACKAGES)


def missing() -> list[str]:
    """The programs that are not on PATH."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def ensure() -> str:
    """Install what is missing, if we may; "" or why arm64 guests will not be tested."""
    if missing() and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        if subprocess.run(_INSTALL, env=quiet, check=False).returncode:
            subprocess.run(["apt-get", "-q", "update"], env=quiet, check=False)
            subprocess.run(_INSTALL, env=quiet, check=False)
    left = missing()
    return f"{' and '.join(left)} missing" if left else ""
