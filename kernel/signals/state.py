"""What signals a process handles how, and which wait (signal(7))."""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

COUNT = 64
SIG_DFL, SIG_IGN = 0, 1
(
    SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL, SIGUSR1, SIGSEGV,
    SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, SIGSTKFLT, SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN,
    SIGTTOU, SIGURG, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGWINCH, SIGIO, SIGPWR, SIGSYS,
) = range(1, 32)  # fmt: skip
SIGRTMIN = 32

SA_NOCLDSTOP, SA_NOCLDWAIT, SA_SIGINFO = 1, 2, 4
SA_RESTORER = 0x0400_0000
SA_ONSTACK, SA_RESTART, SA_NODEFER, SA_RESETHAND = (
    0x0800_0000,
    0x1000_0000,
    0x4000_0000,
    0x8000_0000,
)

SI_USER, SI_KERNEL, SI_QUEUE, SI_TIMER, SI_TKILL = 0, 0x80, -1, -2, -6
TIMER_BODY = struct.Struct("<iiQ")  # siginfo of a POSIX timer: its id, overruns, sigev_value
CLD_EXITED, CLD_KILLED, CLD_STOPPED, CLD_CONTINUED = 1, 2, 5, 6


def bit(signal: int) -> int:
    """The signal's bit in a mask."""
    return 1 << (signal - 1)


UNBLOCKABLE = bit(SIGKILL) | bit(SIGSTOP)
STOPS = bit(SIGSTOP) | bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU)
IGNORED_BY_DEFAULT = bit(SIGCHLD) | bit(SIGCONT) | bit(SIGURG) | bit(SIGWINCH)
SYNCHRONOUS = sum(bit(n) for n in (SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS))


class Info(NamedTuple):
    """A siginfo: its first 12 bytes as numbers, the rest (from offset 16 on) as bytes."""

    signal: int
    code: int
    error: int = 0
    body: bytes = b""

    def pack(self) -> bytes:
        """struct siginfo, 128 bytes."""
        head = b"".join(
            v.to_bytes(4, "little", signed=True) for v in (self.signal, self.error, self.code, 0)
        )
        return (head + self.body).ljust(128, b"\0")[:128]


class Action(NamedTuple):
    """struct sigaction as the kernel keeps it."""

    handler: int = SIG_DFL
    flags: int = 0
    restorer: int = 0
    mask: int = 0


_DEFAULT = Action()


@dataclass
class Pending:
    """A pending set. Standard signals are kept once, real-time ones are queued in order."""

    mask: int = 0
    queue: deque[Info] = field(default_factory=deque)

    def add(self, info: Info) -> bool:
        """Queue a signal; False if a standard one was pending already (and this one is lost)."""
        b = bit(info.signal)
        if info.signal < SIGRTMIN and self.mask & b and info.code != SI_TIMER:
            return False  # a timer's signal has its own place in the queue
        self.mask |= b
        self.queue.append(info)
        return True

    def take(self, wanted: int) -> Info | None:
        """Remove the next pending signal of `wanted`: synchronous ones first, then the lowest."""
        candidates = self.mask & wanted
        if not candidates:
            return None
        first = candidates & SYNCHRONOUS or candidates
        number = (first & -first).bit_length()
        for i, info in enumerate(self.queue):
            if info.signal == number:
                del self.queue[i]
                if all(other.signal != number for other in self.queue):
                    self.mask &= ~bit(number)
                return info
        self.mask &= ~bit(number)
        return Info(number, SI_USER)

    def overrun(self, signal: int, timer: int, expiries: int) -> bool:
        """Count more expiries of a POSIX timer whose signal is still queued; False if none is."""
        if self.mask & bit(signal):
            for i, info in enumerate(self.queue):
                if info.signal == signal and info.code == SI_TIMER:
                    number, count, value = TIMER_BODY.unpack(info.body)
                    if number == timer:
                        body = TIMER_BODY.pack(number, count + expiries, value)
                        self.queue[i] = info._replace(body=body)
                        return True
        return False

    def drop(self, signals: int) -> None:
        """Forget the signals of a mask."""
        if self.mask & signals:
            self.mask &= ~signals
            self.queue = deque(i for i in self.queue if not bit(i.signal) & signals)


class Signals:
    """A process's dispositions and its shared pending set."""

    def __init__(self, actions: list[Action] | None = None) -> None:
        self.actions = [_DEFAULT] * (COUNT + 1) if actions is None else actions
        self.pending = Pending()

    def copy(self) -> Signals:
        """For a forked child: same dispositions, nothing pending."""
        return Signals(self.actions.copy())

    def reset_for_exec(self) -> None:
        """execve(2): caught signals return to default, ignored ones stay ignored."""
        self.actions = [a if a.handler == SIG_IGN else _DEFAULT for a in self.actions]

    def ignores(self, signal: int) -> bool:
        """Whether delivery would do nothing."""
        handler = self.actions[signal].handler
        return handler == SIG_IGN or (handler == SIG_DFL and bool(bit(signal) & IGNORED_BY_DEFAULT))
