"""The seccomp filter, read by the BPF interpreter: who may call what with which arguments."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tables
from codegen import bpf, seccomp
from codegen.layout import (
    BELL_FD,
    BELLS_BASE,
    CTRL_FD,
    KICK_SIGNAL,
    SLOT_SIZE,
    SLOTS_BASE,
    STUB_BASE,
    STUB_END,
    STUB_FD,
    STUB_MEMORY,
    STUB_TEXT_LIMIT,
    WATCH_FD,
)
from codegen.seccomp_rules import ALLOW, ERRNO, KILL_PROCESS, RULES, TRAP

TABLE = tables.load("x86_64")
EMPTY = STUB_BASE + 0x120
FILTER = seccomp.build_filter(TABLE, empty_path=EMPTY)
IN_STUB = STUB_BASE + 0x500
GUEST_TEXT = 0x7F12_3456_7000
X86_64, I386 = TABLE.constants["AUDIT_ARCH_X86_64"], 0x4000_0003
EBADF, ENOMEM = ERRNO | errno.EBADF, ERRNO | errno.ENOMEM


def judge(
    number: int, *args: int, ip: int = IN_STUB, arch: int = X86_64, code: bytes = FILTER
) -> int:
    padded = [*args, *([0] * (6 - len(args)))]
    data = struct.pack("<IIQ6Q", number, arch, ip, *(a & (1 << 64) - 1 for a in padded))
    return bpf.run(code, data)[0]


def verdict(name: str, *args: int, ip: int = IN_STUB) -> int:
    return judge(TABLE.numbers[name], *args, ip=ip)


# ------------------------------------------------------------------------------------ who calls
@pytest.mark.parametrize("name", ["read", "write", "futex", "openat", "exit_group", "rt_sigreturn"])
@pytest.mark.parametrize(
    "ip", [0, 0x40_1000, GUEST_TEXT, STUB_BASE - 1, STUB_TEXT_LIMIT + 1, STUB_END, SLOTS_BASE]
)
def test_every_call_from_outside_the_stub_traps(name: str, ip: int) -> None:
    assert verdict(name, ip=ip) == TRAP


def test_the_whole_stub_text_may_call() -> None:
    for ip in (STUB_BASE, STUB_BASE + 2, STUB_TEXT_LIMIT - 1):
        assert verdict("read", ip=ip) == ALLOW


@pytest.mark.parametrize("ip", [IN_STUB, GUEST_TEXT])
def test_another_abi_kills(ip: int) -> None:
    assert judge(3, ip=ip, arch=I386) == KILL_PROCESS


def test_x32_numbers_trap() -> None:
    for number in (0x4000_0000, 0x4000_0000 | 1, 0x4000_0000 | 520):
        assert judge(number) == TRAP


def test_a_text_range_that_does_not_begin_a_block() -> None:
    code = seccomp.build_filter(TABLE, empty_path=0x5000_1000, text=(0x5000_1000, 0x5000_3000))
    assert [
        judge(0, ip=ip, code=code) for ip in (0x5000_0FFF, 0x5000_1000, 0x5000_2FFF, 0x5000_3001)
    ] == [TRAP, ALLOW, ALLOW, TRAP]
    with pytest.raises(ValueError, match="4 GiB"):
        seccomp.build_filter(TABLE, empty_path=0, text=(0xFFFF_F000, 0x1_0000_1000))


# ----------------------------------------------------------------------------------- which calls
def test_the_list_is_exactly_the_list() -> None:
    listed = seccomp.UNCONDITIONAL | RULES.keys()
    for name, number in TABLE.numbers.items():
        if name not in listed:
            assert judge(number) == TRAP, name
        elif name in seccomp.UNCONDITIONAL:
            assert judge(number, *[(1 << 64) - 1] * 6) == ALLOW, name
    known = set(TABLE.numbers.values())
    assert all(judge(n) == TRAP for n in range(2048) if n not in known)


def test_every_data_plane_call_is_on_the_list() -> None:
    data = {name for name, call in TABLE.syscalls.items() if call.plane == "data"}
    assert data <= seccomp.UNCONDITIONAL | RULES.keys()


NAMING_CALLS = """
    open openat openat2 creat execve stat newfstatat statx chdir fchdir chroot mount umount2
    pivot_root unshare setns socket connect bind socketpair sendmmsg recvmmsg ptrace kill tkill
    tgkill pidfd_open pidfd_send_signal pidfd_getfd process_vm_readv process_vm_writev
    process_madvise io_uring_setup io_uring_enter bpf perf_event_open userfaultfd keyctl clone3
    fork vfork seccomp setuid setgid setgroups capset init_module kexec_load reboot shmat mq_open
    rt_sigqueueinfo rt_tgsigqueueinfo wait4 waitid personality brk fchmod fchown modify_ldt
