"""The seccomp filter of an emulator's processes.

To the host every call is the emulator's: no instruction pointer tells the stub from the guest. So
it refuses what would give a process more than the descriptors it holds and what Landlock does not
cover: new sockets, other processes, attributes of files by path, namespaces and the like. Files are
Landlock's: an emulator must open its own when it starts.
"""

from __future__ import annotations

from typing import Final

from codegen import bpf
from tables import Table

_NR, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
_EPERM = 1
_X32 = 0x4000_0000
_AUDIT_ARCH = {"x86_64": "AUDIT_ARCH_X86_64", "arm64": "AUDIT_ARCH_AARCH64"}
REFUSED: Final = (
    # sockets, and other processes
    "socket", "connect", "bind", "listen", "ptrace", "process_vm_readv", "process_vm_writev",
    "process_madvise", "process_mrelease", "pidfd_getfd", "kcmp", "setpriority", "ioprio_set",
    # attributes of files by path
    "chmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchownat", "utime", "utimes",
    "futimesat", "utimensat", "setxattr", "lsetxattr", "removexattr", "lremovexattr",
    "setxattrat", "removexattrat",
    # mounts and namespaces
    "mount", "umount2", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick",
    "mount_setattr", "pivot_root", "chroot", "unshare", "setns",
    # the machine
    "swapon", "swapoff", "quotactl", "quotactl_fd", "acct", "sethostname", "setdomainname",
    "settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "reboot", "kexec_load",
    "kexec_file_load", "init_module", "finit_module", "delete_module", "ioperm", "iopl", "syslog",
    "vhangup",
    # large interfaces and shared names
    "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter",
    "io_uring_register", "add_key", "request_key", "keyctl", "lookup_dcookie", "fanotify_init",
    "open_by_handle_at", "name_to_handle_at", "mq_open", "mq_unlink", "msgget", "semget",
    "personality", "seccomp",
)  # fmt: skip


def build_filter(host: Table) -> bytes:
    """The filter as an array of struct sock_filter; `host` is the table of the host's own ISA."""
    program = bpf.Program()
    known, refuse, other = bpf.Label(), bpf.Label(), bpf.Label()
    program.load(_ARCH)
    program.jump(bpf.JUMP_EQUAL, host.constants[_AUDIT_ARCH[host.isa]], if_true=known)
    program.ret(_KILL_PROCESS)
    program.bind(known)
    program.load(_NR)
    program.jump(bpf.JUMP_GREATER_EQUAL, _X32, if_true=refuse)
    for name in REFUSED:
        if name in host.numbers:
            program.jump(bpf.JUMP_EQUAL, host.numbers[name], if_true=refuse)
    program.jump(bpf.JUMP_EQUAL, host.numbers["prlimit64"], if_false=other)
    program.load(_ARGUMENTS)
    program.jump(bpf.JUMP_EQUAL, 0, if_false=refuse)  # of another process
    program.bind(other)
    program.ret(_ALLOW)
    program.bind(refuse)
    program.ret(_ERRNO | _EPERM)
    return program.assemble()
