"""tmpfs: a private host directory that disappears with the container.

It is an overlay without layers and with its owners only in memory, so it has the same cache and the
same rules as the root. The directory is in the host's /dev/shm where there is one (its name begins
with `ddock-` and the container's id, for whoever must clean up after a kernel that was killed).
"""

from __future__ import annotations

import os
import shutil
from typing import Final

from kernel.fs.overlay import OverlayFs
from kernel.fs.owners import Owners

SHARED_MEMORY: Final = b"/dev/shm"


def private_directory(container: str, runtime: str) -> bytes:
    """Where this container's private trees live; made if need be."""
    name = b"ddock-" + os.fsencode(container)
    if os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
        path = SHARED_MEMORY + b"/" + name
    else:
        path = os.fsencode(runtime) + b"/" + name
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def discard(container: str, runtime: str) -> None:
    """Remove what a container's private trees left on the host; nothing there is fine."""
    name = b"ddock-" + os.fsencode(container)
    for parent in (SHARED_MEMORY, os.fsencode(runtime)):
        remove_tree(parent + b"/" + name)


def remove_tree(path: bytes) -> None:
    """Remove a host tree of ours, whatever it holds. A missing one is fine; OSError otherwise.

    Every directory we made is writable by us, so no permission needs mending.
    """
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        if os.path.lexists(path):
            raise


class TmpFs(OverlayFs):
    """A fresh tmpfs in a new directory below `private`."""

    type = b"tmpfs"
    magic = 0x01021994

    def __init__(
        self, private: bytes, serial: int, device: int, mode: int = 0o1777, size: int = 0
    ) -> None:
        """`size` in bytes is what statfs shows; 0: half of the host's memory."""
        self.directory = b"%s/%d" % (private, serial)
        os.mkdir(self.directory, 0o700)
        os.mkdir(self.directory + b"/root", 0o700)
        os.mkdir(self.directory + b"/work", 0o700)
        super().__init__([], self.directory + b"/root", Owners(), self.directory + b"/work", device)
        self.source = b"tmpfs"
        self.size = size or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        self.root.change_mode(mode)

    def statfs(self) -> tuple[int, int, int, int, int, int, int]:
        host = os.statvfs(self.upper)
        blocks = self.size // 4096
        free = min(blocks, host.f_bfree * host.f_bsize // 4096)
        return (4096, blocks, free, free, host.f_files, host.f_ffree, 255)

    def close(self) -> None:
        super().close()
        remove_tree(self.directory)
