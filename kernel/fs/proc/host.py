"""Reading the host's /proc for numbers that a container shows as they are."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from kernel.errors import LinuxError

if TYPE_CHECKING:
    from kernel.process import Process
    from kernel.task import Task


def read(path: bytes) -> bytes:
    """A host file's content, b"" if it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(fd, 1 << 17):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(fd)


def base(process: Process, thread: Task | None = None) -> bytes:
    """The host's /proc directory of a guest process or thread."""
    if thread is not None and thread.host_tid:
        return b"/proc/%d/task/%d" % (process.host_pid, thread.host_tid)
    return b"/proc/%d" % process.host_pid


def read_of(process: Process, name: bytes, thread: Task | None = None) -> bytes:
    """A per-process host file; ESRCH when the host process is gone."""
    if process.zombie or not process.host_pid:
        return b""
    data = read(base(process, thread) + b"/" + name)
    if not data and not os.path.exists(b"/proc/%d" % process.host_pid):
        raise LinuxError(errno.ESRCH)
    return data


def read_memory(process: Process, start: int, end: int) -> bytes:
    """Bytes of a guest's memory, as many as can be read."""
    try:
        fd = os.open(base(process) + b"/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(fd, end - start, start)
    except OSError:
        return b""
    finally:
        os.close(fd)
