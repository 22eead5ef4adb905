"""Which headers the tables are made of.

UAPI lists what a program could include. Some of the ABI stands only in the kernel's own headers
(socket address families, `struct user_msghdr`, DT_*): FRAGMENTS names those definitions, and they
are cut out of the kernel's text, because its headers as a whole need a configured tree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

UAPI = [
    "linux/types.h", "linux/socket.h", "linux/time.h", "linux/time_types.h", "asm/unistd.h",
    "asm/errno.h", "asm/signal.h", "asm/siginfo.h", "asm/sigcontext.h", "asm/ucontext.h",
    "asm/stat.h", "asm/statfs.h", "asm/ptrace.h", "asm/termbits.h", "asm/termios.h", "asm/ioctls.h",
    "asm/poll.h", "asm/fcntl.h", "asm/mman.h", "asm/resource.h", "asm/socket.h", "asm/sockios.h",
    "asm/param.h", "linux/acct.h", "linux/aio_abi.h", "linux/audit.h", "linux/auxvec.h",
    "linux/bpf_common.h", "linux/capability.h", "linux/close_range.h", "linux/elf.h",
    "linux/elf-em.h", "linux/errno.h", "linux/errqueue.h", "linux/eventpoll.h", "linux/fadvise.h",
    "linux/falloc.h", "linux/fanotify.h", "linux/fcntl.h", "linux/fiemap.h", "linux/filter.h",
    "linux/fs.h", "linux/fsmap.h", "linux/futex.h", "linux/genetlink.h", "linux/hdreg.h",
    "linux/icmp.h", "linux/icmpv6.h", "linux/if.h", "linux/if_addr.h", "linux/if_arp.h",
    "linux/if_ether.h", "linux/if_link.h", "linux/if_packet.h", "linux/if_tun.h", "linux/in.h",
    "linux/in6.h", "linux/inet_diag.h", "linux/inotify.h", "linux/io_uring.h", "linux/ioprio.h",
    "linux/ip.h", "linux/ipc.h", "linux/ipv6.h", "linux/kcmp.h", "linux/kd.h", "linux/kexec.h",
    "linux/keyctl.h", "linux/landlock.h", "linux/limits.h", "linux/loop.h", "linux/magic.h",
    "linux/major.h", "linux/membarrier.h", "linux/memfd.h", "linux/mempolicy.h", "linux/mman.h",
    "linux/mount.h", "linux/mqueue.h", "linux/msg.h", "linux/neighbour.h", "linux/net.h",
    "linux/net_namespace.h", "linux/netdevice.h", "linux/netlink.h", "linux/nsfs.h", "linux/oom.h",
    "linux/openat2.h", "linux/packet_diag.h", "linux/personality.h", "linux/pidfd.h",
    "linux/poll.h", "linux/prctl.h", "linux/ptrace.h", "linux/quota.h", "linux/random.h",
    "linux/reboot.h", "linux/resource.h", "linux/route.h", "linux/rseq.h", "linux/rtc.h",
    "linux/rtnetlink.h", "linux/sched.h", "linux/sched/types.h", "linux/seccomp.h",
    "linux/securebits.h", "linux/sem.h", "linux/serial.h", "linux/shm.h", "linux/signal.h",
    "linux/signalfd.h", "linux/sock_diag.h", "linux/sockios.h", "linux/stat.h", "linux/swab.h",
    "linux/sysinfo.h", "linux/tcp.h", "linux/termios.h", "linux/time.h", "linux/timerfd.h",
    "linux/times.h", "linux/timex.h", "linux/tty.h", "linux/tty_flags.h", "linux/udp.h",
    "linux/uio.h", "linux/un.h", "linux/unistd.h", "linux/unix_diag.h", "linux/userfaultfd.h",
    "linux/utime.h", "linux/utsname.h", "linux/veth.h", "linux/vm_sockets.h", "linux/vt.h",
    "linux/wait.h", "linux/xattr.h",
]  # fmt: skip

UAPI_OF_ISA = {
    "x86_64": ["asm/prctl.h", "asm/ldt.h", "asm/hwcap2.h", "asm/processor-flags.h"],
    "arm64": ["asm/hwcap.h", "asm/sve_context.h"],
}


@dataclass(frozen=True)
class Fragment:
    """Definitions to cut out of one kernel header: structs and enums by name, macros by pattern."""

    header: str
    types: tuple[str, ...] = ()
    macros: str = ""


BEFORE = [
    Fragment("include/linux/socket.h", ("struct sockaddr", "struct linger")),
]
AFTER = [
    Fragment(
        "include/linux/socket.h",
        ("struct user_msghdr", "struct mmsghdr", "struct cmsghdr", "struct ucred"),
        r"(AF|PF|MSG|SOL|SCM)_\w+|SOMAXCONN",
    ),
    Fragment("include/linux/net.h", ("enum sock_type", "enum sock_shutdown_cmd"), r"SOCK_\w+"),
    Fragment("include/linux/dirent.h", ("struct linux_dirent64",)),
    Fragment("include/linux/fs_types.h", (), r"(DT|S_DT)_\w+"),
    Fragment("include/linux/fs.h", (), r"(MNT|UMOUNT)_\w+|RENAME_\w+"),
    Fragment("include/linux/errno.h", (), r"E[A-Z]+"),
    Fragment("include/linux/stat.h", (), r"UTIME_\w+|S_I[RWX]\w+O"),
    Fragment("include/linux/eventfd.h", (), r"EFD_\w+"),
    Fragment("include/linux/splice.h", (), r"SPLICE_F_\w+"),
    Fragment("include/linux/syslog.h", (), r"SYSLOG_ACTION_\w+"),
    Fragment("include/linux/binfmts.h", (), r"BINPRM_BUF_SIZE"),
]
AFTER_OF_ISA = {
    "x86_64": [
        Fragment("arch/x86/include/asm/user_64.h", ("struct user_regs_struct",)),
        Fragment("arch/x86/include/asm/sigframe.h", ("struct rt_sigframe",)),
    ],
    "arm64": [],
}

# What uapi headers include from a C library: nothing of it is used.
EMPTY_HEADERS = (
    "sys/socket.h", "sys/types.h", "sys/ioctl.h", "sys/time.h", "netinet/in.h", "unistd.h",
)  # fmt: skip


def cut(fragment: Fragment, kernel: Path) -> str:
    """Return the C text of `fragment`, from the kernel tree's own header. Raises LookupError."""
    text = (kernel / fragment.header).read_text()
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL).replace("\\\n", " ")
    parts = []
    for name in fragment.types:
        found = re.search(rf"^{name}\s*\{{.*?^\}}[^;]*;", text, re.DOTALL | re.MULTILINE)
        if found is None:
            raise LookupError(f"{fragment.header} defines no {name}")
        parts.append(found[0])
    if fragment.macros:
        pattern = rf"^\s*#\s*define[ \t]+(?:{fragment.macros})[ \t]+\S.*$"
        parts += [found[0] for found in re.finditer(pattern, text, re.MULTILINE)]
    return "\n".join(parts)
