"""Birth, change and death of processes: clone, execve, wait, and their relatives."""

import errno
import struct

from codegen.layout import ANY_MESSAGE, PAYLOAD, SLOT_SIZE, STUB_FD, Op, Slot
from kernel.abi import DirFd, Flags, InBuffer, Path, Pointer, Size, StringVector, ULong
from kernel.errors import LinuxError
from kernel.executable import Executable, open_executable
from kernel.limits import NOFILE, descriptor_limits, enforce, lift
from kernel.loader import Image, prepare
from kernel.process import Process
from kernel.reply import Answer, Program, Reply, Result
from kernel.robust import ask_before_exit, release_all
from kernel.syscalls.declare import syscall
from kernel.task import ProgramFailed, Task

CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND = 0x100, 0x200, 0x400, 0x800
CLONE_PIDFD, CLONE_VFORK, CLONE_PARENT, CLONE_THREAD = 0x1000, 0x4000, 0x8000, 0x1_0000
CLONE_SETTLS, CLONE_PARENT_SETTID = 0x8_0000, 0x10_0000
CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID = 0x20_0000, 0x100_0000
_NAMESPACES = 0x7E02_0080  # CLONE_NEW*
_CLONE_DETACHED, _CLONE_CLEAR_SIGHAND = 0x40_0000, 1 << 32
_CLONE3_FLAGS = 0xFFFF_FFFF & ~_CLONE_DETACHED & ~0x7F | _CLONE_CLEAR_SIGHAND
_CLONE_ARGS = struct.Struct("<11Q")
_CLONE_ARGS_FIRST_SIZE = 64
_KERNEL_OWN = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_PARENT | CLONE_PIDFD
_SIGCHLD, _LAST_SIGNAL = 17, 64
_PAGE, _PID_LEVELS = 4096, 32
_ALL_SIGNALS, _NO_SIGNALS = b"\xff" * 8, bytes(8)
_SIG_SETMASK = 2
_REGS, _REGS_END = Slot.REGS, Slot.REGS + 14 * 8
_RSP = Slot.REGS // 8 + 2
_CMSG_CLOEXEC = 0x4000_0000
_AT_EMPTY_PATH, _AT_FDCWD = 0x1000, -100
_MMAP_SHARED_FIXED = 0x11


@syscall()
def fork(task: Task) -> Answer:
    """fork(2)."""
    return _clone(task, _SIGCHLD, 0, 0, 0, 0)


@syscall()
def vfork(task: Task) -> Answer:
    """vfork(2): shared memory, the parent sleeps in the host until the child execs or ends."""
    return _clone(task, CLONE_VM | CLONE_VFORK | _SIGCHLD, 0, 0, 0, 0)


@syscall()
def clone(
    task: Task, flags: ULong, newsp: Pointer, parent_tid: Pointer, child_tid: Pointer, tls: ULong
) -> Answer:
    """clone(2): a thread or a process, made by the host's clone in the guest."""
    if flags & CLONE_PIDFD and flags & CLONE_PARENT_SETTID:
        return -errno.EINVAL
    return _clone(task, flags, newsp, parent_tid, child_tid, tls, parent_tid)


