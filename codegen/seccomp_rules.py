"""What the seccomp filter demands of the arguments of the calls it allows the stub.

A rule is a function that writes BPF: it is entered with any A and ends every path with an answer.
Refusals are justified where they stand; the threat is a guest that jumps into the stub, in a daemon
that may run as root (whose guests' host processes then hold root's capabilities).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from codegen import bpf
from codegen.layout import (
    BELL_FD,
    BELLS_BASE,
    CTRL_FD,
    STUB_BASE,
    STUB_END,
    STUB_FD,
    STUB_MEMORY,
    STUB_TEXT_LIMIT,
    WATCH_FD,
)
from tables import Table

ALLOW: Final = 0x7FFF_0000
TRAP: Final = 0x0003_0000
ERRNO: Final = 0x0005_0000
KILL_PROCESS: Final = 0x8000_0000

_ARGS = 16  # offsetof(struct seccomp_data, args)
_HIGH = STUB_BASE >> 32
assert STUB_END == STUB_BASE + (1 << 32), "the range checks compare upper halves"

# Commands that concern only the descriptor itself and the terminal it is. Nothing that sends
# signals (F_SETOWN, F_SETSIG, FIOSETOWN), types into a terminal (TIOCSTI, TIOCLINUX), or reaches a
# file system or a network interface as a whole (FIFREEZE, SIOCSIF*).
_FCNTL = """
F_DUPFD F_GETFD F_SETFD F_GETFL F_SETFL F_GETLK F_SETLK F_SETLKW F_OFD_GETLK F_OFD_SETLK
F_OFD_SETLKW F_DUPFD_CLOEXEC F_GETPIPE_SZ F_SETPIPE_SZ F_ADD_SEALS F_GET_SEALS F_GET_RW_HINT
F_SET_RW_HINT F_GET_FILE_RW_HINT F_SET_FILE_RW_HINT F_GETLEASE"""
_IOCTL = """
TCGETS TCSETS TCSETSW TCSETSF TCGETA TCSETA TCSETAW TCSETAF TCGETS2 TCSETS2 TCSETSW2 TCSETSF2
TCSBRK TCSBRKP TCXONC TCFLSH TIOCSBRK TIOCCBRK TIOCEXCL TIOCNXCL TIOCGEXCL TIOCGPGRP TIOCSPGRP
TIOCGSID TIOCOUTQ TIOCGWINSZ TIOCSWINSZ TIOCMGET FIONREAD FIONBIO FIOASYNC FIOCLEX FIONCLEX FIOQSIZE
TIOCNOTTY TIOCGETD TIOCPKT TIOCGPKT TIOCGPTN TIOCSPTLCK TIOCGPTLCK TIOCSIG TIOCGDEV SIOCATMARK
SIOCGSTAMP SIOCGSTAMPNS SIOCGSTAMP_NEW SIOCGSTAMPNS_NEW SIOCOUTQNSD FICLONE FICLONERANGE FIGETBSZ"""
_PRCTL = """
PR_SET_PDEATHSIG PR_GET_PDEATHSIG PR_SET_NAME PR_GET_NAME PR_SET_NO_NEW_PRIVS PR_GET_NO_NEW_PRIVS
PR_SET_TIMERSLACK PR_GET_TIMERSLACK PR_SET_THP_DISABLE PR_GET_THP_DISABLE PR_SET_VMA"""
_ARCH_PRCTL = "ARCH_SET_GS ARCH_SET_FS ARCH_GET_FS ARCH_GET_GS"
_SOCKET = """
SO_REUSEADDR SO_DONTROUTE SO_BROADCAST SO_SNDBUF SO_RCVBUF SO_KEEPALIVE SO_OOBINLINE SO_PRIORITY
SO_LINGER SO_REUSEPORT SO_PASSCRED SO_RCVLOWAT SO_RCVTIMEO_OLD SO_SNDTIMEO_OLD SO_RCVTIMEO_NEW
SO_SNDTIMEO_NEW SO_ATTACH_FILTER SO_DETACH_FILTER SO_LOCK_FILTER SO_TIMESTAMP_OLD
SO_TIMESTAMPNS_OLD SO_TIMESTAMPING_OLD SO_TIMESTAMP_NEW SO_TIMESTAMPNS_NEW SO_TIMESTAMPING_NEW
SO_RXQ_OVFL SO_PEEK_OFF SO_ZEROCOPY SO_MAX_PACING_RATE SO_INCOMING_CPU"""
_TCP = """
TCP_NODELAY TCP_MAXSEG TCP_CORK TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_SYNCNT TCP_LINGER2
TCP_DEFER_ACCEPT TCP_WINDOW_CLAMP TCP_QUICKACK TCP_USER_TIMEOUT TCP_FASTOPEN TCP_NOTSENT_LOWAT
TCP_FASTOPEN_CONNECT"""
_IPV6_ABOVE = "IPV6_RECVTCLASS IPV6_TCLASS IPV6_AUTOFLOWLABEL IPV6_ADDR_PREFERENCES"
_UDP = "UDP_CORK UDP_SEGMENT UDP_GRO"
_NETFILTER = 64  # IPT_SO_SET_REPLACE and its like begin here
# (level, named options, every option below this number): the options a socket's owner may set
# without touching the host's interfaces, firewall or congestion modules.
_SOCKET_OPTIONS = (
    (1, _SOCKET, 0),  # SOL_SOCKET
    (6, _TCP, 0),
    (0, "", _NETFILTER),  # IPPROTO_IP
    (41, _IPV6_ABOVE, _NETFILTER),
    (17, _UDP, 0),
)

_WITH_OWN_MEMORY = frozenset(("arm64",))  # instruction sets whose stub uses STUB_MEMORY
_NEW_NAMESPACES = 0x7E02_0000  # CLONE_NEWNS .. CLONE_NEWNET
_CLONE_PARENT_OR_THREAD = 0x0001_8000
_MAP_TYPE_FIXED_ANONYMOUS = 0x3F
_MAP_SHARED_FIXED = 0x11
_MAP_PRIVATE_FIXED_ANONYMOUS = 0x32
_MREMAP_FIXED = 2
_HWPOISON = 100  # MADV_HWPOISON and beyond act on physical memory
_AT_EMPTY_PATH = 0x1000


class RuleWriter:
    """The program and the vocabulary its rules are written in."""

    def __init__(
        self, program: bpf.Program, table: Table, empty_path: int, kick_signal: int | None
    ) -> None:
        self.program = program
        self.table = table
        self.empty_path = empty_path
        self.kick_signal = kick_signal
        self.own_memory = table.isa in _WITH_OWN_MEMORY

    def low(self, argument: int) -> None:
        """A = lower half of an argument."""
        self.program.load(_ARGS + 8 * argument)

    def high(self, argument: int) -> None:
        """A = upper half of an argument."""
        self.program.load(_ARGS + 8 * argument + 4)

    def ret(self, action: int) -> None:
        """Answer."""
        self.program.ret(action)

    def names(self, words: str) -> list[int]:
        """Numbers of those named constants that this ISA has."""
        known = self.table.constants
        return sorted({known[word] for word in words.split() if word in known})

    def require(self, code: int, k: int, action: int) -> None:
        """Go on if the comparison holds, else answer `action`."""
        yes = bpf.Label()
        self.program.jump(code, k, if_true=yes)
        self.ret(action)
        self.program.bind(yes)

    def refuse(self, code: int, k: int, action: int) -> None:
        """Answer `action` if the comparison holds, else go on."""
        no = bpf.Label()
        self.program.jump(code, k, if_false=no)
        self.ret(action)
        self.program.bind(no)

    def require_value(self, argument: int, value: int, action: int = TRAP) -> None:
        """Both halves of the argument."""
        self.low(argument)
        self.require(bpf.JUMP_EQUAL, value, action)
        self.high(argument)
        self.require(bpf.JUMP_EQUAL, value >> 32, action)

    def one_of(self, words: str, otherwise: int) -> None:
        """ALLOW if A is one of the named constants, else `otherwise`. Ends the rule."""
        allow = bpf.Label()
        for value in self.names(words):
            self.program.jump(bpf.JUMP_EQUAL, value, if_true=allow)
        self.ret(otherwise)
        self.program.bind(allow)
        self.ret(ALLOW)

    def guest_descriptor(self, argument: int) -> None:
        """The descriptor is not one of the stub's, else EBADF."""
        fine = bpf.Label()
        self.low(argument)
        self.program.jump(bpf.JUMP_GREATER_EQUAL, WATCH_FD, if_false=fine)
        self.require(bpf.JUMP_GREATER, BELL_FD, ERRNO | errno.EBADF)
        self.program.bind(fine)

    def outside(self, address: int, length: int, in_area: bpf.Label | None = None) -> None:
        """[address, address+length) does not touch [STUB_BASE, STUB_END), else ENOMEM.

        With `in_area` a range that begins inside goes there instead. The end is computed exactly:
        the halves are added with carry. A length of 2^47 or more reaches beyond user space, where
        most calls refuse it; but mprotect and madvise first work through what is mapped.
        """
        p = self.program
        fine, bad, near = bpf.Label(), bpf.Label(), bpf.Label()
        no_carry, compare = bpf.Label(), bpf.Label()
        self.high(address)
        p.jump(bpf.JUMP_GREATER, _HIGH, if_true=fine)
        p.jump(bpf.JUMP_EQUAL, _HIGH, if_true=in_area or bad)
        p.op(bpf.STORE, 0)
        self.high(length)
        p.jump(bpf.JUMP_GREATER_EQUAL, 0x8000, if_true=bad)
        p.op(bpf.LOAD_X_SCRATCH, 0)
        p.op(bpf.ADD_X)
        p.jump(bpf.JUMP_GREATER_EQUAL, _HIGH - 1, if_true=near, if_false=fine)
        p.bind(near)
        p.op(bpf.STORE, 1)  # M1 = upper half of the end, without carry
        self.low(address)
        p.op(bpf.A_TO_X)
        self.low(length)
        p.op(bpf.ADD_X)
        p.op(bpf.STORE, 2)  # M2 = lower half of the end
        p.jump(bpf.JUMP_GREATER_EQUAL_X, 0, if_true=no_carry)
        p.op(bpf.LOAD_SCRATCH, 1)
        p.op(bpf.ADD, 1)
        p.go(compare)
        p.bind(no_carry)
        p.op(bpf.LOAD_SCRATCH, 1)
        p.bind(compare)
        p.jump(bpf.JUMP_GREATER, _HIGH, if_true=bad)
        p.jump(bpf.JUMP_EQUAL, _HIGH, if_false=fine)
        p.op(bpf.LOAD_SCRATCH, 2)
        p.jump(bpf.JUMP_EQUAL, 0, if_true=fine)
        p.bind(bad)
        self.ret(ERRNO | errno.ENOMEM)
        p.bind(fine)

    def within_shared_part(self, address: int, length: int) -> None:
        """The range, which begins in the stub's area, lies in [BELLS_BASE, STUB_END). Ends."""
        p = self.program
        carried = bpf.Label()
        self.low(address)
        self.require(bpf.JUMP_GREATER_EQUAL, BELLS_BASE, ERRNO | errno.ENOMEM)
        p.op(bpf.A_TO_X)
        self.high(length)
        self.require(bpf.JUMP_EQUAL, 0, ERRNO | errno.ENOMEM)
        self.low(length)
        p.op(bpf.ADD_X)
        p.jump(bpf.JUMP_GREATER_EQUAL_X, 0, if_false=carried)
        self.ret(ALLOW)
        p.bind(carried)
        self.ret(ERRNO | errno.ENOMEM)

    def within_own_memory(self, address: int, length: int) -> None:
        """The range, which begins in the stub's area, lies in its own memory. Ends.

        Calls from there trap as a guest's do: a guest that jumps into the stub harms itself only.
        """
        first, last = STUB_MEMORY & 0xFFFF_FFFF, STUB_TEXT_LIMIT & 0xFFFF_FFFF
        self.low(address)
        self.require(bpf.JUMP_GREATER_EQUAL, first, ERRNO | errno.ENOMEM)
        self.refuse(bpf.JUMP_GREATER_EQUAL, last, ERRNO | errno.ENOMEM)
        self.program.op(bpf.A_TO_X)
        self.high(length)
        self.require(bpf.JUMP_EQUAL, 0, ERRNO | errno.ENOMEM)
        self.low(length)
        self.refuse(bpf.JUMP_GREATER, last, ERRNO | errno.ENOMEM)
        self.program.op(bpf.ADD_X)
        self.refuse(bpf.JUMP_GREATER, last, ERRNO | errno.ENOMEM)
        self.ret(ALLOW)


