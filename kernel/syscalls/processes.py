"""Birth, change and death of processes: clone, execve, wait, and their relatives."""

from __future__ import annotations

import errno
import functools
import os
import struct
from typing import TYPE_CHECKING

from codegen.layout import ANY_MESSAGE, PAYLOAD, STUB_FD, Op, Slot
from kernel import cloning, watching
from kernel.abi import DirFd, Flags, InBuffer, Path, Pointer, Size, StringVector, ULong
from kernel.cloning import (
    CLONE_CHILD_SETTID,
    CLONE_FS,
    CLONE_PARENT,
    CLONE_PARENT_SETTID,
    CLONE_PIDFD,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    Arguments,
    Child,
)
from kernel.errors import LinuxError
from kernel.executable import Executable, open_executable
from kernel.limits import NOFILE, descriptor_limits, enforce, lift
from kernel.loader import Image, lay_out_early, prepare
from kernel.process import Process
from kernel.reply import Answer, Program, Reply
from kernel.robust import ask_before_exit, release_all
from kernel.syscalls.declare import syscall
from kernel.task import ProgramFailed, Task, write_identity

if TYPE_CHECKING:
    from kernel.slot import SlotMemory

_NAMESPACES = 0x7E02_0080  # CLONE_NEW*
_CLONE_DETACHED, _CLONE_CLEAR_SIGHAND = 0x40_0000, 1 << 32
_CLONE3_FLAGS = 0xFFFF_FFFF & ~_CLONE_DETACHED & ~0x7F | _CLONE_CLEAR_SIGHAND
_CLONE_ARGS = struct.Struct("<11Q")
_CLONE_ARGS_FIRST_SIZE = 64
_SIGCHLD, _LAST_SIGNAL = 17, 64
_PAGE, _PID_LEVELS = 4096, 32
_ALL_SIGNALS, _NO_SIGNALS = b"\xff" * 8, bytes(8)
_SIG_SETMASK = 2
_CMSG_CLOEXEC = 0x4000_0000
_CHILD_HOST_TID = Slot.CHILD_HOST_TID // 4
_AT_EMPTY_PATH, _AT_FDCWD = 0x1000, -100


@syscall()
def fork(task: Task) -> Answer:
    """fork(2)."""
    return _clone(task, _SIGCHLD, 0, 0, 0, 0)


@syscall()
def vfork(task: Task) -> Answer:
    """vfork(2): shared memory, the parent sleeps in the host until the child execs or ends."""
    return _clone(task, CLONE_VM | CLONE_VFORK | _SIGCHLD, 0, 0, 0, 0)


@syscall(missing="CLONE_FILES without CLONE_THREAD copies the descriptors")
def clone(
    task: Task, flags: ULong, newsp: Pointer, parent_tid: Pointer, child_tid: Pointer, tls: ULong
) -> Answer:
    """clone(2): a thread or a process, made by the host's clone in the guest."""
    if flags & CLONE_PIDFD and flags & CLONE_PARENT_SETTID:
        return -errno.EINVAL
    return _clone(task, flags, newsp, parent_tid, child_tid, tls, parent_tid)


@syscall(missing="set_tid, CLONE_INTO_CGROUP; CLONE_FILES as in clone")
def clone3(task: Task, uargs: InBuffer, size: Size) -> Answer:
    """clone3(2): more flags than clone, its own place for the pidfd, a stack with a size."""
    if size > _PAGE or any(uargs[_CLONE_ARGS.size :]):
        return -errno.E2BIG
    if size < _CLONE_ARGS_FIRST_SIZE:
        return -errno.EINVAL
    (
        flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls,
        set_tid, set_tid_size, _,
    ) = _CLONE_ARGS.unpack(uargs[: _CLONE_ARGS.size].ljust(_CLONE_ARGS.size, b"\0"))  # fmt: skip
    if flags & ~_CLONE3_FLAGS or exit_signal > _LAST_SIGNAL or bool(stack) != bool(stack_size):
        return -errno.EINVAL
    if flags & (CLONE_THREAD | CLONE_PARENT) and exit_signal:
        return -errno.EINVAL
    if flags & _CLONE_CLEAR_SIGHAND and flags & CLONE_SIGHAND:
        return -errno.EINVAL
    if set_tid or set_tid_size:
        return -errno.EPERM if set_tid and 0 < set_tid_size <= _PID_LEVELS else -errno.EINVAL
    return _clone(task, flags | exit_signal, stack + stack_size, parent_tid, child_tid, tls, pidfd)


