"""Which calls a stub serves itself, and what of them it must look at: the same for every ISA."""

from __future__ import annotations

from codegen.layout import Slot

IDENTITIES = {
    "getpid": Slot.PID, "gettid": Slot.TID, "getppid": Slot.PPID, "getuid": Slot.UID,
    "geteuid": Slot.EUID, "getgid": Slot.GID, "getegid": Slot.EGID,
}  # fmt: skip
# asm-generic/ioctls.h: terminal ioctls that name processes, inject input, take the terminal or open
# its other end. Those with a size in the number (TIOCGPTN) go to the kernel anyway.
TTY_TO_KERNEL = (0x540E, 0x540F, 0x5410, 0x5412, 0x541C, 0x5422, 0x5429, 0x5441)
# fcntl commands that only concern the descriptor: F_DUPFD..F_SETFL, F_SETLK(W), F_OFD_*,
# F_DUPFD_CLOEXEC, pipe sizes, seals.
FCNTL_NATIVE = (6, 7, 36, 37, 38, 1030, 1031, 1032, 1033, 1034)
ROBUST_HEAD_SIZE = 24
ARCH_SET_FS, ARCH_GET_FS = 0x1002, 0x1003  # asm/prctl.h
PI_FUTEXES = (6, 7, 8, 11, 12, 13)  # FUTEX_LOCK_PI .. FUTEX_LOCK_PI2

# Which entry a natively served system call takes; all others go to `slow`.
NATIVE: dict[str, str] = {
    **dict.fromkeys(
        (
            "read", "write", "pread64", "pwrite64", "readv", "writev", "preadv", "pwritev",
            "preadv2", "pwritev2", "close", "lseek", "epoll_wait", "fsync", "fdatasync",
            "ftruncate", "fallocate", "flock", "timerfd_settime", "timerfd_gettime", "shutdown",
            "dup", "fadvise64", "readahead", "sync_file_range", "vmsplice",
        ),
        "fd0",
    ),
    **dict.fromkeys(("dup2", "dup3", "sendfile", "tee"), "fd01"),
    **dict.fromkeys(("splice", "copy_file_range", "epoll_ctl"), "fd02"),
    **dict.fromkeys(
        (
            "poll", "select", "epoll_create", "epoll_create1", "nanosleep",
            "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time",
            "sched_yield", "eventfd", "eventfd2", "timerfd_create", "getrandom", "rseq",
            "getcpu", "membarrier", "pipe", "pipe2",
        ),
        "native",
    ),
    **dict.fromkeys(("munmap", "madvise", "msync", "mincore", "mlock", "munlock"), "mem"),
    "mprotect": "mprotect",
    "futex": "futex",
    "mremap": "mremap",
    "mmap": "mmap",
    "arch_prctl": "arch_prctl",
    "ioctl": "ioctl",
    "fcntl": "fcntl",
    "sendto": "if_fifth_null",
    "recvfrom": "if_fifth_null",
    "accept": "if_second_null",
    "accept4": "if_second_null",
    "getsockopt": "fd0_sockopt",
    "setsockopt": "fd0_sockopt",
    "ppoll": "if_fourth_null",
    "pselect6": "if_sixth_null",
    "epoll_pwait": "if_fifth_null",
    "exit": "exit",
    "exit_group": "exit",
    "rt_sigreturn": "sigreturn",
    "set_tid_address": "set_tid_address",
    "set_robust_list": "set_robust_list",
    **{name: name for name in IDENTITIES},
}  # fmt: skip

# Of these, the calls that count in pages: addresses, lengths, F_SETPIPE_SZ.
PAGED = frozenset(
    {
        "mmap", "munmap", "mprotect", "mremap", "madvise", "msync", "mincore", "mlock", "munlock",
        "fcntl",
    }
)  # fmt: skip

# Calls the stub turns into another one before it posts them.
REWRITTEN: dict[str, str] = {"newfstatat": "newfstatat"}

# Calls that may sleep in the host before they are posted.
WATCHING: dict[str, str] = {"wait4": "wait4"}
WAIT_OPTIONS_WATCHED = 2 | 8  # WUNTRACED, WCONTINUED: the kernel kicks who sleeps too long
