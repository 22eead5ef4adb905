"""The seccomp filter that makes every guest system call ours: interception and sandbox in one.

A call from outside the stub's text traps (SIGSYS), whatever its number. A call from the stub is
allowed if it is on the list below and its arguments pass; the list is what a hostile guest that
jumps into the stub can reach, so it names no path, no socket address and no other process.

What the filter answers when it refuses the stub:

* TRAP: the stub never makes this call. The kernel ends the guest.
* an errno: the stub forwards the guest's own arguments, and this is what Linux says of them. The
  stub's descriptors are EBADF, its memory ENOMEM, an ioctl that is not listed ENOTTY.

A call under another ABI (int 0x80, x32) never reaches the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from codegen import bpf
from codegen.layout import STUB_BASE, STUB_TEXT_LIMIT
from codegen.seccomp_rules import ALLOW, KILL_PROCESS, RULES, TRAP, Rule, RuleWriter
from tables import Table

# struct seccomp_data (linux/seccomp.h)
_NR, _ARCH, _IP = 0, 4, 8
_AUDIT_ARCH: Final = {"x86_64": "AUDIT_ARCH_X86_64", "arm64": "AUDIT_ARCH_AARCH64"}

# Allowed whatever the arguments: they work on descriptors the guest holds or on its own memory,
# threads and time.
UNCONDITIONAL: Final = frozenset(
    """
    read write pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2 lseek flock fsync
    fdatasync sync_file_range syncfs ftruncate fallocate fadvise64 readahead sendfile splice tee
    vmsplice copy_file_range memfd_create fstat
    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait
    epoll_pwait2 eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime pipe pipe2
    io_setup io_submit io_getevents io_pgetevents io_cancel io_destroy
    recvmsg shutdown listen getsockopt
    msync mincore mlock mlock2 munlock mlockall munlockall mbind get_mempolicy set_mempolicy
    set_mempolicy_home_node pkey_alloc pkey_free
    futex gettid futex_waitv futex_wait futex_wake futex_requeue set_robust_list set_tid_address
    rseq membarrier sched_yield sched_get_priority_max sched_get_priority_min getcpu getrandom
    nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time restart_syscall
    getitimer setitimer alarm getrusage times
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait rt_sigpending sigaltstack
    setsid getsid setpgid getpgid getpgrp
    exit exit_group
    """.split()  # noqa: SIM905 - a list of names reads better as words
)

# How often a call is made, roughly; the search tree puts frequent ones near its root.
_WEIGHTS: Final = {
    "read": 1000, "write": 1000, "futex": 600, "epoll_wait": 400, "poll": 300, "close": 300,
    "pread64": 300, "lseek": 200, "mmap": 300, "munmap": 200, "madvise": 200, "mprotect": 100,
    "recvfrom": 200, "sendto": 200, "writev": 200, "recvmsg": 200, "sched_yield": 200,
    "clock_gettime": 100, "epoll_pwait": 200, "clock_nanosleep": 50, "fcntl": 50, "ioctl": 50,
    "rt_sigprocmask": 50, "rt_sigreturn": 50, "clone": 30, "sendmsg": 30, "fstat": 100,
}  # fmt: skip


@dataclass(frozen=True)
class _Leaf:
    """Numbers from `first` up to the next leaf's share one rule."""

    first: int
    rule: Rule
    weight: float


def build_filter(
    table: Table,
    *,
    empty_path: int,
    text: tuple[int, int] = (STUB_BASE, STUB_TEXT_LIMIT),
    kick_signal: int | None = None,
) -> bytes:
    """The filter as an array of struct sock_filter.

    `text` is the range of instruction addresses that counts as the stub; its two ends share their
    upper half. `empty_path` is the address of an empty string in it, the only path execveat may
    have. With `kick_signal` the stub may tgkill with that one signal; a filter cannot see whose
    thread it is, so a guest could then kick any process of the same user: leave it out where the
    kernel can kick from outside.
    """
    start, end = text
    if start >> 32 != (end - 1) >> 32 or end <= start:
        raise ValueError("the stub's text must lie within one 4 GiB block")
    program = bpf.Program()
    trap = bpf.Label()
    program.load(_ARCH)
    native = bpf.Label()
    program.jump(bpf.JUMP_EQUAL, table.constants[_AUDIT_ARCH[table.isa]], if_true=native)
    program.ret(KILL_PROCESS)
    program.bind(native)
    # The address is the one after the instruction, so `end` itself still counts: harmless.
    program.load(_IP + 4)
    program.jump(bpf.JUMP_EQUAL, start >> 32, if_false=trap)
    program.load(_IP)
    if start & 0xFFFF_FFFF:
        program.jump(bpf.JUMP_GREATER_EQUAL, start, if_false=trap)
    program.jump(bpf.JUMP_GREATER, end - 1, if_true=trap)
    program.load(_NR)
    writer = RuleWriter(program, table, empty_path, kick_signal)
    _search(writer, _leaves(table.numbers))
    program.bind(trap)
    program.ret(TRAP)
    return program.assemble()


def _leaves(numbers: Mapping[str, int]) -> list[_Leaf]:
    """The line of numbers cut into ranges of one rule each."""
    leaves = [_Leaf(0, _trap, 1)]
    for number, name in sorted((number, name) for name, number in numbers.items()):
        rule = _allow if name in UNCONDITIONAL else RULES.get(name)
        if rule is None:
            continue
        weight = float(_WEIGHTS.get(name, 1))
        last = leaves[-1]
        if last.first == number:  # the range before was empty
            leaves.pop()
            last = leaves[-1] if leaves else _Leaf(0, _trap, 0)
        if leaves and last.rule is _allow and rule is _allow:
            leaves[-1] = _Leaf(last.first, _allow, last.weight + weight)
        else:
            leaves.append(_Leaf(number, rule, weight))
        leaves.append(_Leaf(number + 1, _trap, 1))
    return leaves


def _search(writer: RuleWriter, leaves: Sequence[_Leaf]) -> None:
    """A binary search for the number in A, balanced by weight; each rule stands at its leaf."""
    if len(leaves) == 1:
        leaves[0].rule(writer)
        return
    total, left, best = sum(leaf.weight for leaf in leaves), 0.0, (float("inf"), 1)
    for i, leaf in enumerate(leaves[:-1], 1):
        left += leaf.weight
        best = min(best, (abs(total - 2 * left), i))
    above = bpf.Label()
    writer.program.jump(bpf.JUMP_GREATER_EQUAL, leaves[best[1]].first, if_true=above)
    _search(writer, leaves[: best[1]])
    writer.program.bind(above)
    _search(writer, leaves[best[1] :])


def _allow(writer: RuleWriter) -> None:
    writer.ret(ALLOW)


def _trap(writer: RuleWriter) -> None:
    writer.ret(TRAP)
