"""Facts of the two ABIs that a reader can look up in Linux, and where they must differ."""

from __future__ import annotations

import pytest

from tables import ISAS, load, marshal_kinds

X86 = load("x86_64")
ARM = load("arm64")


@pytest.mark.parametrize(
    ("name", "x86_64", "arm64"),
    [
        ("read", 0, 63), ("write", 1, 64), ("close", 3, 57), ("openat", 257, 56),
        ("execve", 59, 221), ("clone3", 435, 435), ("rt_sigreturn", 15, 139),
        ("fchmodat2", 452, 452),
    ],
)  # fmt: skip
def test_syscall_numbers(name: str, x86_64: int, arm64: int) -> None:
    assert (X86.numbers[name], ARM.numbers[name]) == (x86_64, arm64)
    assert (X86.names[x86_64], ARM.names[arm64]) == (name, name)


def test_arm64_has_no_legacy_calls() -> None:
    assert not {"open", "fork", "stat", "pipe", "dup2", "select", "arch_prctl"} & set(ARM.numbers)


@pytest.mark.parametrize(
    ("struct", "x86_64", "arm64"),
    [
        ("stat", 144, 128), ("epoll_event", 12, 16), ("statx", 256, 256), ("statfs", 120, 120),
        ("siginfo_t", 128, 128), ("sigaction", 32, 32), ("stack_t", 24, 24), ("sigset_t", 8, 8),
        ("rusage", 144, 144), ("sysinfo", 112, 112), ("new_utsname", 390, 390),
        ("termios", 36, 36), ("msghdr", 56, 56), ("sockaddr_un", 110, 110), ("clone_args", 88, 88),
        ("Elf64_Ehdr", 64, 64), ("Elf64_Phdr", 56, 56), ("sigevent", 64, 64), ("rseq", 32, 32),
        ("open_how", 24, 24), ("linux_dirent64", 24, 24), ("robust_list_head", 24, 24),
    ],
)  # fmt: skip
def test_struct_sizes(struct: str, x86_64: int, arm64: int) -> None:
    assert (X86.structs[struct].size, ARM.structs[struct].size) == (x86_64, arm64)


@pytest.mark.parametrize(
    ("table", "struct", "field", "offset"),
    [
        (X86, "stat", "st_mode", 24), (ARM, "stat", "st_mode", 16),
        (X86, "epoll_event", "data", 4), (ARM, "epoll_event", "data", 8),
        (X86, "ucontext", "uc_mcontext.rip", 168), (ARM, "ucontext", "uc_mcontext.pc", 440),
        (X86, "ucontext", "uc_sigmask", 296), (ARM, "ucontext", "uc_sigmask", 40),
        (X86, "rt_sigframe", "uc.uc_flags", 8), (ARM, "rt_sigframe", "uc.uc_flags", 128),
        (X86, "siginfo", "si_addr", 16), (ARM, "rt_sigframe", "info.si_pid", 16),
        (X86, "linux_dirent64", "d_name", 19), (X86, "sigevent", "sigev_notify_thread_id", 16),
    ],
)  # fmt: skip
def test_field_offsets(table: object, struct: str, field: str, offset: int) -> None:
    assert table.structs[struct].fields[field].offset == offset  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "x86_64", "arm64"),
    [
        ("O_DIRECTORY", 0o200000, 0o40000), ("O_NOFOLLOW", 0o400000, 0o100000),
        ("O_DIRECT", 0o40000, 0o200000), ("O_LARGEFILE", 0o100000, 0o400000),
        ("O_CLOEXEC", 0o2000000, 0o2000000), ("AT_FDCWD", -100, -100), ("MAP_ANONYMOUS", 32, 32),
        ("EPOLLET", 1 << 31, 1 << 31), ("ERESTARTSYS", 512, 512), ("AF_INET6", 10, 10),
        ("SIGKILL", 9, 9), ("SA_RESTORER", 0x04000000, 0x04000000), ("CAP_SYS_ADMIN", 21, 21),
        ("MINSIGSTKSZ", 2048, 5120), ("STATX_ALL", 0xFFF, 0xFFF), ("CLONE_PARENT", 0x8000, 0x8000),
        ("TCGETS", 0x5401, 0x5401), ("FS_IOC_GETFLAGS", 0x80086601, 0x80086601),
    ],
)  # fmt: skip
def test_constants(name: str, x86_64: int, arm64: int) -> None:
    assert (X86.constants[name], ARM.constants[name]) == (x86_64, arm64)


