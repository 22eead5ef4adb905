"""The checks behind `ddock doctor`. Each looks at one thing of the host and says what follows."""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import platform
import resource
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from api.engine.home import Home
from kernel.host import engines

_LANDLOCK_CREATE_RULESET = 444  # the same number on x86_64 and arm64
_LANDLOCK_VERSION = 1
_AT_HWCAP2 = 26
_HWCAP2_FSGSBASE = 2
_SITE_TABLE_LOW = 0x050F_0000


class Level(enum.Enum):
    """How a finding bears on running containers."""

    GOOD = "good"
    LESS = "less"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: Level
    value: str
    consequence: str

    def to_json(self) -> dict[str, str]:
        """Plain values."""
        return {
            "name": self.name,
            "level": self.level.value,
            "value": self.value,
            "consequence": self.consequence,
        }


def all_findings(home: Home) -> list[Finding]:
    """Run every check."""
    return [check() for check in _CHECKS] + [user_xattrs(home), disk(home)]


def architecture() -> Finding:
    """The host's ISA and kernel."""
    machine, release = platform.machine(), platform.release()
    good = sys.platform == "linux" and any(engines.find(isa) for isa in engines.ISAS)
    text = "guests can run here" if good else "no guest runs here yet: x86_64 Linux is needed"
    return Finding("host", Level.GOOD if good else Level.BAD, f"{machine}, Linux {release}", text)


def seccomp() -> Finding:
    """Filter mode with SECCOMP_RET_TRAP."""
    actions = _read("/proc/sys/kernel/seccomp/actions_avail")
    if "trap" in actions.split():
        return Finding("seccomp", Level.GOOD, actions, "guest calls are intercepted by a filter")
    return Finding("seccomp", Level.BAD, actions or "none", "guest calls cannot be intercepted")


