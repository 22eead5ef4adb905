"""The program that makes a thread or a process in the guest: clone(2) by the host.

fork(2) is what shells do all day, so each form of the program is packed once and kept; a call only
fills in addresses and numbers.
"""

from __future__ import annotations

import functools
import os
from enum import IntEnum, auto
from typing import TYPE_CHECKING, NamedTuple

from codegen.layout import PAYLOAD, SLOT_SIZE, Op, Slot
from kernel import channel
from kernel.limits import NOFILE, descriptor_limits
from kernel.reply import Hole, Program, Template

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


class Brings(IntEnum):
    """What the kernel sends along for the child."""

    NOTHING = auto()  # a thread whose slot is mapped already
    SLOT = auto()  # a thread
    SLOT_AND_SOCKET = auto()  # a process


class _Value(IntEnum):
    """The template's holes."""

    SLOT = 0  # addresses in the child's slot ...
    CHILD_CTRL = auto()
    HOST_TID = auto()
    TID = auto()
    MESSAGE = auto()  # number of the message with the descriptors
    PAYLOAD = auto()  # addresses in the parent's slot ...
    PAYLOAD_2 = auto()
    PAYLOAD_3 = auto()
    PAYLOAD_4 = auto()
    PARENT_TID = auto()  # the call's own arguments
    CHILD_TID = auto()
    TLS = auto()
    PIDFD = auto()


_BLOCKS = (_Value.PAYLOAD, _Value.PAYLOAD_2, _Value.PAYLOAD_3, _Value.PAYLOAD_4)
_BLOCK_SIZE = 16  # the payload is blocks of this size


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


def program(
    task: Task, child: Child, flags: int, arguments: Arguments
) -> tuple[Template, tuple[int, ...]]:
    """The program for `task` that makes `child`, and its values. The child's slot is ready."""
    slot, process = child.slot, task.process
    twice = process.container.engine.forks_twice and not flags & CLONE_THREAD
    if twice and task.isa.kernel_pid is not None:
        slot.q[task.isa.kernel_pid // 8] = os.getpid()
    for at in task.isa.inherited:
        slot.q[at // 8] = task.slot.q[at // 8]
    number = 0
    if child.socket is not None:
        brings = Brings.SLOT_AND_SOCKET
        number = process.channel.send(task, [child.socket, slot.fd], True)
        slot.words[Slot.CHILD_HAS_CTRL // 4] = 1
    elif slot.address not in process.mapped_slots:
        brings = Brings.SLOT
        process.mapped_slots.add(slot.address)
        number = process.channel.send(task, [slot.fd], True)
    else:
        brings = Brings.NOTHING
    template = _template(task.abi, flags, brings, descriptor_limits(process), twice)
    address, payload = slot.address, task.slot.address + PAYLOAD
    values = (
        address, address + Slot.CHILD_CTRL, address + Slot.HOST_TID, child.tid, number,
        payload, payload + _BLOCK_SIZE, payload + 2 * _BLOCK_SIZE, payload + 3 * _BLOCK_SIZE,
        *arguments,
    )  # fmt: skip
    return template, values


@functools.lru_cache(_FORMS_KEPT)
def _template(
    abi: Table, flags: int, brings: Brings, limits: tuple[bytes, bytes] | None, twice: bool
) -> Template:
    nr = abi.numbers
    made = Program()
    slot = Hole(_Value.SLOT)
    if limits is not None:
        lifted = _block(made, limits[0])
        made.hostcall(nr["prlimit64"], 0, NOFILE, lifted, 0, checked=False)
    ctrl = memory = None
    if brings == Brings.SLOT_AND_SOCKET:
        ctrl = channel.receive(made, 2, Hole(_Value.MESSAGE), cloexec=True)
        memory = made.next_register()
    elif brings == Brings.SLOT:
        memory = channel.receive(made, 1, Hole(_Value.MESSAGE), cloexec=True)
    if memory is not None:
        made.do(nr["mmap"], slot, SLOT_SIZE, _READ_WRITE, _MAP_SHARED_FIXED, memory, 0)
        made.do(nr["close"], memory)
    if ctrl is not None:
        made.op(Op.STORE32, Hole(_Value.CHILD_CTRL), ctrl, flags=Op.CHECKED)
    parent_tid, tid = Hole(_Value.PARENT_TID), Hole(_Value.TID)
    if flags & CLONE_PARENT_SETTID and flags & CLONE_VM:
        made.op(Op.STORE32, parent_tid, tid, flags=Op.CHECKED)
    made.do(nr["rt_sigprocmask"], _SIG_SETMASK, _block(made, _ALL_SIGNALS), 0, 8)
    host_flags = flags & ~_KERNEL_OWN & 0xFFFF_FFFF
    tid_at = Hole(_Value.HOST_TID)
    if flags & CLONE_PIDFD:
        host_flags |= CLONE_PIDFD
        tid_at = Hole(_Value.PIDFD)
    else:
        host_flags |= CLONE_PARENT_SETTID
    if not flags & CLONE_THREAD:
        host_flags |= CLONE_PARENT
    child_tid, tls = Hole(_Value.CHILD_TID), Hole(_Value.TLS)
    made.op(Op.CLONE, host_flags, int(twice), tid_at, child_tid, tls, slot, flags=Op.CHECKED)
    made.do(nr["rt_sigprocmask"], _SIG_SETMASK, _block(made, _NO_SIGNALS), 0, 8)
    if flags & CLONE_PARENT_SETTID and not flags & CLONE_VM:
        made.op(Op.STORE32, parent_tid, tid)
    if ctrl is not None:
        made.do(nr["close"], ctrl)
        made.do(nr["munmap"], slot, SLOT_SIZE)
    if limits is not None:
        enforced = _block(made, limits[1])
        made.hostcall(nr["prlimit64"], 0, NOFILE, enforced, 0, checked=False)
    made.op(Op.END, tid)
    return Template(made)


def _block(made: Program, data: bytes) -> Hole:
    """Put up to 16 bytes into the payload; the hole for their address."""
    return Hole(_BLOCKS[made.store(data) // _BLOCK_SIZE])


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
