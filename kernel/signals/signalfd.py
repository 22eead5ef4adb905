"""The kernel's side of a signalfd: blocked signals of its mask become records in a socket."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from kernel.signals.state import SIGCHLD, Info

if TYPE_CHECKING:
    from kernel.process import Process

# struct signalfd_siginfo: signo errno code pid uid fd tid band overrun trapno status int ptr ...
_RECORD = struct.Struct("<IiiIIiIIIIiiQQQQHHiQQI20x")


class SignalFd:
    """`inode` identifies the guest's end; `mask` is what it wants."""

    def __init__(self, sock: socket.socket, inode: int, mask: int) -> None:
        self.inode = inode
        self.mask = mask
        self._socket = sock
        sock.setblocking(False)

    def drain(self, process: Process) -> None:
        """Move pending signals of the mask that every thread blocks into the socket."""
        blocked = self.mask
        for task in process.tasks.values():
            blocked &= task.blocked
        while process.signals.pending.mask & blocked:
            info = process.signals.pending.take(blocked)
            if info is None:
                return
            try:
                self._socket.send(_pack(info))
            except BlockingIOError:
                process.signals.pending.add(info)
                return
            except OSError:
                process.signals.pending.add(info)
                process.signal_fds.remove(self)
                self.close()
                return

    def close(self) -> None:
        """The process has ended or nobody reads any more."""
        self._socket.close()


def _pack(info: Info) -> bytes:
    body = info.body.ljust(32, b"\0")
    pid, uid = struct.unpack_from("<iI", body)
    status, integer, pointer = 0, 0, 0
    if info.signal == SIGCHLD:
        (status,) = struct.unpack_from("<i", body, 8)
    else:
        integer, pointer = (
            struct.unpack_from("<i", body, 8)[0],
            struct.unpack_from("<Q", body, 8)[0],
        )
    return _RECORD.pack(
        info.signal, info.error, info.code, pid & 0xFFFFFFFF, uid, 0, 0, 0, 0, 0, status,
        integer, pointer, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    )  # fmt: skip