def landlock() -> Finding:
    """The ABI version of Landlock."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    abi = libc.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    if abi > 0:
        return Finding("Landlock", Level.GOOD, f"ABI {abi}", "guests get a second wall")
    why = errno.errorcode.get(ctypes.get_errno(), "?")
    return Finding("Landlock", Level.LESS, f"none ({why})", "the seccomp filter is the only wall")


def fsgsbase() -> Finding:
    """Whether the GS base can be written by programs."""
    libc = ctypes.CDLL(None)
    libc.getauxval.restype = ctypes.c_ulong
    bits = libc.getauxval(ctypes.c_ulong(_AT_HWCAP2))
    if bits & _HWCAP2_FSGSBASE:
        return Finding(
            "FSGSBASE", Level.GOOD, "yes", "the stub's register is set by an instruction"
        )
    return Finding("FSGSBASE", Level.LESS, "no", "the stub's register is set by arch_prctl: slower")


def mmap_min_addr() -> Finding:
    """The lowest address programs may map."""
    lowest = int(_read("/proc/sys/vm/mmap_min_addr") or 0)
    if lowest <= _SITE_TABLE_LOW:
        return Finding("mmap_min_addr", Level.GOOD, str(lowest), "patched calls find their table")
    return Finding(
        "mmap_min_addr", Level.LESS, str(lowest), "calls are trapped, not patched: slower"
    )


def cgroup() -> Finding:
    """Whether a cgroup v2 subtree is ours."""
    line = next((x for x in _read("/proc/self/cgroup").splitlines() if x.startswith("0::")), "")
    directory = Path("/sys/fs/cgroup") / line.removeprefix("0::").lstrip("/")
    controllers = _read(directory / "cgroup.controllers").split()
    delegated = line and os.access(directory / "cgroup.subtree_control", os.W_OK)
    if delegated and {"memory", "pids"} <= set(controllers):
        words = " ".join(controllers)
        return Finding("cgroup v2", Level.GOOD, f"ours: {words}", "the host can enforce limits")
    value = "not delegated" if line else "no cgroup v2"
    return Finding("cgroup v2", Level.LESS, value, "memory and pids limits are enforced by us")


def limits() -> Finding:
    """Open files, processes, locked memory."""
    names = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    names["memlock"] = resource.RLIMIT_MEMLOCK
    hard = {name: resource.getrlimit(number)[1] for name, number in names.items()}
    value = ", ".join(
        f"{n} {'unlimited' if limit == resource.RLIM_INFINITY else limit}"
        for n, limit in hard.items()
    )
    few = [
        name
        for name, need in (("nofile", 4096), ("nproc", 1024))
        if hard[name] != resource.RLIM_INFINITY and hard[name] < need
    ]
    if few:
        return Finding("limits", Level.LESS, value, f"few containers at once: {', '.join(few)}")
    return Finding("limits", Level.GOOD, value, "room for many containers")


def shared_memory() -> Finding:
    """/dev/shm, where rings and slots lie."""
    try:
        facts = os.statvfs("/dev/shm")
    except OSError:
        return Finding("/dev/shm", Level.BAD, "missing", "rings have no place: nothing can run")
    free = facts.f_bavail * facts.f_frsize
    value = f"{free >> 20} MiB free"
    if free < 64 << 20:
        return Finding("/dev/shm", Level.LESS, value, "too small for many guests")
    return Finding("/dev/shm", Level.GOOD, value, "room for the guests' rings")


def process_limits() -> Finding:
    """Pids and mappings that the kernel allows."""
    pids = _read("/proc/sys/kernel/pid_max")
    maps = int(_read("/proc/sys/vm/max_map_count") or 0)
    level = Level.GOOD if maps >= 65530 else Level.LESS
    value = f"pid_max {pids}, max_map_count {maps}"
    return Finding("kernel limits", level, value, "a guest may have that many mappings")


def python() -> Finding:
    """The interpreter and the packages that touch the machine."""
    names = ("keystone-engine", "capstone", "posix-ipc", "uvloop", "msgpack", "zstandard")
    found = {name: _version(name) for name in names}
    missing = [name for name, number in found.items() if not number]
    value = f"Python {platform.python_version()}, " + ", ".join(
        f"{name} {number or 'MISSING'}" for name, number in found.items()
    )
    if missing:
        return Finding("software", Level.BAD, value, "install the project again: make venv")
    return Finding("software", Level.GOOD, value, "complete")


def user() -> Finding:
    """Who we are: root is never needed and changes nothing."""
    uid = os.getuid()
    return Finding("user", Level.GOOD, f"uid {uid}", "owners of files are emulated in containers")


def user_xattrs(home: Home) -> Finding:
    """Whether the home's filesystem stores user attributes."""
    where = home.root if home.root.is_dir() else Path(tempfile.gettempdir())
    try:
        with tempfile.NamedTemporaryFile(dir=where) as file:
            os.setxattr(file.name, b"user.ddock", b"1")
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "?")
        text = "xattrs of guests are kept in the index only"
        return Finding("user xattrs", Level.LESS, f"no ({name})", text)
    return Finding("user xattrs", Level.GOOD, f"yes, at {where}", "guests' xattrs go to the files")


def disk(home: Home) -> Finding:
    """Space for images."""
    where = home.root if home.root.is_dir() else home.root.parent
    try:
        facts = os.statvfs(where)
    except OSError as error:
        return Finding("disk", Level.BAD, str(error), "the home cannot be used")
    free = facts.f_bavail * facts.f_frsize
    level = Level.GOOD if free > 1 << 30 else Level.LESS
    return Finding(
        "disk", level, f"{free >> 30} GiB free at {where}", "room for images and volumes"
    )


_CHECKS: tuple[Callable[[], Finding], ...] = (
    architecture,
    user,
    python,
    seccomp,
    landlock,
    fsgsbase,
    mmap_min_addr,
    cgroup,
    limits,
    process_limits,
    shared_memory,
)


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