Rule = Callable[[RuleWriter], None]


def _outside(w: RuleWriter) -> None:
    """A memory call of the guest's: never on the stub's area."""
    w.outside(0, 1)
    w.ret(ALLOW)


def _mmap(w: RuleWriter) -> None:
    """Guest memory lies outside the stub's area, where the stub maps slots and its own memory."""
    area, slot, own = bpf.Label(), bpf.Label(), bpf.Label()
    w.outside(0, 1, in_area=area)
    w.ret(ALLOW)
    w.program.bind(area)
    w.low(3)
    w.program.op(bpf.AND, _MAP_TYPE_FIXED_ANONYMOUS)
    w.program.jump(bpf.JUMP_EQUAL, _MAP_SHARED_FIXED, if_true=slot)
    if w.own_memory:
        w.program.jump(bpf.JUMP_EQUAL, _MAP_PRIVATE_FIXED_ANONYMOUS, if_true=own)
    w.ret(ERRNO | errno.ENOMEM)
    if w.own_memory:
        w.program.bind(own)
        w.within_own_memory(0, 1)
    w.program.bind(slot)
    w.within_shared_part(0, 1)


def _mprotect(w: RuleWriter) -> None:
    """The guest's own memory, and what the stub has mapped for itself."""
    if not w.own_memory:
        _outside(w)
        return
    area = bpf.Label()
    w.outside(0, 1, in_area=area)
    w.ret(ALLOW)
    w.program.bind(area)
    w.within_own_memory(0, 1)