def _clone(
    task: Task,
    flags: int,
    stack: int,
    parent_tid: int,
    child_tid: int,
    tls: int,
    pidfd: int = 0,
) -> Answer:
    if flags & _NAMESPACES:
        return -errno.EPERM
    if flags & CLONE_THREAD and not flags & CLONE_SIGHAND:
        return -errno.EINVAL
    if flags & CLONE_SIGHAND and not flags & CLONE_VM:
        return -errno.EINVAL
    if flags & CLONE_PIDFD and flags & CLONE_THREAD:
        return -errno.EINVAL
    arguments = Arguments(parent_tid, child_tid, tls, pidfd)
    if flags & CLONE_PIDFD:
        task.process.container.pidfd_users = True
    if flags & CLONE_THREAD:
        return _new_thread(task, flags, stack, arguments)
    return _new_process(task, flags, stack, arguments)


def _prepare_slot(
    task: Task, slot: SlotMemory, flags: int, stack: int, arguments: Arguments
) -> None:
    """The child starts with its maker's registers."""
    isa = task.isa
    for at, length in isa.saved_registers:
        slot.mm[at : at + length] = task.slot.mm[at : at + length]
    if stack:
        slot.q[isa.saved_sp // 8] = stack
    if flags & CLONE_CHILD_SETTID:
        slot.q[Slot.CHILD_TID // 8] = arguments.child_tid
    limits = descriptor_limits(task.process)
    if limits is not None:
        slot.mm[Slot.CHILD_LIMIT : Slot.CHILD_LIMIT + 32] = limits[0] + limits[1]


def _new_thread(task: Task, flags: int, stack: int, arguments: Arguments) -> Answer:
    process = task.process
    container = process.container
    slot = process.spare_slots.pop() if process.spare_slots else container.take_slot()
    slot.reset()
    if process.leader_slot is not None:
        slot.q[Slot.FLAGS_POINTER // 8] = process.leader_slot.q[Slot.FLAGS_POINTER // 8]
    _prepare_slot(task, slot, flags, stack, arguments)
    child = Task(process, container.new_pid(), slot, task.credentials, task.fs, task.abi)
    child.blocked = task.blocked
    child.comm = task.comm
    child.write_identity()
    container.add_task(child)
    ask_before_exit(process)
    answer = cloning.program(task, Child(child.tid, slot, None), flags, arguments)
    task.recover = lambda _index, number: _unborn(task, child, number)
    return Reply.template(*answer)


def _new_process(task: Task, flags: int, stack: int, arguments: Arguments) -> Answer:
    """What the guest sees comes first, our own record while its host makes the process."""
    process = task.process
    container = process.container
    task.wean()
    task.slot.words[_CHILD_HOST_TID] = 0
    slot = container.take_slot()
    _prepare_slot(task, slot, flags, stack, arguments)
    files = process.files.copy(slot.flags_view)
    parent: Process | None = process.parent if flags & CLONE_PARENT else process
    pid = container.new_pid()
    write_identity(slot, pid, pid, parent.pid if parent is not None else 0, task.credentials)
    channel = container.channels.take()
    socket = channel.guest_end
    try:
        answer = cloning.program(task, Child(pid, slot, socket.fileno()), flags, arguments)
    except OSError:  # its control socket is full: no honest stub lets it come to that
        channel.close()
        files.clear()
        container.unborn(slot, pid)
        return -errno.EAGAIN

    def born() -> None:
        container.ring.lend()
        socket.close()
        child = Process(container, pid, process, slot, channel, files)
        child.maker = task.slot
        task.newborn = child
        _inherit(task, _add_leader(task, child, slot, flags), parent, flags)

    task.after = born
    task.recover = lambda _index, number: _unborn(task, container.pids[pid].tasks[pid], number)
    return Reply.template(*answer)


def _add_leader(task: Task, process: Process, slot: SlotMemory, flags: int) -> Task:
    fs = task.fs if flags & CLONE_FS else task.fs.copy()
    child = Task(process, process.pid, slot, task.credentials, fs, task.abi)
    child.blocked = task.blocked
    child.alt_stack = task.alt_stack if not flags & CLONE_VM or flags & CLONE_VFORK else (0, 2, 0)
    child.comm = task.comm
    process.container.pids[process.pid] = process
    process.container.add_task(child)
    return child


def _inherit(task: Task, child: Task, parent: Process | None, flags: int) -> None:
    maker, process = task.process, child.process
    if parent is not maker:
        process.set_parent(parent)
    process.leaves_slot_behind = flags & (CLONE_VM | CLONE_VFORK) == CLONE_VM
    if flags & _CLONE_CLEAR_SIGHAND:
        process.signals.reset_for_exec()
    process.exit_signal = flags & 0xFF if not flags & CLONE_PARENT else maker.exit_signal


def _unborn(task: Task, child: Task, number: int) -> Answer:
    """The host could not make it: forget the child and undo what the program had done."""
    child.process.container.discard(child)
    program = cloning.undo(task)
    program.op(Op.END, -number)
    return Reply.program(program)


# -- execve --------------------------------------------------------------------------------------


@syscall()
async def execve(task: Task, filename: Path, argv: StringVector, envp: StringVector) -> Answer:
    """execve(2)."""
    arguments = await _vector(task, argv, 1)
    environment = await _vector(task, envp, 2)
    return await _exec(task, prepare(task, filename, arguments, environment))


@syscall(missing="AT_EMPTY_PATH only for descriptors of regular files")
async def execveat(
    task: Task, fd: DirFd, filename: Path, argv: StringVector, envp: StringVector, flags: Flags
) -> Answer:
    """execveat(2); with AT_EMPTY_PATH the descriptor itself is executed (fexecve)."""
    arguments = await _vector(task, argv, 2)
    environment = await _vector(task, envp, 3)
    if flags & ~(_AT_EMPTY_PATH | 0x100):
        return -errno.EINVAL
    if filename or not flags & _AT_EMPTY_PATH:
        start = None
        if fd != _AT_FDCWD and filename[:1] != b"/":
            directory = task.process.files.get(fd)
            if directory is None:
                return -errno.EBADF
            start = directory.node
        file = open_executable(task, filename, start)
        path = filename if start is None else b"/dev/fd/%d/%s" % (fd, filename)
    else:
        file = Executable(await task.take_fd(fd), None)
        path = b"/dev/fd/%d" % fd
    return await _exec(task, prepare(task, path, arguments, environment, file))


async def _vector(task: Task, strings: list[bytes] | None, argument: int) -> list[bytes]:
    """A string vector; one too large for the payload is fetched piece by piece."""
    if strings is not None:
        return strings
    address = task.slot.q[Slot.ARGS // 8 + argument]
    pointers: list[int] = []
    while True:
        chunk = await task.copy_in(address, 8)
        (pointer,) = struct.unpack("<Q", chunk)
        if not pointer:
            break
        pointers.append(pointer)
        address += 8
        if len(pointers) > 1 << 18:
            raise LinuxError(errno.E2BIG)
    return [await _string(task, pointer) for pointer in pointers]


async def _string(task: Task, address: int) -> bytes:
    data = b""
    while b"\0" not in data:
        size = 4096 - (address & 4095)
        data += await task.copy_in(address, size)
        address += size
        if len(data) > 1 << 17:
            raise LinuxError(errno.E2BIG)
    return data[: data.index(b"\0")]


async def _exec(task: Task, image: Image) -> Answer:
    """Execute the stub again; it will ask what to load. Returns only if the host refuses."""
    process = task.process
    await release_all(task)
    lift(process)
    process.image = image
    process.has_execed = True
    watching.forget(process)
    nr = task.abi.numbers
    process.channel.send_boot(task.slot, process.container.ring.page_fd)
    program = Program()
    base = task.slot.address + PAYLOAD
    engine = process.container.engine
    file, arguments = engine.command(str(process.container.stub.path))
    variables = [f"{name}={value}" for name, value in engine.environment.items()]
    strings = [base + program.store(os.fsencode(s) + b"\0") for s in (*arguments, *variables)]
    count = len(arguments)
    vector = base + program.store(
        struct.pack(f"<{len(strings) + 2}Q", *strings[:count], 0, *strings[count:], 0)
    )
    environment = vector + 8 * (count + 1)
    blocked = base + program.store(_ALL_SIGNALS)
    none = base + program.store(_NO_SIGNALS)
    program.do(nr["rt_sigprocmask"], _SIG_SETMASK, blocked, 0, 8)
    if engine.emulator is None:
        empty = process.container.stub.empty_string
        program.do(nr["execveat"], STUB_FD, empty, vector, environment, _AT_EMPTY_PATH)
    else:  # which has no execveat
        path = base + program.store(os.fsencode(file) + b"\0")
        program.do(nr["execve"], path, vector, environment)
    process.container.ring.later(functools.partial(lay_out_early, task, image))
    try:
        await task.run(program)
    except ProgramFailed as failed:
        process.image = None
        image.close()
        enforce(process, NOFILE)
        undo = Program()
        first = undo.op(Op.RECV_FDS, 2, _CMSG_CLOEXEC, 0, ANY_MESSAGE)
        second = undo.next_register()
        for fd in (first, second):
            undo.hostcall(nr["close"], fd, checked=False)
        undo.hostcall(nr["rt_sigprocmask"], _SIG_SETMASK, none, 0, 8, checked=False)
        await task.run(undo)
        raise LinuxError(failed.errno) from failed
    raise LinuxError(errno.ENOEXEC)
