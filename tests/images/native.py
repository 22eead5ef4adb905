"""The oracle: commands run by the machine's own kernel in a chroot of the same tree.

As root that is a chroot in mount, pid, network and UTS namespaces of its own; an ordinary user
becomes root of a user namespace first. Where neither works the tests that need it say so loudly.
"""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
}
# Runs as root of fresh namespaces: $1 tree, $2 scratch for /tmp, $3 hostname, $4 directory; then
# pairs of bind mounts up to "--"; then the command.
ENTER = r"""
set -e
tree=$1 scratch=$2 name=$3 directory=$4
shift 4
chroot=$(PATH=$PATH:/usr/sbin:/sbin command -v chroot)
mount --bind "$tree" "$tree"
mount --rbind /dev "$tree/dev"
mount -t tmpfs -o mode=1777 tmpfs "$tree/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$tree/dev/pts" 2>/dev/null || true
if [ -e "$tree/dev/pts/ptmx" ]; then mount --bind "$tree/dev/pts/ptmx" "$tree/dev/ptmx"; fi
mount -t proc proc "$tree/proc"
mount --rbind /sys "$tree/sys"
mount --bind "$scratch" "$tree/tmp"
mount -t tmpfs tmpfs "$tree/mnt"
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir -p "$tree$2"; else : >"$tree$2"; fi
    mount --bind "$1" "$tree$2"
    shift 2
done
shift
hostname "$name"
ip link set lo up 2>/dev/null || true
exec env -i "$chroot" "$tree" /usr/bin/env -C "$directory" "$@"
"""


@dataclass(frozen=True)
class Run:
    """How a native command ended."""

    stdout: bytes
    stderr: bytes
    status: int


@dataclass
class Native:
    """Runs commands in a chroot of `tree`; `/tmp` is `scratch`, binds go below `/mnt`."""

    tree: Path
    scratch: Path
    hostname: str = "guest"
    binds: Sequence[tuple[Path, str]] = field(default_factory=list)

    def command(
        self, arguments: Sequence[str], directory: str = "/", environment: Mapping[str, str] = {}
    ) -> list[str]:
        """Build the command line that runs `arguments` inside."""
        variables = [f"{name}={value}" for name, value in (ENVIRONMENT | dict(environment)).items()]
        namespaces = ["--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "--kill-child"]
        if os.geteuid():
            namespaces.insert(0, "--map-root-user")
        pairs = [part for source, target in self.binds for part in (str(source), target)]
        shell = ["sh", "-c", ENTER, "enter", str(self.tree), str(self.scratch)]
        inside = [self.hostname, directory, *pairs, "--", *variables, *arguments]
        return ["unshare", *namespaces, *shell, *inside]

    def run(
        self,
        arguments: Sequence[str] | str,
        *,
        stdin: bytes = b"",
        directory: str = "/",
        environment: Mapping[str, str] = {},
        timeout: float = 120,
    ) -> Run:
        """Run a command (or a line for `shlex`) and return how it ended."""
        words = shlex.split(arguments) if isinstance(arguments, str) else list(arguments)
        done = subprocess.run(
            self.command(words, directory, environment),
            input=stdin,
            capture_output=True,
            check=False,
            timeout=timeout,
        )
        return Run(done.stdout, done.stderr, done.returncode)


def build(tree: Path, arguments: Sequence[str] | str, binds: Sequence[tuple[Path, str]]) -> None:
    """Run a command of `tree`'s that makes files in one of `binds`; RuntimeError if it fails."""
    with tempfile.TemporaryDirectory(prefix="build-") as scratch:
        done = Native(tree, Path(scratch), binds=binds).run(arguments, timeout=600)
    if done.status:
        raise RuntimeError(f"{arguments}: {done.stderr.decode()}")


@functools.cache
def available() -> str:
    """Return "" when namespaces can be made here, else the reason why not."""
    command = ["unshare", "--mount", "--pid", "--fork", "--net", "--uts", "--ipc"]
    if os.geteuid():
        command.append("--map-root-user")
    script = "mount -t proc proc /proc && hostname probe"
    try:
        done = subprocess.run([*command, "sh", "-c", script], capture_output=True, check=False)
    except OSError as error:
        return f"unshare: {error}"
    return done.stderr.decode(errors="replace").strip() if done.returncode else ""
