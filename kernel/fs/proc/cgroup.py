"""/sys/fs/cgroup: the container's cgroup v2 root, as much of it as run times read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from kernel.fs.node import Node
from kernel.fs.proc import host
from kernel.fs.proc.system import Maker
from kernel.fs.synthetic import Directory, SyntheticFs, fill
from kernel.host.profiles import HOST_PAGE

if TYPE_CHECKING:
    from kernel.task import Task

_TICK_US: Final = 10**6 // os.sysconf("SC_CLK_TCK")
_PRESSURE: Final = (
    b"some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    b"full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
)


def _spec(task: Task, name: str) -> Any:
    return getattr(task.process.container.spec, name, 0)


def _limit(name: str) -> Maker:
    def content(task: Task) -> bytes:
        value = _spec(task, name)
        return b"%d\n" % value if value and value > 0 else b"max\n"

    return content


def _processes(task: Task) -> bytes:
    pids = task.process.container.pids
    return b"".join(b"%d\n" % pid for pid, p in sorted(pids.items()) if not p.zombie)


def _threads(task: Task) -> bytes:
    processes = task.process.container.pids.values()
    return b"".join(b"%d\n" % tid for tid in sorted(t for p in processes for t in p.tasks))


def _count(task: Task) -> bytes:
    return b"%d\n" % sum(len(p.tasks) for p in task.process.container.pids.values())


def _memory(task: Task) -> int:
    """Resident bytes of the container's processes, shared pages counted once a process."""
    total = 0
    for process in task.process.container.pids.values():
        fields = host.read_of(process, b"statm").split()
        if len(fields) > 2:
            total += (int(fields[1]) - int(fields[2])) * HOST_PAGE
    return total


def _cpu_stat(task: Task) -> bytes:
    user = system = 0
    for process in task.process.container.pids.values():
        line = host.read_of(process, b"stat")
        if line:
            fields = line[line.rindex(b")") + 2 :].split()
            user += int(fields[11]) * _TICK_US
            system += int(fields[12]) * _TICK_US
    text = b"usage_usec %d\nuser_usec %d\nsystem_usec %d\n" % (user + system, user, system)
    return text + b"nr_periods 0\nnr_throttled 0\nthrottled_usec 0\n"


def _memory_stat(task: Task) -> bytes:
    return b"anon %d\nfile 0\nkernel 0\nshmem 0\ninactive_file 0\nactive_file 0\n" % _memory(task)


def _cpu_max(task: Task) -> bytes:
    quota, period = _spec(task, "cpu_quota_us"), _spec(task, "cpu_period_us") or 100_000
    return b"%d %d\n" % (quota, period) if quota and quota > 0 else b"max 100000\n"


def _cpus(_task: Task) -> bytes:
    return host.read(b"/sys/devices/system/cpu/online") or b"0\n"


def _fixed(data: bytes) -> Maker:
    return lambda _task: data


FILES: Final[dict[str, Maker]] = {
    "cgroup.controllers": _fixed(b"cpuset cpu io memory pids\n"),
    "cgroup.events": _fixed(b"populated 1\nfrozen 0\n"),
    "cgroup.freeze": _fixed(b"0\n"),
    "cgroup.max.depth": _fixed(b"max\n"),
    "cgroup.max.descendants": _fixed(b"max\n"),
    "cgroup.procs": _processes,
    "cgroup.stat": _fixed(b"nr_descendants 0\nnr_dying_descendants 0\n"),
    "cgroup.subtree_control": _fixed(b"\n"),
    "cgroup.threads": _threads,
    "cgroup.type": _fixed(b"domain\n"),
    "cpu.max": _cpu_max,
    "cpu.pressure": _fixed(_PRESSURE),
    "cpu.stat": _cpu_stat,
    "cpu.weight": _fixed(b"100\n"),
    "cpuset.cpus": _fixed(b"\n"),
    "cpuset.cpus.effective": _cpus,
    "cpuset.mems": _fixed(b"\n"),
    "cpuset.mems.effective": _fixed(b"0\n"),
    "io.pressure": _fixed(_PRESSURE),
    "io.stat": _fixed(b""),
    "memory.current": lambda task: b"%d\n" % _memory(task),
    "memory.events": _fixed(b"low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n"),
    "memory.high": _fixed(b"max\n"),
    "memory.low": _fixed(b"0\n"),
    "memory.max": _limit("memory_bytes"),
    "memory.min": _fixed(b"0\n"),
    "memory.oom.group": _fixed(b"0\n"),
    "memory.pressure": _fixed(_PRESSURE),
    "memory.stat": _memory_stat,
    "memory.swap.current": _fixed(b"0\n"),
    "memory.swap.max": _fixed(b"0\n"),
    "pids.current": _count,
    "pids.max": _limit("pids_limit"),
}


class CgroupFs(SyntheticFs):
    """cgroup2, read-only."""

    def __init__(self, device: int) -> None:
        super().__init__(b"cgroup2", 0x63677270, device)
        self.source = b"cgroup"
        self.readonly = True
        self.options = [b"nosuid", b"nodev", b"noexec"]
        root = Directory(self, None, b"")
        self.root: Node = root
        fill(root, FILES, live=True)