def _outside_or_slots(w: RuleWriter) -> None:
    """munmap, madvise: a thread also gives up its slot and keeps it from its children."""
    area = bpf.Label()
    w.outside(0, 1, in_area=area)
    w.ret(ALLOW)
    w.program.bind(area)
    w.within_shared_part(0, 1)


def _madvise(w: RuleWriter) -> None:
    """Not MADV_HWPOISON and MADV_SOFT_OFFLINE: root would retire the host's memory."""
    w.low(2)
    w.refuse(bpf.JUMP_GREATER_EQUAL, _HWPOISON, ERRNO | errno.EINVAL)
    _outside_or_slots(w)


def _mremap(w: RuleWriter) -> None:
    anywhere = bpf.Label()
    w.outside(0, 1)
    w.outside(0, 2)
    w.low(3)
    w.program.jump(bpf.JUMP_ANY_BIT, _MREMAP_FIXED, if_false=anywhere)
    w.outside(4, 2)
    w.program.bind(anywhere)
    w.ret(ALLOW)


def _one_descriptor(w: RuleWriter) -> None:
    """close, dup."""
    w.guest_descriptor(0)
    w.ret(ALLOW)


def _dup2(w: RuleWriter) -> None:
    w.guest_descriptor(0)
    w.guest_descriptor(1)
    w.ret(ALLOW)