"""


def test_calls_that_name_things_are_not_on_the_list() -> None:
    for name in NAMING_CALLS.split():
        assert verdict(name) == TRAP, name


# ------------------------------------------------------------------------------------ descriptors
STUBS = [WATCH_FD, STUB_FD, CTRL_FD, BELL_FD]
HIGH_JUNK = 0xDEAD_BEEF_0000_0000  # the kernel only looks at the lower half of an int


@pytest.mark.parametrize("fd", STUBS)
def test_the_stubs_descriptors_do_not_exist_for_the_guest(fd: int) -> None:
    for junk in (0, HIGH_JUNK):
        assert verdict("close", fd | junk) == EBADF
        assert verdict("dup", fd | junk) == EBADF
        assert verdict("dup2", fd | junk, 5) == EBADF
        assert verdict("dup2", 5, fd | junk) == EBADF
        assert verdict("dup3", fd | junk, 5) == EBADF
        assert verdict("fcntl", fd | junk, 1) == EBADF
    assert verdict("dup3", 5, fd) == (ALLOW if fd in (CTRL_FD, WATCH_FD) else EBADF)


@pytest.mark.parametrize("fd", [0, WATCH_FD - 1, BELL_FD + 1, 0xFFFF_FFFF])
def test_other_descriptors_are_the_guests(fd: int) -> None:
    assert verdict("close", fd) == ALLOW
    assert verdict("dup2", 0, fd) == ALLOW
    assert verdict("fcntl", fd, TABLE.constants["F_GETFL"]) == ALLOW


@pytest.mark.parametrize(
    ("first", "last", "want"),
    [
        (3, WATCH_FD - 1, ALLOW),
        (BELL_FD + 1, 0xFFFF_FFFF, ALLOW),
        (3, 0xFFFF_FFFF, EBADF),
        (STUB_FD, STUB_FD, EBADF),
        (WATCH_FD, WATCH_FD, EBADF),
        (BELL_FD, BELL_FD + 10, EBADF),
        (0, BELL_FD, EBADF),
        (7, 3, ALLOW),  # EINVAL from the host
    ],
)
def test_close_range_must_miss_the_stubs(first: int, last: int, want: int) -> None:
    assert verdict("close_range", first, last) == want


# ----------------------------------------------------------------------------------------- memory
RANGES = [
    (0, 4096, ALLOW),
    (GUEST_TEXT, 1 << 30, ALLOW),
    (STUB_BASE - 4096, 4096, ALLOW),  # ends where the stub begins
    (STUB_BASE - 4096, 4097, ENOMEM),
    (STUB_BASE - (1 << 32) - 4096, 1 << 32, ALLOW),
    (STUB_BASE - (1 << 32) - 4096, (1 << 32) + 8192, ENOMEM),
    (0x10000, STUB_BASE, ENOMEM),
    (0x10000, STUB_BASE - 0x10000, ALLOW),
    (STUB_BASE, 4096, ENOMEM),
    (STUB_BASE + 0x5000, 1, ENOMEM),
    (STUB_END, 1 << 40, ALLOW),
    (STUB_BASE - 4096, (1 << 64) - 1, ENOMEM),
    (0x1000, 1 << 63, ENOMEM),
]


@pytest.mark.parametrize(("start", "length", "want"), RANGES)
def test_memory_calls_stay_off_the_stub(start: int, length: int, want: int) -> None:
    for name in ("mprotect", "munmap", "mmap", "pkey_mprotect", "remap_file_pages", "mseal"):
        assert verdict(name, start, length) == want, name
    assert verdict("madvise", start, length, 4) == want


def overlaps(start: int, length: int) -> bool:
    return start < STUB_END and start + length > STUB_BASE


@given(
    st.one_of(
        st.integers(0, (1 << 47) - 1),
        st.integers(STUB_BASE - (1 << 33), STUB_END + (1 << 33)),
        st.integers(STUB_BASE - 3, STUB_BASE + 3),
    ),
    st.one_of(st.integers(0, 1 << 47), st.integers(0, 1 << 34), st.integers(0, 8)),
)
def test_range_checks_are_exact(start: int, length: int) -> None:
    want = verdict("mprotect", start, length)
    if STUB_BASE <= start < STUB_END or (length >= 1 << 47 and start < STUB_BASE):
        assert want == ENOMEM
    else:
        assert want == (ENOMEM if overlaps(start, length) else ALLOW)


def test_mremap_checks_the_old_and_the_new_place() -> None:
    fixed = 3
    assert verdict("mremap", GUEST_TEXT, 4096, 8192, 1, STUB_BASE) == ALLOW  # not looked at
    assert verdict("mremap", GUEST_TEXT, 4096, 8192, fixed, GUEST_TEXT + (1 << 30)) == ALLOW
    assert verdict("mremap", GUEST_TEXT, 4096, 8192, fixed, STUB_BASE - 4096) == ENOMEM
    assert verdict("mremap", STUB_BASE, 4096, 8192, 1) == ENOMEM
    assert verdict("mremap", STUB_BASE - 4096, 4096, 8192, 0) == ENOMEM


def test_only_the_shared_part_of_the_stubs_area_can_be_mapped() -> None:
    shared_fixed, anonymous = 0x11, 0x20
    slot = (SLOTS_BASE + 5 * SLOT_SIZE, SLOT_SIZE)
    assert verdict("mmap", *slot, 3, shared_fixed) == ALLOW
    assert verdict("munmap", *slot) == ALLOW
    assert verdict("madvise", *slot, 10) == ALLOW
    assert verdict("mprotect", *slot, 3) == ENOMEM
    assert verdict("mmap", BELLS_BASE, 4096, 3, shared_fixed) == ALLOW
    for flags in (shared_fixed | anonymous, 0x12, 0x32, 1, 0x13):
        assert verdict("mmap", *slot, 3, flags) == ENOMEM
    for name in ("mmap", "munmap"):
        for start, length in [
            (STUB_BASE, 4096),
            (BELLS_BASE - 4096, 8192),
            (SLOTS_BASE, 1 << 32),
            (STUB_END - 4096, 8192),
            (BELLS_BASE, (1 << 32) | 4096),
        ]:
            assert verdict(name, start, length, 3, shared_fixed) == ENOMEM


def test_no_guest_retires_the_hosts_memory() -> None:
    for advice in (100, 101, 0xFFFF_FFFF):
        assert verdict("madvise", GUEST_TEXT, 4096, advice) == ERRNO | errno.EINVAL


# ------------------------------------------------------------------------------------------ others
def test_messages_go_only_to_the_kernel() -> None:
    assert verdict("sendmsg", CTRL_FD, 1) == ALLOW
    assert verdict("sendmsg", 5, 1) == TRAP
    assert verdict("sendto", 5, 1, 1, 0, 0, 0) == ALLOW
    assert verdict("sendto", 5, 1, 1, 0, 0x7F00_0000_0000, 16) == TRAP
    assert verdict("sendto", 5, 1, 1, 0, 1, 16) == TRAP
    assert verdict("recvfrom", 5, 1, 1, 0, 8) == TRAP
    assert verdict("accept4", 5, 0, 0, 0) == ALLOW
    assert verdict("accept", 5, 1 << 32) == TRAP


def test_execveat_runs_only_the_stub() -> None:
    good = [STUB_FD, EMPTY, 1, 1, 0x1000]
    assert verdict("execveat", *good) == ALLOW
    for index, value in [
        (0, 5),
        (0, 0xFFFF_FF9C),
        (1, EMPTY + 1),
        (1, GUEST_TEXT),
        (4, 0),
        (4, 0x1100),
    ]:
        assert verdict("execveat", *good[:index], value, *good[index + 1 :]) == TRAP


def test_clone_makes_threads_and_children_of_the_kernel() -> None:
    thread, parent, vm = 0x1_0000, 0x8000, 0x100
    assert verdict("clone", thread | vm) == ALLOW
    assert verdict("clone", parent) == ALLOW
    assert verdict("clone", parent | vm | 0x4000) == ALLOW
    assert verdict("clone", 17) == TRAP
    for bit in (17, 25, 26, 27, 28, 29, 30):  # CLONE_NEW*
        assert verdict("clone", parent | 1 << bit) == TRAP


def test_kicks_are_off_unless_asked_for() -> None:
    assert verdict("tgkill", 1, 1, KICK_SIGNAL) == TRAP
    code = seccomp.build_filter(TABLE, empty_path=EMPTY, kick_signal=KICK_SIGNAL)
    number = TABLE.numbers["tgkill"]
    assert judge(number, 1, 1, KICK_SIGNAL, code=code) == ALLOW
    assert judge(number, 1, 1, 9, code=code) == TRAP


def test_nothing_signals_other_processes_through_a_descriptor() -> None:
    constants = TABLE.constants
    for command in ("F_SETOWN", "F_SETOWN_EX", "F_SETSIG", "F_SETLEASE", "F_NOTIFY"):
        assert verdict("fcntl", 3, constants[command]) == ERRNO | errno.EINVAL
    for command in ("FIOSETOWN", "SIOCSPGRP", "TIOCSTI", "TIOCLINUX", "TIOCCONS", "TIOCSETD"):
        assert verdict("ioctl", 3, constants[command]) == ERRNO | errno.ENOTTY


def test_no_ioctl_reaches_the_host_as_a_whole() -> None:
    for command in (
        "FIFREEZE",
        "FITRIM",
        "FS_IOC_SETFLAGS",
        "SIOCSIFADDR",
        "SIOCGIFCONF",
        "TUNSETIFF",
    ):
        assert verdict("ioctl", 3, TABLE.constants[command]) == ERRNO | errno.ENOTTY


def test_terminals_work() -> None:
    for command in ("TCGETS", "TCSETSW", "TIOCGWINSZ", "TIOCSPGRP", "TIOCGPTN", "FIONREAD"):
        assert verdict("ioctl", 0, TABLE.constants[command]) == ALLOW
    assert verdict("ioctl", 0, TABLE.constants["TIOCSCTTY"], 0) == ALLOW
    assert verdict("ioctl", 0, TABLE.constants["TIOCSCTTY"], 1) == ERRNO | errno.EPERM


def test_socket_options_of_the_socket_only() -> None:
    c = TABLE.constants
    refused = ERRNO | errno.ENOPROTOOPT
    for level, option, want in [
        ("SOL_SOCKET", "SO_REUSEADDR", ALLOW),
        ("SOL_SOCKET", "SO_BINDTODEVICE", refused),
        ("SOL_SOCKET", "SO_MARK", refused),
        ("SOL_SOCKET", "SO_SNDBUFFORCE", refused),
        ("SOL_TCP", "TCP_NODELAY", ALLOW),
        ("SOL_TCP", "TCP_REPAIR", refused),
        ("SOL_TCP", "TCP_CONGESTION", refused),
        ("SOL_IP", "IP_TOS", ALLOW),
        ("SOL_IPV6", "IPV6_V6ONLY", ALLOW),
        ("SOL_IPV6", "IPV6_TCLASS", ALLOW),
        ("SOL_NETLINK", "SO_REUSEADDR", refused),
    ]:
        assert verdict("setsockopt", 3, c[level], c[option]) == want, option
    assert verdict("setsockopt", 3, 0, 64) == refused  # IPT_SO_SET_REPLACE
    assert verdict("setsockopt", 3, 41, 64) == refused


def test_only_the_caller_itself() -> None:
    for name in ("prlimit64", "sched_setaffinity", "sched_getaffinity", "get_robust_list"):
        assert verdict(name, 0) == ALLOW
        assert verdict(name, 1) == TRAP


def test_frequent_calls_are_answered_within_few_instructions() -> None:
    def steps(name: str, *args: int) -> int:
        padded = [*args, *([0] * (6 - len(args)))]
        data = struct.pack("<IIQ6Q", TABLE.numbers[name], X86_64, IN_STUB, *padded)
        return bpf.run(FILTER, data)[1]

    assert steps("read") <= 10
    assert steps("write") <= 10
    assert max(steps(n) for n in ("futex", "epoll_wait", "poll", "pread64", "lseek", "close")) <= 16
    assert steps("mmap", GUEST_TEXT, 4096) <= 20


def test_arm64_has_the_same_rules_under_its_own_numbers() -> None:
    table = tables.load("arm64")
    code = seccomp.build_filter(table, empty_path=EMPTY)
    arch = table.constants["AUDIT_ARCH_AARCH64"]
    for name, args, want in [
        ("read", (), ALLOW),
        ("openat", (), TRAP),
        ("dup3", (3, BELL_FD), EBADF),
        ("mprotect", (STUB_BASE, 4096), ENOMEM),
        ("clone", (0x2_8000,), TRAP),
    ]:
        assert judge(table.numbers[name], *args, arch=arch, code=code) == want
    first, last = STUB_MEMORY, STUB_TEXT_LIMIT
    private, shared = 0x32, 0x11
    for address, length, want in [
        (first, last - first, ALLOW),
        (last - 4096, 4096, ALLOW),
        (first - 4096, 4096, ENOMEM),
        (first - 4096, last - first, ENOMEM),
        (first, last - first + 1, ENOMEM),
        (last, 4096, ENOMEM),
        (first, 1 << 32, ENOMEM),
        (first, (1 << 32) + 4096, ENOMEM),
        (first, (1 << 32) - 4096, ENOMEM),
        (first + 4096, (1 << 64) - 4096, ENOMEM),
    ]:
        for name, args in (("mmap", (3, private)), ("mprotect", (5,))):
            number = table.numbers[name]
            assert judge(number, address, length, *args, arch=arch, code=code) == want, name
        assert judge(222, address, length, 3, shared, arch=arch, code=code) == ENOMEM
        assert verdict("mmap", address, length, 3, private) == ENOMEM, "no such memory on x86_64"
        assert verdict("mprotect", address, length, 5) == ENOMEM
    for name, args, want in [
        ("mmap", (BELLS_BASE, 4096, 3, shared), ALLOW),
        ("mmap", (BELLS_BASE, 4096, 3, private), ENOMEM),
    ]:
        assert judge(table.numbers[name], *args, arch=arch, code=code) == want
    assert judge(63, arch=X86_64, code=code) == KILL_PROCESS
