"""/proc/PID/{stat,status,statm,limits,...}: the host's numbers under the guest's ids."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from kernel.fs.devices import slave_index, slave_number
from kernel.fs.proc import host
from kernel.host.profiles import HOST_PAGE

if TYPE_CHECKING:
    from kernel.process import Process
    from kernel.task import Task

_STATES: Final = {
    b"R": b"R (running)",
    b"S": b"S (sleeping)",
    b"D": b"D (disk sleep)",
    b"T": b"T (stopped)",
    b"t": b"t (tracing stop)",
    b"Z": b"Z (zombie)",
}
_LIMITS: Final = (
    (0, b"Max cpu time", b"seconds"),
    (1, b"Max file size", b"bytes"),
    (2, b"Max data size", b"bytes"),
    (3, b"Max stack size", b"bytes"),
    (4, b"Max core file size", b"bytes"),
    (5, b"Max resident set", b"bytes"),
    (6, b"Max processes", b"processes"),
    (7, b"Max open files", b"files"),
    (8, b"Max locked memory", b"bytes"),
    (9, b"Max address space", b"bytes"),
    (10, b"Max file locks", b"locks"),
    (11, b"Max pending signals", b"signals"),
    (12, b"Max msgqueue size", b"bytes"),
    (13, b"Max nice priority", b""),
    (14, b"Max realtime priority", b""),
    (15, b"Max realtime timeout", b"us"),
)
_INFINITY: Final = (1 << 64) - 1
_HIDDEN: Final = (b"NS", b"Kthread", b"TracerPid", b"Ngid", b"Seccomp")
_TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")


def comm(process: Process, thread: Task | None) -> bytes:
    """The name of a process or thread."""
    return thread.comm if thread is not None else process.comm


def state(process: Process, task: Task | None, host_state: bytes) -> bytes:
    """The one-letter state: what the kernel knows, else what the host says."""
    if process.zombie:
        return b"Z"
    if process.stopped:
        return b"T"
    # Who waits on the host for a call we are serving runs in "the kernel".
    return b"R" if task is not None and task.in_kernel else host_state


def stat(process: Process, thread: Task | None) -> bytes:
    """/proc/PID/stat: 52 fields, proc_pid_stat(5)."""
    pid = thread.tid if thread is not None else process.pid
    line = host.read_of(process, b"stat", thread)
    fields = line[line.rindex(b")") + 2 :].split() if line else [b"Z"] + [b"0"] * 49
    fields[0] = state(process, thread or process.leader, fields[0])
    fields[1] = b"%d" % (process.parent.pid if process.parent is not None else 0)
    fields[2] = b"%d" % process.group
    fields[3] = b"%d" % process.session
    container = process.container
    if int(fields[5]) > 0:
        fields[5] = b"%d" % container.guest_group(int(fields[5]))
    terminal = container.mounts.terminals.number_of(slave_index(int(fields[4])))
    if terminal is not None and fields[4] != b"0":
        fields[4] = b"%d" % slave_number(terminal)
    if container.larger_pages:
        fields[21] = b"%d" % in_pages(process, int(fields[21]))
    if not line:
        fields[17] = b"1"
        start_ns = getattr(process, "start_time_ns", 0)
        fields[19] = b"%d" % (start_ns // _TICK_NS)
        fields[49] = b"%d" % (process.status or 0)
    return b"%d (%s) %s\n" % (pid, comm(process, thread), b" ".join(fields))


def statm(process: Process, thread: Task | None) -> bytes:
    """/proc/PID/statm: seven numbers of pages."""
    line = host.read_of(process, b"statm", thread)
    if not process.container.larger_pages:
        return line
    return b" ".join(b"%d" % in_pages(process, int(count)) for count in line.split()) + b"\n"


def in_pages(process: Process, count: int) -> int:
    """So many pages of the host's in the guest's."""
    return count * HOST_PAGE // process.container.page_size


def status(process: Process, thread: Task | None) -> bytes:
    """/proc/PID/status."""
    task = thread or process.leader
    rows: dict[bytes, bytes] = {}
    order: list[bytes] = []
    for line in host.read_of(process, b"status", thread).splitlines():
        name, _, value = line.partition(b":")
        if not name.startswith(_HIDDEN):
            rows[name] = value.strip()
            order.append(name)
    pid = thread.tid if thread is not None else process.pid
    fixed = {
        b"Name": comm(process, thread),
        b"Umask": b"%04o" % (task.fs.umask if task is not None else 0),
        b"State": _STATES[state(process, task, rows.get(b"State", b"Z")[:1])],
        b"Tgid": b"%d" % process.pid,
        b"Pid": b"%d" % pid,
        b"PPid": b"%d" % (process.parent.pid if process.parent is not None else 0),
        b"Threads": b"%d" % max(1, len(process.tasks)),
    }
    if task is not None:
        fixed |= _identity(task) | _signals(process, task)
    if not order:
        order = [b"Name", b"Umask", b"State", b"Tgid", b"Pid", b"PPid", b"Uid", b"Gid", b"Threads"]
    rows |= {name: value for name, value in fixed.items() if name in order}
    at = order.index(b"Tgid") + 1 if b"Tgid" in order else 0
    rows |= {b"Ngid": b"0", b"TracerPid": b"0", b"Seccomp": b"2", b"Seccomp_filters": b"1"}
    order.insert(at, b"Ngid")
    at = order.index(b"PPid") + 1 if b"PPid" in order else 0
    order.insert(at, b"TracerPid")
    if b"NoNewPrivs" in order:
        at = order.index(b"NoNewPrivs") + 1
        order[at:at] = [b"Seccomp", b"Seccomp_filters"]
    return b"".join(b"%s:\t%s\n" % (name, _aligned(rows[name])) for name in order)


def _aligned(value: bytes) -> bytes:
    return value.rjust(11) if value.endswith(b" kB") else value


def _identity(task: Task) -> dict[bytes, bytes]:
    who = task.credentials
    return {
        b"Uid": b"%d\t%d\t%d\t%d" % (who.uid, who.euid, who.suid, who.fsuid),
        b"Gid": b"%d\t%d\t%d\t%d" % (who.gid, who.egid, who.sgid, who.fsgid),
        b"Groups": b" ".join(b"%d" % gid for gid in sorted(who.groups)) + b" ",
        b"CapInh": b"%016x" % who.inheritable,
        b"CapPrm": b"%016x" % who.permitted,
        b"CapEff": b"%016x" % who.effective,
        b"CapBnd": b"%016x" % who.bounding,
        b"CapAmb": b"%016x" % who.ambient,
        b"NoNewPrivs": b"%d" % who.no_new_privs,
    }


def _signals(process: Process, task: Task) -> dict[bytes, bytes]:
    ignored = caught = 0
    for number, action in enumerate(process.signals.actions):
        if number and action.handler == 1:
            ignored |= 1 << (number - 1)
        elif number and action.handler:
            caught |= 1 << (number - 1)
    own = task.pending.mask if task.pending is not None else 0
    return {
        b"SigPnd": b"%016x" % own,
        b"ShdPnd": b"%016x" % process.signals.pending.mask,
        b"SigBlk": b"%016x" % task.blocked,
        b"SigIgn": b"%016x" % ignored,
        b"SigCgt": b"%016x" % caught,
    }


def limits(process: Process) -> bytes:
    """/proc/PID/limits."""
    out = [b"%-25s %-20s %-20s %-10s\n" % (b"Limit", b"Soft Limit", b"Hard Limit", b"Units")]
    for number, name, unit in _LIMITS:
        soft, hard = process.limits[number]
        out.append(b"%-25s %-20s %-20s %-10s\n" % (name, _limit(soft), _limit(hard), unit))
    return b"".join(out)


def _limit(value: int) -> bytes:
    return b"unlimited" if value == _INFINITY else b"%d" % value


def strings(process: Process, values: list[bytes], which: str) -> bytes:
    """cmdline or environ: from the guest's memory (setproctitle(3)), else as started."""
    area = getattr(process, which, None)
    if area and area[0] and not process.zombie:
        data = host.read_memory(process, *area)
        if data:
            if which == "argument_area" and data[-1:] != b"\0":
                # An overwritten last NUL: the title runs on into the environment.
                data = data.partition(b"\0")[0] + b"\0"
            return data
    return b"".join(value + b"\0" for value in values) if not process.zombie else b""