def _dup3(w: RuleWriter) -> None:
    """As dup2, but a forked child puts its own control socket in place, its maker the pidfd."""
    w.guest_descriptor(0)
    w.low(1)
    w.refuse(bpf.JUMP_EQUAL, CTRL_FD, ALLOW)
    w.refuse(bpf.JUMP_EQUAL, WATCH_FD, ALLOW)
    w.guest_descriptor(1)
    w.ret(ALLOW)


def _close_range(w: RuleWriter) -> None:
    """A range that reaches the stub's descriptors is for the kernel to split."""
    below = bpf.Label()
    w.low(1)
    w.program.jump(bpf.JUMP_GREATER_EQUAL, WATCH_FD, if_false=below)
    w.low(0)
    w.require(bpf.JUMP_GREATER, BELL_FD, ERRNO | errno.EBADF)
    w.program.bind(below)
    w.ret(ALLOW)


def _fcntl(w: RuleWriter) -> None:
    """Not F_SETOWN with F_SETSIG: SIGKILL to any process of the user. Not leases: they stall us."""
    w.guest_descriptor(0)
    w.low(1)
    w.one_of(_FCNTL, ERRNO | errno.EINVAL)


def _ioctl(w: RuleWriter) -> None:
    """TIOCSCTTY only with 0: with 1 root takes another session's terminal."""
    other = bpf.Label()
    w.low(1)
    w.program.jump(bpf.JUMP_EQUAL, w.table.constants["TIOCSCTTY"], if_false=other)
    w.require_value(2, 0, ERRNO | errno.EPERM)
    w.ret(ALLOW)
    w.program.bind(other)
    w.one_of(_IOCTL, ERRNO | errno.ENOTTY)