@syscall(missing="set_tid and CLONE_INTO_CGROUP")
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
    thread = bool(flags & CLONE_THREAD)
    child = _new_thread(task) if thread else _new_process(task, flags)
    slot = child.slot
    slot.mm[_REGS:_REGS_END] = task.slot.mm[_REGS:_REGS_END]
    if stack:
        slot.q[_RSP] = stack
    if flags & CLONE_CHILD_SETTID:
        slot.q[Slot.CHILD_TID // 8] = child_tid
    nr = task.abi.numbers
    program = Program()
    limits = descriptor_limits(task.process)
    if limits is not None:
        _set_descriptor_limit(task, program, limits[0])
        slot.mm[Slot.CHILD_LIMIT : Slot.CHILD_LIMIT + 32] = limits[0] + limits[1]
    ctrl = _bring_slot(task, child, program)
    if flags & CLONE_PARENT_SETTID and flags & CLONE_VM:
        program.op(Op.STORE32, parent_tid, child.tid, flags=Op.CHECKED)
    blocked = task.slot.address + PAYLOAD + program.store(_ALL_SIGNALS)
    none = task.slot.address + PAYLOAD + program.store(_NO_SIGNALS)
    program.do(nr["rt_sigprocmask"], _SIG_SETMASK, blocked, 0, 8)
    host_flags = flags & ~_KERNEL_OWN & 0xFFFF_FFFF
    tid_at = slot.address + Slot.HOST_TID
    if flags & CLONE_PIDFD:
        host_flags |= CLONE_PIDFD
        task.process.container.pidfd_users = True
        tid_at = pidfd
    else:
        host_flags |= CLONE_PARENT_SETTID
    if not thread:
        host_flags |= CLONE_PARENT
    program.op(Op.CLONE, host_flags, 0, tid_at, child_tid, tls, slot.address, flags=Op.CHECKED)
    program.do(nr["rt_sigprocmask"], _SIG_SETMASK, none, 0, 8)
    if flags & CLONE_PARENT_SETTID and not flags & CLONE_VM:
        program.op(Op.STORE32, parent_tid, child.tid)
    if ctrl is not None:
        program.do(nr["close"], ctrl)
        program.do(nr["munmap"], slot.address, SLOT_SIZE)
    if limits is not None:
        _set_descriptor_limit(task, program, limits[1])
    program.op(Op.END, child.tid)
    task.recover = lambda _index, number: _unborn(task, child, number)
    return Reply.program(program)


def _set_descriptor_limit(task: Task, program: Program, limit: bytes) -> None:
    at = task.slot.address + PAYLOAD + program.store(limit)
    program.hostcall(task.abi.numbers["prlimit64"], 0, NOFILE, at, 0, checked=False)


def _bring_slot(task: Task, child: Task, program: Program) -> Result | None:
    """Map the child's slot in the caller; for a process also receive its control socket."""
    nr = task.abi.numbers
    slot, process = child.slot, child.process
    if process is task.process:
        if slot.address in process.mapped_slots:
            return None
        process.mapped_slots.add(slot.address)
        memory = process.channel.transfer(task, program, [slot.fd], True)
        ctrl = None
    else:
        guest_end = process.channel.guest_end
        ctrl = task.process.channel.transfer(task, program, [guest_end.fileno(), slot.fd], True)
        guest_end.close()
        memory = program.next_register()
    program.do(nr["mmap"], slot.address, SLOT_SIZE, 3, _MMAP_SHARED_FIXED, memory, 0)
    program.do(nr["close"], memory)
    if ctrl is not None:
        slot.words[Slot.CHILD_HAS_CTRL // 4] = 1
        program.op(Op.STORE32, slot.address + Slot.CHILD_CTRL, ctrl, flags=Op.CHECKED)
    return ctrl


def _new_thread(task: Task) -> Task:
    process = task.process
    container = process.container
    slot = process.spare_slots.pop() if process.spare_slots else container.take_slot()
    slot.reset()
    if process.leader_slot is not None:
        slot.q[Slot.FLAGS_POINTER // 8] = process.leader_slot.q[Slot.FLAGS_POINTER // 8]
    child = Task(process, container.new_pid(), slot, task.credentials, task.fs, task.abi)
    child.blocked = task.blocked
    child.comm = task.comm
    container.add_task(child)
    ask_before_exit(process)
    return child


def _new_process(task: Task, flags: int) -> Task:
    container = task.process.container
    slot = container.take_slot()
    slot.reset_flags()
    parent: Process | None = task.process
    if flags & CLONE_PARENT:
        parent = task.process.parent
    pid = container.new_pid()
    process = Process(container, pid, task.process, slot)
    if parent is not task.process:
        process.set_parent(parent)
    process.signals = task.process.signals.copy()
    if flags & _CLONE_CLEAR_SIGHAND:
        process.signals.reset_for_exec()
    process.exit_signal = flags & 0xFF if not flags & CLONE_PARENT else task.process.exit_signal
    process.texts = task.process.texts.copy()
    fs = task.fs if flags & CLONE_FS else task.fs.copy()
    child = Task(process, pid, slot, task.credentials, fs, task.abi)
    child.blocked = task.blocked
    child.alt_stack = task.alt_stack if not flags & CLONE_VM or flags & CLONE_VFORK else (0, 2, 0)
    child.comm = task.comm
    container.pids[pid] = process
    container.add_task(child)
    return child


def _unborn(task: Task, child: Task, number: int) -> Answer:
    """The host could not make it: forget the child and undo what the program had done."""
    child.process.container.discard(child)
    nr = task.abi.numbers
    program = Program()
    none = task.slot.address + PAYLOAD + program.store(_NO_SIGNALS)
    program.hostcall(nr["rt_sigprocmask"], _SIG_SETMASK, none, 0, 8, checked=False)
    limits = descriptor_limits(task.process)
    if limits is not None:
        _set_descriptor_limit(task, program, limits[1])
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
    nr = task.abi.numbers
    process.channel.send_boot(task.slot, process.container.ring.page_fd)
    program = Program()
    base = task.slot.address + PAYLOAD
    name = base + program.store(b"ddock-guest\0")
    vector = base + program.store(struct.pack("<QQ", name, 0))
    blocked = base + program.store(_ALL_SIGNALS)
    none = base + program.store(_NO_SIGNALS)
    program.do(nr["rt_sigprocmask"], _SIG_SETMASK, blocked, 0, 8)
    empty = process.container.stub.empty_string
    program.do(nr["execveat"], STUB_FD, empty, vector, vector + 8, _AT_EMPTY_PATH)
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
