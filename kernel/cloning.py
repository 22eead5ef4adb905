"""The program that makes a thread or a process in the guest: clone(2) by the host.

fork(2) is what shells do all day, so each form of the program is packed once and kept; a call only
fills in addresses and numbers.
"""

from __future__ import annotations

import functools
import os
from enum import IntEnum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

from codegen.layout import PAYLOAD, SLOT_SIZE, WATCH_FD, Op, Slot
from kernel import channel, watching
from kernel.limits import NOFILE, descriptor_limits
from kernel.reply import SCRATCH, Hole, Program, Result, Template

if TYPE_CHECKING:
    from kernel.slot import SlotMemory
    from kernel.task import Task
    from tables import Table

CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND = 0x100, 0x200, 0x400, 0x800
CLONE_PIDFD, CLONE_VFORK, CLONE_PARENT, CLONE_THREAD = 0x1000, 0x4000, 0x8000, 0x1_0000
CLONE_PARENT_SETTID, CLONE_CHILD_SETTID = 0x10_0000, 0x100_0000
_KERNEL_OWN = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_PARENT | CLONE_PIDFD
_ALL_SIGNALS, _NO_SIGNALS = b"\xff" * 8, bytes(8)
_SIG_SETMASK = 2
_READ_WRITE, _MAP_SHARED_FIXED = 3, 0x11
_FORMS_KEPT = 64
_SOCKET, _MEMORY = Result(0), Result(1)  # where the stub looks for them (Op.MAPS)


class Brings:
    """What the kernel sends along for the child. Plain numbers: they are hashed at each call."""

    NOTHING: Final = 0  # a thread whose slot is mapped already
    SLOT: Final = 1  # a thread
    SLOT_AND_SOCKET: Final = 2  # a process


class _Value(IntEnum):
    """The template's holes."""

    SLOT = 0  # addresses in the child's slot ...
    CHILD_CTRL = auto()
    HOST_TID = auto()
    CHILD_HOST_TID = auto()  # and in the parent's
    WATCHED = auto()
    TID = auto()
    MESSAGE = auto()  # number of the message with the descriptors
    PARENT_TID = auto()  # the call's own arguments
    CHILD_TID = auto()
    TLS = auto()
    PIDFD = auto()
    PAYLOAD = auto()  # and those behind it: blocks of the parent's payload


_BLOCKS, _BLOCK_SIZE = 4, 16  # of the payload


class Arguments(NamedTuple):
    """What clone(2) was called with, beside flags and stack."""

    parent_tid: int
    child_tid: int
    tls: int
    pidfd: int


class Child(NamedTuple):
    """What the guest must be given for the thread or process to be."""

    tid: int
    slot: SlotMemory
    socket: int | None  # a process's end of its channel


class Form(NamedTuple):
    """All that a program's ops depend on."""

    flags: int
    brings: int
    limits: tuple[bytes, bytes] | None  # of descriptors: (lifted, enforced)
    twice: bool = False  # the host makes the process in two steps
    watched: bool = False


