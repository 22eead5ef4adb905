"""The handlers of the id, system information and scheduling families."""

from __future__ import annotations

import errno
import os
import resource
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import kernel.syscalls.ids
import kernel.syscalls.scheduling
import kernel.syscalls.sysinfo  # noqa: F401 - declares the calls
from codegen.layout import Slot
from kernel.capabilities import ALL_CAPABILITIES, DOCKER_DEFAULT
from kernel.credentials import container_credentials
from kernel.limits import INFINITY
from tests.kernel.net.fake import FakeContainer, FakeTask


@pytest.fixture
def container(tmp_path: Path) -> Iterator[FakeContainer]:
    made = FakeContainer(tmp_path, "127.2.0.2", "i")
    yield made
    made.close()


@pytest.fixture
def guest(container: FakeContainer) -> Iterator[FakeTask]:
    """A task behind which a real (sleeping) process stands."""
    task = container.task()
    with subprocess.Popen(["sleep", "1000"]) as host:
        task.process.host_pid = host.pid
        task.slot.words[Slot.HOST_TID // 4] = host.pid
        yield task
        host.kill()


async def test_setresuid_and_back(guest: FakeTask) -> None:
    assert await guest.call("setresuid", -1, 1000, -1) == 0
    assert await guest.call("geteuid") == 1000
    out = guest.buffer(12)
    assert await guest.call("getresuid", out, out + 4, out + 8) == 0
    assert struct.unpack("<3I", guest.read(out, 12)) == (0, 1000, 0)
    assert await guest.call("setresuid", 0, 0, 0) == 0
    assert await guest.call("setuid", 1000) == 0
    assert await guest.call("setuid", 0) == -errno.EPERM
    assert guest.slot.q[Slot.EUID // 8] == 1000  # what the stub answers


async def test_groups(guest: FakeTask) -> None:
    groups = struct.pack("<3I", 30, 10, 20)
    assert await guest.call("setgroups", 3, groups) == 0
    out = guest.buffer(12)
    assert await guest.call("getgroups", 0, 0) == 3
    assert await guest.call("getgroups", 2, out) == -errno.EINVAL
    assert await guest.call("getgroups", 3, out) == 3
    assert struct.unpack("<3I", guest.read(out, 12)) == (10, 20, 30)
    assert await guest.call("setgroups", 1, None) == -errno.EFAULT
    assert await guest.call("setgroups", 65537, groups) == -errno.EINVAL
    assert await guest.call("setuid", 7) == 0
    assert await guest.call("setgroups", 0, 0) == -errno.EPERM


async def test_capget_and_capset(guest: FakeTask) -> None:
    header, data = guest.buffer(struct.pack("<Ii", 0x20080522, 0)), guest.buffer(24)
    assert await guest.call("capget", header, data) == 0
    words = struct.unpack("<6I", guest.read(data, 24))
    assert words == (DOCKER_DEFAULT, DOCKER_DEFAULT, 0, 0, 0, 0)
    fewer = struct.pack("<6I", 1, 3, 0, 0, 0, 0)
    assert await guest.call("capset", header, fewer) == 0
    assert (guest.credentials.effective, guest.credentials.permitted) == (1, 3)
    more = struct.pack("<6I", 7, 7, 0, 0, 0, 0)
    assert await guest.call("capset", header, more) == -errno.EPERM
    old = guest.buffer(struct.pack("<Ii", 0, 0))
    assert await guest.call("capget", old, 0) == 0
    assert struct.unpack("<I", guest.read(old, 4)) == (0x20080522,)
    missing = guest.buffer(struct.pack("<Ii", 0x20080522, 4711))
    assert await guest.call("capget", missing, data) == -errno.ESRCH


async def test_uname(guest: FakeTask) -> None:
    out = guest.buffer(390)
    assert await guest.call("uname", out) == 0
    fields = [guest.read(out + 65 * i, 65).split(b"\0", 1)[0] for i in range(6)]
    assert fields[0] == b"Linux"
    assert fields[1] == b"host-i"
    assert fields[2] == os.uname().release.encode()
    assert fields[4] == b"x86_64"
    assert await guest.call("sethostname", b"new", 3) == -errno.EPERM
    guest.credentials = container_credentials(0, 0, [], ALL_CAPABILITIES)
    assert await guest.call("sethostname", b"new", 3) == 0
    assert await guest.call("sethostname", b"x" * 65, 65) == -errno.EINVAL
    assert await guest.call("uname", out) == 0
    assert guest.read(out + 65, 4) == b"new\0"


async def test_sysinfo_has_memory(guest: FakeTask) -> None:
    out = guest.buffer(112)
    assert await guest.call("sysinfo", out) == 0
    uptime, *_, total = struct.unpack("<5q", guest.read(out, 40))
    assert uptime > 0
    assert total > 1 << 20
    assert struct.unpack("<H", guest.read(out + 80, 2)) == (1,)


async def test_rusage_of_children_is_what_the_kernel_reaped(guest: FakeTask) -> None:
    guest.process.children_rusage = (1.5, 0.25, 4096)
    out = guest.buffer(144)
    assert await guest.call("getrusage", -1, out) == 0
    assert struct.unpack("<5q", guest.read(out, 40)) == (1, 500_000, 0, 250_000, 4096)
    assert await guest.call("getrusage", 0, out) == 0
    assert await guest.call("getrusage", 5, out) == -errno.EINVAL
    assert await guest.call("times", out) > 0
    assert struct.unpack("<2q", guest.read(out + 16, 16)) == (150, 25)


async def limits(task: FakeTask, number: int) -> tuple[int, int]:
    out = task.buffer(16)
    assert await task.call("getrlimit", number, out) == 0
    soft, hard = struct.unpack("<QQ", task.read(out, 16))
    return soft, hard


async def test_limits(guest: FakeTask) -> None:
    guest.process.limits[1] = (INFINITY, INFINITY)
    pair = struct.pack("<QQ", 1 << 20, 1 << 21)
    assert await guest.call("setrlimit", 1, pair) == 0
    assert await limits(guest, 1) == (1 << 20, 1 << 21)
    assert resource.prlimit(guest.process.host_pid, resource.RLIMIT_FSIZE)[0] == 1 << 20
    higher = struct.pack("<QQ", 1 << 20, 1 << 22)
    assert await guest.call("setrlimit", 1, higher) == -errno.EPERM
    assert await guest.call("setrlimit", 1, struct.pack("<QQ", 2, 1)) == -errno.EINVAL
    assert await guest.call("setrlimit", 16, pair) == -errno.EINVAL
    assert await guest.call("setrlimit", 7, struct.pack("<QQ", 1, 1 << 21)) == -errno.EPERM
    out = guest.buffer(16)
    assert await guest.call("prlimit64", 0, 1, 0, out) == 0
    assert struct.unpack("<QQ", guest.read(out, 16)) == (1 << 20, 1 << 21)
    assert await guest.call("prlimit64", 4711, 1, 0, out) == -errno.ESRCH


async def test_the_host_enforces_the_number_of_descriptors(guest: FakeTask) -> None:
    guest.process.limits[7] = (4096, 4096)
    assert await guest.call("setrlimit", 7, struct.pack("<QQ", 20, 4096)) == 0
    assert await limits(guest, 7) == (20, 4096)
    assert resource.prlimit(guest.process.host_pid, resource.RLIMIT_NOFILE)[0] == 20


async def test_another_users_limits_are_not_to_be_changed(
    guest: FakeTask, container: FakeContainer
) -> None:
    user = container.task(container_credentials(9, 9, []))
    assert await user.call("prlimit64", guest.process.pid, 1, 0, 0) == -errno.EPERM
    assert await guest.call("prlimit64", user.process.pid, 1, 0, 0) == -errno.EPERM


async def test_nice_goes_up_only(guest: FakeTask) -> None:
    assert await guest.call("getpriority", 0, 0) == 20 - os.getpriority(os.PRIO_PROCESS, 0)
    assert await guest.call("setpriority", 0, 0, 10) == 0
    assert os.getpriority(os.PRIO_PROCESS, guest.process.host_pid) == 10
    guest.process.limits[13] = (0, 0)
    assert await guest.call("setpriority", 0, 0, 5) == -errno.EACCES
    assert await guest.call("setpriority", 0, 0, 99) == 0
    assert await guest.call("getpriority", 1, 0) == 1
    assert await guest.call("getpriority", 2, 0) == 1
    assert await guest.call("getpriority", 3, 0) == -errno.EINVAL
    assert await guest.call("getpriority", 0, 999) == -errno.ESRCH


async def test_policies(guest: FakeTask) -> None:
    assert await guest.call("sched_getscheduler", 0) == os.SCHED_OTHER
    assert await guest.call("sched_setscheduler", 0, os.SCHED_BATCH, struct.pack("<i", 0)) == 0
    assert await guest.call("sched_getscheduler", 0) == os.SCHED_BATCH
    guest.process.limits[14] = (0, 0)
    one = struct.pack("<i", 1)
    assert await guest.call("sched_setscheduler", 0, os.SCHED_FIFO, one) == -errno.EPERM
    assert await guest.call("sched_setscheduler", 0, os.SCHED_OTHER, one) == -errno.EINVAL
    assert await guest.call("sched_setscheduler", 0, 99, one) == -errno.EINVAL
    out = guest.buffer(48)
    assert await guest.call("sched_getattr", 0, out, 48, 0) == 0
    assert struct.unpack("<II", guest.read(out, 8)) == (48, os.SCHED_BATCH)
    assert await guest.call("sched_getparam", 0, out) == 0
    assert await guest.call("sched_rr_get_interval", 0, out) == 0


async def test_affinity(guest: FakeTask) -> None:
    out = guest.buffer(128)
    size = await guest.call("sched_getaffinity", 0, 128, out)
    assert size > 0
    mask = int.from_bytes(guest.read(out, size), "little")
    available = os.sched_getaffinity(0)
    assert {i for i in range(size * 8) if mask >> i & 1} == available
    first = min(available)
    assert await guest.call("sched_setaffinity", 0, 8, (1 << first).to_bytes(8, "little")) == 0
    assert os.sched_getaffinity(guest.process.host_pid) == {first}
    assert await guest.call("sched_setaffinity", 0, 8, bytes(8)) == -errno.EINVAL
    assert await guest.call("sched_getaffinity", 0, 3, out) == -errno.EINVAL


async def test_personality(guest: FakeTask) -> None:
    assert await guest.call("personality", 0xFFFFFFFF) == 0
    assert await guest.call("personality", 0x40000) == -errno.EPERM
    assert await guest.call("personality", 8) == 0
    assert await guest.call("personality", 0xFFFFFFFF) == 8
    out = guest.buffer(390)
    assert await guest.call("uname", out) == 0
    assert guest.read(out + 65 * 4, 5) == b"i686\0"


async def test_ioprio(guest: FakeTask) -> None:
    assert await guest.call("ioprio_set", 1, 0, 3 << 13) == 0
    assert await guest.call("ioprio_get", 1, 0) == 3 << 13
    assert await guest.call("ioprio_set", 1, 0, 1 << 13) == -errno.EPERM
