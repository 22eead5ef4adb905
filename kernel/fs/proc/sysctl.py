"""/proc/sys: kernel parameters, read-only as in Docker, and only those on the list.

Most are the host's values, since it is the host that applies them. What belongs to a namespace of
the container (hostname, the loopback's port range ...) is the container's.
"""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Final

from kernel.fs.proc import host
from kernel.fs.proc.system import Maker

if TYPE_CHECKING:
    from kernel.task import Task

_HOST: Final = [
    "fs/aio-max-nr",
    "fs/aio-nr",
    "fs/dentry-state",
    "fs/epoll/max_user_watches",
    "fs/file-max",
    "fs/file-nr",
    "fs/inode-nr",
    "fs/inode-state",
    "fs/inotify/max_queued_events",
    "fs/inotify/max_user_instances",
    "fs/inotify/max_user_watches",
    "fs/lease-break-time",
    "fs/leases-enable",
    "fs/mqueue/msg_default",
    "fs/mqueue/msg_max",
    "fs/mqueue/msgsize_default",
    "fs/mqueue/msgsize_max",
    "fs/mqueue/queues_max",
    "fs/nr_open",
    "fs/overflowgid",
    "fs/overflowuid",
    "fs/pipe-max-size",
    "fs/pipe-user-pages-hard",
    "fs/pipe-user-pages-soft",
    "fs/protected_fifos",
    "fs/protected_hardlinks",
    "fs/protected_regular",
    "fs/protected_symlinks",
    "fs/suid_dumpable",
    "kernel/arch",
    "kernel/auto_msgmni",
    "kernel/cap_last_cap",
    "kernel/core_uses_pid",
    "kernel/dmesg_restrict",
    "kernel/keys/maxbytes",
    "kernel/keys/maxkeys",
    "kernel/kptr_restrict",
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/ngroups_max",
    "kernel/numa_balancing",
    "kernel/osrelease",
    "kernel/ostype",
    "kernel/overflowgid",
    "kernel/overflowuid",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/perf_event_max_sample_rate",
    "kernel/perf_event_mlock_kb",
    "kernel/perf_event_paranoid",
    "kernel/pid_max",
    "kernel/printk",
    "kernel/pty/max",
    "kernel/pty/nr",
    "kernel/random/entropy_avail",
    "kernel/random/poolsize",
    "kernel/randomize_va_space",
    "kernel/sched_autogroup_enabled",
    "kernel/sched_child_runs_first",
    "kernel/sched_rr_timeslice_ms",
    "kernel/sched_rt_period_us",
    "kernel/sched_rt_runtime_us",
    "kernel/sem",
    "kernel/shm_rmid_forced",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/sysrq",
    "kernel/tainted",
    "kernel/threads-max",
    "kernel/unprivileged_bpf_disabled",
    "kernel/version",
    "net/core/bpf_jit_enable",
    "net/core/netdev_max_backlog",
    "net/core/optmem_max",
    "net/core/rmem_default",
    "net/core/rmem_max",
    "net/core/somaxconn",
    "net/core/wmem_default",
    "net/core/wmem_max",
    "net/ipv4/ip_forward",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/ip_unprivileged_port_start",
    "net/ipv4/tcp_congestion_control",
    "net/ipv4/tcp_available_congestion_control",
    "net/ipv4/tcp_ecn",
    "net/ipv4/tcp_fastopen",
    "net/ipv4/tcp_fin_timeout",
    "net/ipv4/tcp_keepalive_intvl",
    "net/ipv4/tcp_keepalive_probes",
    "net/ipv4/tcp_keepalive_time",
    "net/ipv4/tcp_max_syn_backlog",
    "net/ipv4/tcp_mem",
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_sack",
    "net/ipv4/tcp_syncookies",
    "net/ipv4/tcp_timestamps",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv4/tcp_window_scaling",
    "net/ipv4/tcp_wmem",
    "net/ipv4/ping_group_range",
    "net/ipv4/udp_mem",
    "net/ipv4/icmp_echo_ignore_all",
    "net/ipv6/bindv6only",
    "net/ipv6/conf/all/disable_ipv6",
    "net/ipv6/conf/default/disable_ipv6",
    "net/ipv6/conf/lo/disable_ipv6",
    "net/unix/max_dgram_qlen",
    "vm/admin_reserve_kbytes",
    "vm/dirty_background_bytes",
    "vm/dirty_background_ratio",
    "vm/dirty_bytes",
    "vm/dirty_expire_centisecs",
    "vm/dirty_ratio",
    "vm/dirty_writeback_centisecs",
    "vm/hugetlb_shm_group",
    "vm/laptop_mode",
    "vm/lowmem_reserve_ratio",
    "vm/max_map_count",
    "vm/min_free_kbytes",
    "vm/mmap_min_addr",
    "vm/nr_hugepages",
    "vm/nr_overcommit_hugepages",
    "vm/oom_dump_tasks",
    "vm/oom_kill_allocating_task",
    "vm/overcommit_kbytes",
    "vm/overcommit_memory",
    "vm/overcommit_ratio",
    "vm/page-cluster",
    "vm/panic_on_oom",
    "vm/stat_interval",
    "vm/swappiness",
    "vm/unprivileged_userfaultfd",
    "vm/user_reserve_kbytes",
    "vm/vfs_cache_pressure",
    "vm/zone_reclaim_mode",
]

# Shown if the host denies them to an ordinary user, or runs without them.
_FALLBACK: Final = {
    "kernel/unprivileged_userns_clone": b"0\n",
    "kernel/yama/ptrace_scope": b"0\n",
    "kernel/apparmor_restrict_unprivileged_userns": b"1\n",
    "vm/mmap_min_addr": b"65536\n",
    "fs/protected_hardlinks": b"1\n",
    "fs/protected_symlinks": b"1\n",
    "fs/protected_fifos": b"1\n",
    "fs/protected_regular": b"1\n",
}
_BOOT_ID = str(uuid.uuid4()).encode() + b"\n"


def _value(name: str) -> Maker:
    path = b"/proc/sys/" + name.encode()
    fallback = _FALLBACK.get(name, b"")
    return lambda _task: host.read(path) or fallback


def _hostname(task: Task) -> bytes:
    name: bytes = task.process.container.hostname
    return name + b"\n"


def _domainname(task: Task) -> bytes:
    name: bytes = task.process.container.domainname
    return name + b"\n"


def files() -> dict[str, Maker]:
    """All parameters by path below /proc/sys."""
    found: dict[str, Maker] = {
        name: _value(name)
        for name in _HOST
        if name in _FALLBACK or os.path.exists("/proc/sys/" + name)
    }
    if "kernel/arch" in found:
        found["kernel/arch"] = lambda task: task.isa.uname + b"\n"
    found |= {
        "kernel/hostname": _hostname,
        "kernel/domainname": _domainname,
        "kernel/core_pattern": lambda _task: b"core\n",
        "kernel/modules_disabled": lambda _task: b"1\n",
        "kernel/ns_last_pid": lambda task: b"%d\n" % max(task.process.container.pids, default=1),
        "kernel/random/boot_id": lambda _task: _BOOT_ID,
        "kernel/random/uuid": lambda _task: str(uuid.uuid4()).encode() + b"\n",
        "kernel/seccomp/actions_avail": lambda _task: (
            b"kill_process kill_thread trap errno user_notif trace log allow\n"
        ),
        "kernel/yama/ptrace_scope": _value("kernel/yama/ptrace_scope"),
    }
    return found
