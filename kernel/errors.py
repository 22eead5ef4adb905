"""The one exception a guest may see."""

from __future__ import annotations

import errno
import os


class LinuxError(Exception):
    """A system call failed: `errno` is what the guest gets (positive, Linux numbering)."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.errno = number

    def __str__(self) -> str:
        return f"{errno.errorcode.get(self.errno, self.errno)}: {os.strerror(self.errno)}"


class Interrupted(Exception):
    """A sleeping handler was woken by a signal; the restart rules decide what the guest sees."""


class Restartable(Interrupted):
    """Like Interrupted, for handlers that ask for a restart whatever their table row says."""
