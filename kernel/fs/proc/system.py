"""/proc/meminfo and other files about the whole machine: mostly the host's."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from kernel.fs.proc import host
from kernel.host.engines import host_isa

if TYPE_CHECKING:
    from kernel.task import Task

Maker = Callable[["Task"], bytes]

_FILESYSTEMS: Final = (
    b"nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tcgroup2\nnodev\tdevpts\nnodev\tmqueue\n"
    b"nodev\toverlay\n\text4\n"
)
_DEVICES: Final = (
    b"Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n136 pts\n"
    b"\nBlock devices:\n"
)


def _same(path: str) -> Maker:
    name = b"/proc/" + path.encode()
    return lambda _task: host.read(name)


def _fixed(data: bytes) -> Maker:
    return lambda _task: data


def _loadavg(task: Task) -> bytes:
    """The host's averages; processes and the last pid are the container's."""
    fields = host.read(b"/proc/loadavg").split()[:3] or [b"0.00"] * 3
    pids = task.process.container.pids
    threads = sum(len(process.tasks) for process in pids.values())
    last = max(pids, default=1)
    return b"%s 1/%d %d\n" % (b" ".join(fields), max(1, threads), last)


def _cpuinfo(task: Task) -> bytes:
    """The host's, unless guests run on an emulated CPU."""
    own = task.isa.cpuinfo
    if own is None or task.isa.name == host_isa():
        return host.read(b"/proc/cpuinfo")
    return own(os.cpu_count() or 1, task.process.auxv)


def _swaps(_task: Task) -> bytes:
    """Sizes without the host's paths."""
    lines = host.read(b"/proc/swaps").splitlines(keepends=True)[:1]
    return b"".join(lines) or b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


def _locks(task: Task) -> bytes:
    """Locks held by the container's processes; inodes are the host's, so are left out."""
    lines = []
    for line in host.read(b"/proc/locks").splitlines():
        fields = line.split()
        pid = fields[5] if fields[1] == b"->" else fields[4]
        process = task.process.container.by_host_pid.get(int(pid))
        if process is not None:
            lines.append(line.replace(pid, b"%d" % process.pid, 1))
    return b"".join(line + b"\n" for line in lines)


def _cgroups(_task: Task) -> bytes:
    names = (b"cpuset", b"cpu", b"io", b"memory", b"pids")
    rows = [b"%s\t0\t1\t1\n" % name for name in names]
    return b"#subsys_name\thierarchy\tnum_cgroups\tenabled\n" + b"".join(rows)


def _sysvipc(header: bytes) -> Maker:
    return lambda _task: header + b"\n"


FILES: Final[dict[str, Maker]] = {
    "buddyinfo": _same("buddyinfo"),
    "cgroups": _cgroups,
    "cmdline": _fixed(b"quiet\n"),
    "consoles": _fixed(b""),
    "cpuinfo": _cpuinfo,
    "crypto": _same("crypto"),
    "devices": _fixed(_DEVICES),
    "filesystems": _fixed(_FILESYSTEMS),
    "kallsyms": _fixed(b""),
    "key-users": _fixed(b""),
    "locks": _locks,
    "modules": _fixed(b""),
    "partitions": _fixed(b"major minor  #blocks  name\n\n"),
    "swaps": _swaps,
    "sysvipc/msg": _sysvipc(
        b"       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid"
        b"      stime      rtime      ctime"
    ),
    "sysvipc/sem": _sysvipc(
        b"       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime"
    ),
    "sysvipc/shm": _sysvipc(
        b"       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid"
        b"  cgid      atime      dtime      ctime                   rss                  swap"
    ),
    "version": _same("version"),
    "zoneinfo": _same("zoneinfo"),
}

# Read again and again through one descriptor (top, vmstat, free -s).
LIVE: Final[dict[str, Maker]] = {
    "diskstats": _fixed(b""),
    "interrupts": _same("interrupts"),
    "loadavg": _loadavg,
    "meminfo": _same("meminfo"),  # as Docker, whatever the container's limit
    "pressure/cpu": _same("pressure/cpu"),
    "pressure/io": _same("pressure/io"),
    "pressure/memory": _same("pressure/memory"),
    "softirqs": _same("softirqs"),
    "stat": _same("stat"),
    "uptime": _same("uptime"),
    "vmstat": _same("vmstat"),
}


def available(name: str) -> bool:
    """Whether to show a host-backed file: not when the host has none (pressure without PSI)."""
    return not name.startswith("pressure/") or os.access("/proc/" + name, os.R_OK)
