"""tmpfs: a private host directory that disappears with the container.

It is an overlay without layers and with its owners only in memory, so it has the same cache and the
same rules as the root. The directory is in the host's /dev/shm where there is one. Its name is
`ddock-`, the container's id and the kernel's pid, for whoever must clean up after a kernel that was
killed: the next kernel of the same container may be at work already.
"""

from __future__ import annotations

import os
import shutil
from typing import Final

from kernel.fs.overlay import OverlayFs
from kernel.fs.owners import Owners

SHARED_MEMORY: Final = b"/dev/shm"


def private_directory(container: str, runtime: str) -> bytes:
    """Where this kernel's private trees of a container live; made if need be."""
    name = _name(container, os.getpid())
    if os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
        path = SHARED_MEMORY + b"/" + name
    else:
        path = os.fsencode(runtime) + b"/" + name
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def _name(container: str, pid: int | str) -> bytes:
    return os.fsencode(f"ddock-{container}-{pid}")


def discard(container: str, runtime: str, pid: int) -> None:
    """Remove what the private trees of a kernel left on the host; nothing there is fine."""
    for parent in (SHARED_MEMORY, os.fsencode(runtime)):
        remove_tree(parent + b"/" + _name(container, pid))


def discard_stale(container: str, runtime: str) -> None:
    """Remove what kernels of this container left that were killed along with their zygote."""
    start = _name(container, "")
    for parent in (SHARED_MEMORY, os.fsencode(runtime)):
        names = os.listdir(parent) if os.path.isdir(parent) else []
        for name in names:
            pid = name.removeprefix(start)
            if name.startswith(start) and not os.path.exists(b"/proc/" + pid):
                remove_tree(parent + b"/" + name)


def remove_tree(path: bytes) -> None:
    """Remove a host tree of ours, whatever it holds. A missing one is fine; OSError otherwise.

    Every directory we made is writable by us, so no permission needs mending.
    """

    def failed(_function: object, _path: object, what: tuple[type, BaseException, object]) -> None:
        if not isinstance(what[1], FileNotFoundError):  # somebody else removes it too
            raise what[1]

    shutil.rmtree(path, onerror=failed)


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
