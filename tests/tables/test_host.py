"""The tables against the running kernel and what Python's C library headers say."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
import resource
import select
import signal
import socket
import stat
import termios
from types import ModuleType

import pytest

from tables import Table, load

ISA = {"x86_64": "x86_64", "aarch64": "arm64"}.get(platform.machine(), "")
pytestmark = pytest.mark.skipif(
    not ISA or platform.system() != "Linux", reason="no table for the running kernel"
)

# Where the C library's own value or meaning differs from the kernel's.
LIBC_DIFFERS = {
    "O_LARGEFILE",  # 0: the C library's 64-bit calls add it
    "SIGRTMIN", "SIGRTMAX", "NSIG",  # the C library keeps two signals for itself
    "SIGCLD",
    "SOMAXCONN",
    "F_GETLK64", "F_SETLK64", "F_SETLKW64",
    "SOCK_MAX",
    "SCM_CREDS",
    "AF_MAX", "PF_MAX",
    "NCC", "NCCS", "XTABS",
}  # fmt: skip
MODULES = [os, signal, socket, fcntl, stat, select, mmap, termios, resource]


@pytest.fixture
def table() -> Table:
    return load(ISA)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.__name__))
def test_constants_are_those_of_the_c_library(module: ModuleType, table: Table) -> None:
    known = {
        name: int(value)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, int) and name in table.constants
    }
    wrong = {
        name: (value, table.constants[name])
        for name, value in known.items()
        if name not in LIBC_DIFFERS and (value - table.constants[name]) % (1 << 32)
    }
    assert known
    assert not wrong


def test_errno_is_the_hosts(table: Table) -> None:
    for number, name in errno.errorcode.items():
        assert table.errno[name] == number
    missing = {name for name in vars(errno) if name[0] == "E" and name not in table.errno}
    assert not missing


def call(table: Table, name: str, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(ctypes.c_long(table.numbers[name]), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return int(result)


def filled(
    table: Table, struct: str, name: str, *before: object, after: tuple[int, ...] = ()
) -> dict:  # type: ignore[type-arg]
    buffer = ctypes.create_string_buffer(table.structs[struct].size)
    call(table, name, *before, buffer, *after)
    return table.structs[struct].unpack(buffer.raw)


def test_numbers_reach_the_calls_they_name(table: Table) -> None:
    assert call(table, "getpid") == os.getpid()
    assert call(table, "getppid") == os.getppid()
    assert call(table, "geteuid") == os.geteuid()
    assert call(table, "getsid", 0) == os.getsid(0)


def test_stat_layout(table: Table) -> None:
    path = __file__.encode()
    got = filled(table, "stat", "newfstatat", -100, path, after=(0,))
    want = os.stat(path)
    for field in ("st_dev", "st_ino", "st_mode", "st_nlink", "st_uid", "st_gid", "st_size"):
        assert got[field] == getattr(want, field)
    assert got["st_mtime"] * 10**9 + got["st_mtime_nsec"] == want.st_mtime_ns
    assert got["st_blocks"] == want.st_blocks


def test_statx_layout(table: Table) -> None:
    mask = table.constants["STATX_BASIC_STATS"]
    got = filled(table, "statx", "statx", -100, __file__.encode(), 0, mask)
    want = os.stat(__file__)
    assert (got["stx_ino"], got["stx_mode"], got["stx_size"]) == (
        want.st_ino,
        want.st_mode,
        want.st_size,
    )
    assert os.makedev(got["stx_dev_major"], got["stx_dev_minor"]) == want.st_dev


def test_statfs_and_utsname_and_rlimit_layouts(table: Table) -> None:
    got = filled(table, "statfs", "statfs", b"/")
    assert (got["f_bsize"], got["f_namelen"]) == (os.statvfs("/").f_bsize, 255)
    name = filled(table, "new_utsname", "uname")
    assert name["release"].rstrip(b"\0").decode() == os.uname().release
    assert name["machine"].rstrip(b"\0").decode() == os.uname().machine
    limit = filled(table, "rlimit64", "prlimit64", 0, table.constants["RLIMIT_NOFILE"], None)
    assert (limit["rlim_cur"], limit["rlim_max"]) == resource.getrlimit(resource.RLIMIT_NOFILE)


def test_epoll_event_layout(table: Table) -> None:
    reader, writer = os.pipe()
    try:
        with select.epoll() as poll:
            event = table.structs["epoll_event"].pack(
                events=select.EPOLLIN, data=0x1122334455667788
            )
            call(table, "epoll_ctl", poll.fileno(), table.constants["EPOLL_CTL_ADD"], reader, event)
            os.write(writer, b"x")
            buffer = ctypes.create_string_buffer(table.structs["epoll_event"].size)
            got = call(table, "epoll_pwait", poll.fileno(), buffer, 1, 0, None, 8)
            assert got == 1
            assert table.structs["epoll_event"].unpack(buffer.raw) == {
                "events": select.EPOLLIN,
                "data": 0x1122334455667788,
            }
    finally:
        os.close(reader)
        os.close(writer)


def test_directory_entry_layout(table: Table, tmp_path: os.PathLike[str]) -> None:
    with open(os.path.join(tmp_path, "a-name"), "w"):
        pass
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        buffer = ctypes.create_string_buffer(4096)
        size = call(table, "getdents64", fd, buffer, 4096)
    finally:
        os.close(fd)
    entry = table.structs["linux_dirent64"]
    names, offset = {}, 0
    while offset < size:
        row = entry.unpack(buffer.raw[offset:].ljust(entry.size, b"\0"))
        start = offset + entry.fields["d_name"].offset
        names[buffer.raw[start:].split(b"\0")[0]] = row["d_type"]
        offset += row["d_reclen"]
    assert names == {
        b".": table.constants["DT_DIR"],
        b"..": table.constants["DT_DIR"],
        b"a-name": table.constants["DT_REG"],
    }


def test_termios_ioctl_on_a_terminal(table: Table) -> None:
    master, slave = os.openpty()
    try:
        size = table.structs["winsize"].pack(ws_row=24, ws_col=80)
        fcntl.ioctl(slave, table.ioctls["TIOCSWINSZ"], size)
        got = table.structs["winsize"].unpack(
            fcntl.ioctl(master, table.ioctls["TIOCGWINSZ"], bytes(len(size)))
        )
        assert (got["ws_row"], got["ws_col"]) == (24, 80)
        settings = fcntl.ioctl(slave, table.ioctls["TCGETS"], bytes(table.structs["termios"].size))
        assert table.structs["termios"].unpack(settings)["c_lflag"] == termios.tcgetattr(slave)[3]
    finally:
        os.close(master)
        os.close(slave)