def test_clone_takes_tls_and_child_tid_in_another_order_on_arm64() -> None:
    assert [arg.name for arg in X86.syscalls["clone"].args][3:] == ["child_tid", "tls"]
    assert [arg.name for arg in ARM.syscalls["clone"].args][3:] == ["tls", "child_tid"]


@pytest.mark.parametrize("isa", ISAS)
def test_argument_kinds(isa: str) -> None:
    calls = load(isa).syscalls
    kinds = {name: [arg.kind for arg in call.args] for name, call in calls.items()}
    assert kinds["openat"] == ["dirfd", "path", "flags", "mode"]
    assert kinds["execve"] == ["path", "stringvector", "stringvector"]
    assert kinds["wait4"] == ["pid", "pointer", "int", "pointer"]
    assert kinds["renameat2"] == ["dirfd", "path", "dirfd", "path", "flags"]
    assert kinds["mmap"] == ["pointer", "ulong", "flags", "flags", "fd", "offset"]
    assert kinds["fchownat"] == ["dirfd", "path", "uid", "gid", "flags"]
    assert kinds["setxattr"] == ["path", "string", "inbuffer", "size", "flags"]


@pytest.mark.parametrize("isa", ISAS)
def test_what_the_stub_copies_in(isa: str) -> None:
    calls = load(isa).syscalls
    assert marshal_kinds(calls["write"]) == ((1, "inbuffer", (2, 1)),)
    assert marshal_kinds(calls["writev"]) == ((1, "iovec", (2, 16)),)
    assert marshal_kinds(calls["readv"]) == ((1, "inbuffer", (2, 16)),)
    assert marshal_kinds(calls["setgroups"]) == ((1, "inbuffer", (0, 4)),)
    assert marshal_kinds(calls["rt_sigaction"]) == ((1, "instruct", (32,)),)
    assert marshal_kinds(calls["connect"]) == ((1, "inbuffer", (2, 1)),)
    assert marshal_kinds(calls["openat2"]) == ((1, "path", ()), (2, "inbuffer", (3, 1)))
    assert marshal_kinds(calls["read"]) == ()
    size = load(isa).structs["epoll_event"].size
    assert marshal_kinds(calls["epoll_ctl"]) == ((3, "instruct", (size,)),)


@pytest.mark.parametrize("isa", ISAS)
def test_every_buffer_names_a_length_argument(isa: str) -> None:
    for call in load(isa).syscalls.values():
        for arg in call.args:
            if arg.kind in ("inbuffer", "iovec"):
                length, unit = arg.param
                assert call.args[length].kind in ("size", "int", "uint", "ulong"), call.name
                assert unit >= 1
            elif arg.kind == "instruct":
                (size,) = arg.param
                assert not arg.struct or size == load(isa).structs[arg.struct].size


@pytest.mark.parametrize("isa", ISAS)
def test_no_call_of_the_data_plane_names_a_path_or_a_process(isa: str) -> None:
    for call in load(isa).syscalls.values():
        if call.plane != "data":
            continue
        detoured = {detour.argument for detour in call.detours}
        for index, arg in enumerate(call.args):
            names = arg.kind in ("path", "dirfd", "pid", "stringvector") or arg.struct == "sockaddr"
            assert not names or index in detoured, f"{call.name}: {arg.name}"


def test_planes_and_restart_classes() -> None:
    calls = X86.syscalls
    assert {calls[name].plane for name in ("read", "futex", "mmap", "close")} == {"data"}
    assert {calls[name].plane for name in ("openat", "execve", "kill", "brk")} == {"ring"}
    assert {calls[name].plane for name in ("getpid", "gettid", "geteuid")} == {"slot"}
    assert calls["wait4"].restart == "always"
    assert calls["pause"].restart == "nohand"
    assert calls["nanosleep"].restart == "block"
    assert calls["epoll_wait"].restart == "never"


def test_detours_hold_argument_and_values() -> None:
    (detour,) = X86.syscalls["mprotect"].detours
    assert (detour.argument, detour.test, detour.values) == (2, "has", (4,))
    (detour,) = X86.syscalls["ioctl"].detours
    assert X86.ioctls["TIOCSCTTY"] in detour.values
    assert X86.ioctls["TCGETS"] not in detour.values


def test_an_unknown_isa_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        load("riscv64")