def _prctl(w: RuleWriter) -> None:
    w.low(0)
    w.one_of(_PRCTL, ERRNO | errno.EINVAL)


def _arch_prctl(w: RuleWriter) -> None:
    w.low(0)
    w.one_of(_ARCH_PRCTL, ERRNO | errno.EINVAL)


def _sendmsg(w: RuleWriter) -> None:
    """Only to the kernel: a message can carry an address."""
    w.low(0)
    w.require(bpf.JUMP_EQUAL, CTRL_FD, TRAP)
    w.ret(ALLOW)


def _no_address(argument: int) -> Rule:
    """sendto, recvfrom, accept: without the socket address."""

    def rule(w: RuleWriter) -> None:
        w.require_value(argument, 0)
        w.ret(ALLOW)

    return rule


def _setsockopt(w: RuleWriter) -> None:
    """A daemon run by root must not lend guests its firewall (IPT_SO_SET_REPLACE) or devices."""
    refused = ERRNO | errno.ENOPROTOOPT
    for level, named, below in _SOCKET_OPTIONS:
        other = bpf.Label()
        w.low(1)
        w.program.jump(bpf.JUMP_EQUAL, level, if_false=other)
        w.low(2)
        if below:
            w.require(bpf.JUMP_GREATER_EQUAL, below, ALLOW)
        w.one_of(named, refused)
        w.program.bind(other)
    w.ret(refused)


def _execveat(w: RuleWriter) -> None:
    """Only the stub itself. The empty path stands in its text, where nobody can change it."""
    w.low(0)
    w.require(bpf.JUMP_EQUAL, STUB_FD, TRAP)
    w.require_value(1, w.empty_path)
    w.low(4)
    w.require(bpf.JUMP_EQUAL, _AT_EMPTY_PATH, TRAP)
    w.ret(ALLOW)


def _clone(w: RuleWriter) -> None:
    """No namespaces; and the new process is the kernel's child or a thread, never the guest's own.

    CLONE_PARENT also takes the exit signal from the group leader: a guest cannot choose which
    signal its death sends the kernel. clone3 is refused because its flags are in memory.
    """
    w.low(0)
    w.refuse(bpf.JUMP_ANY_BIT, _NEW_NAMESPACES, TRAP)
    w.low(0)
    w.require(bpf.JUMP_ANY_BIT, _CLONE_PARENT_OR_THREAD, TRAP)
    w.ret(ALLOW)


def _self_only(w: RuleWriter) -> None:
    """prlimit64, affinity, robust list: pid 0, the caller; a pid means nothing to the guest."""
    w.low(0)
    w.require(bpf.JUMP_EQUAL, 0, TRAP)
    w.ret(ALLOW)


def _tgkill(w: RuleWriter) -> None:
    if w.kick_signal is not None:
        w.low(2)
        w.refuse(bpf.JUMP_EQUAL, w.kick_signal, ALLOW)
    w.ret(TRAP)


RULES: Final[dict[str, Rule]] = {
    "mmap": _mmap,
    "munmap": _outside_or_slots,
    "madvise": _madvise,
    "mremap": _mremap,
    "mprotect": _mprotect,
    **dict.fromkeys(("pkey_mprotect", "remap_file_pages", "mseal"), _outside),
    **dict.fromkeys(("close", "dup"), _one_descriptor),
    "dup2": _dup2,
    "dup3": _dup3,
    "close_range": _close_range,
    "fcntl": _fcntl,
    "ioctl": _ioctl,
    "prctl": _prctl,
    "arch_prctl": _arch_prctl,
    "sendmsg": _sendmsg,
    **dict.fromkeys(("sendto", "recvfrom"), _no_address(4)),
    **dict.fromkeys(("accept", "accept4"), _no_address(1)),
    "setsockopt": _setsockopt,
    "execveat": _execveat,
    "clone": _clone,
    "tgkill": _tgkill,
    **dict.fromkeys(
        ("prlimit64", "sched_setaffinity", "sched_getaffinity", "get_robust_list"), _self_only
    ),
}