def program(
    task: Task, child: Child, flags: int, arguments: Arguments
) -> tuple[Template, tuple[int, ...]]:
    """The program for `task` that makes `child`, and its values. The child's slot is ready."""
    slot, process, isa = child.slot, task.process, task.isa
    for at in isa.inherited:
        slot.q[at // 8] = task.slot.q[at // 8]
    number = 0
    limits = descriptor_limits(process)
    watched = watching.begins(task, child.tid, flags)
    if child.socket is not None:
        number = process.channel.send(task, [child.socket, slot.fd], True)
        twice = process.container.engine.forks_twice
        if twice and isa.kernel_pid is not None:
            slot.q[isa.kernel_pid // 8] = os.getpid()
        form = Form(flags, Brings.SLOT_AND_SOCKET, limits, twice, watched)
    elif slot.address not in process.mapped_slots:
        process.mapped_slots.add(slot.address)
        number = process.channel.send(task, [slot.fd], True)
        form = Form(flags, Brings.SLOT, limits)
    else:
        form = Form(flags, Brings.NOTHING, limits)
    address, own = slot.address, task.slot.address
    payload = own + PAYLOAD
    values = (
        address, address + Slot.CHILD_CTRL, address + Slot.HOST_TID, own + Slot.CHILD_HOST_TID,
        own + watching.PIDFD_AT, child.tid, number, *arguments,
        *range(payload, payload + _BLOCKS * _BLOCK_SIZE, _BLOCK_SIZE),
    )  # fmt: skip
    return _template(task.abi, form), values


@functools.lru_cache(_FORMS_KEPT)
def _template(abi: Table, form: Form) -> Template:
    nr, flags = abi.numbers, form.flags
    made = Program()
    if form.limits is not None:
        _limit(made, nr, form.limits[0])
    maps = form.brings == Brings.SLOT_AND_SOCKET and not form.twice
    _receive(made, nr, form)
    parent_tid, tid = Hole(_Value.PARENT_TID), Hole(_Value.TID)
    if flags & CLONE_PARENT_SETTID and flags & CLONE_VM:
        made.op(Op.STORE32, parent_tid, tid, flags=Op.CHECKED, register=SCRATCH)
    made.do(nr["rt_sigprocmask"], _SIG_SETMASK, _block(made, _ALL_SIGNALS), 0, 8)
    _clone(made, nr, form, maps)
    made.do(nr["rt_sigprocmask"], _SIG_SETMASK, _block(made, _NO_SIGNALS), 0, 8)
    if flags & CLONE_PARENT_SETTID and not flags & CLONE_VM:
        made.op(Op.STORE32, parent_tid, tid, register=SCRATCH)
    if form.brings == Brings.SLOT_AND_SOCKET:
        made.do(nr["close"], _SOCKET)
        if maps:
            made.do(nr["close"], _MEMORY)
        if not maps or flags & CLONE_VFORK:  # vfork's child has mapped it in our memory
            made.do(nr["munmap"], Hole(_Value.SLOT), SLOT_SIZE)
    if form.limits is not None:
        _limit(made, nr, form.limits[1])
    made.op(Op.END, tid, register=SCRATCH)
    return Template(made)


def _receive(made: Program, nr: dict[str, int], form: Form) -> None:
    """The child's descriptors; its slot is mapped for it where it cannot do so itself."""
    slot, message = Hole(_Value.SLOT), Hole(_Value.MESSAGE)
    if form.brings == Brings.NOTHING:
        return
    memory = _MEMORY
    if form.brings == Brings.SLOT_AND_SOCKET:
        channel.receive(made, 2, message, cloexec=True)
        made.next_register()
    else:
        memory = channel.receive(made, 1, message, cloexec=True)
    if form.brings == Brings.SLOT or form.twice:
        made.do(nr["mmap"], slot, SLOT_SIZE, _READ_WRITE, _MAP_SHARED_FIXED, memory, 0)
        made.do(nr["close"], memory)
    if form.twice:
        ctrl = Hole(_Value.CHILD_CTRL)
        made.op(Op.STORE32, ctrl, _SOCKET, flags=Op.CHECKED, register=SCRATCH)


def _clone(made: Program, nr: dict[str, int], form: Form, maps: bool) -> None:
    """The host's clone. A process that the host can make at once is the kernel's own child."""
    flags = form.flags
    host_flags = flags & ~_KERNEL_OWN & 0xFFFF_FFFF
    if not flags & CLONE_THREAD:
        host_flags = host_flags & ~CLONE_FILES | CLONE_PARENT  # each has a CTRL_FD of its own
    tid_at = Hole(_Value.CHILD_HOST_TID if maps else _Value.HOST_TID)
    place = tid_at  # clone(2) stores the child's id there, or a pidfd
    if form.watched:
        place = Hole(_Value.WATCHED)
    elif flags & CLONE_PIDFD:
        place = Hole(_Value.PIDFD)
    host_flags |= CLONE_PARENT_SETTID if place is tid_at else CLONE_PIDFD
    made_by_host = made.op(
        Op.CLONE, host_flags, int(form.twice), place, Hole(_Value.CHILD_TID), Hole(_Value.TLS),
        Hole(_Value.SLOT), flags=Op.CHECKED | (Op.MAPS if maps else 0),
    )  # fmt: skip
    if place is not tid_at:
        made.op(Op.STORE32, tid_at, made_by_host, register=SCRATCH)
    if form.watched:
        made.do(nr["dup3"], watching.PIDFD, WATCH_FD, 0)
        made.do(nr["close"], watching.PIDFD)


def _limit(made: Program, nr: dict[str, int], limit: bytes) -> None:
    """Set RLIMIT_NOFILE."""
    at = _block(made, limit)
    made.op(Op.HOSTCALL, 0, NOFILE, at, 0, nr=nr["prlimit64"], register=SCRATCH)


def _block(made: Program, data: bytes) -> Hole:
    """Put up to 16 bytes into the payload; the hole for their address."""
    return Hole(_Value.PAYLOAD + made.store(data) // _BLOCK_SIZE)


def undo(task: Task) -> Program:
    """What the host's refusal leaves to be undone in the parent; to be ended by the caller."""
    nr = task.abi.numbers
    made = Program()
    none = task.slot.address + PAYLOAD + made.store(_NO_SIGNALS)
    made.hostcall(nr["rt_sigprocmask"], _SIG_SETMASK, none, 0, 8, checked=False)
    limits = descriptor_limits(task.process)
    if limits is not None:
        at = task.slot.address + PAYLOAD + made.store(limits[1])
        made.hostcall(nr["prlimit64"], 0, NOFILE, at, 0, checked=False)
    return made
