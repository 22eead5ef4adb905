"""A guest without a stub: its calls are marshalled as the stub would, and its micro-ops run here.

"Guest memory" is this process's own, so a test passes addresses of ctypes buffers; host calls that
block run in a thread, as a guest would block in its own process.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from codegen.layout import NULL_ARGUMENT, PAYLOAD, PAYLOAD_SIZE, Op, Slot
from kernel.credentials import Credentials, container_credentials
from kernel.errors import Interrupted, LinuxError
from kernel.fs.answers import Answers
from kernel.fs.context import FsContext
from kernel.fs.overlay import OverlayFs
from kernel.fs.owners import Owners
from kernel.fs.resolver import Memory
from kernel.host.linux import address_of
from kernel.limits import Limits
from kernel.net.network import Network
from kernel.reply import DescriptorReply, DescriptorsReply, OutReply, Program, Reply, Result
from kernel.slot import SlotMemory
from kernel.syscalls.declare import REGISTRY
from kernel.task import ProgramFailed, Task, Waiter
from tables import load

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
_OP = struct.Struct("<BBHIQ6Q")
ABI = load("x86_64")


def host_call(nr: int, *args: int) -> int:
    """A raw host system call: its result or a negative errno."""
    result = LIBC.syscall(nr, *(ctypes.c_ulong(a) for a in args))
    return int(result) if result >= 0 else -ctypes.get_errno()


class Files:
    """The part of FileTable that socket handlers use."""

    def __init__(self) -> None:
        self.entries: dict[int, Any] = {}

    def get(self, fd: int) -> Any:
        return self.entries.get(fd, (None,))[0]

    def set(self, fd: int, file: Any, cloexec: bool = False) -> None:
        self.entries[fd] = (file, cloexec)


class FakeChannel:
    """Descriptors on their way to the guest."""

    def __init__(self) -> None:
        self.queue: list[int] = []

    def give(
        self, task: Task, program: Program, host_fd: int, cloexec: bool, open_file: Any = None
    ) -> Result:
        assert task is not None
        assert open_file is None
        os.set_inheritable(host_fd, not cloexec)
        self.queue.append(host_fd)
        return program.op(Op.RECV_FDS, 1)


class FakeProcess:
    """Whatever attributes a test gives it."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class FakeContainer(SimpleNamespace):
    """A container of fake processes over one directory tree."""

    def __init__(self, directory: Path, loopback: str, name: str, mode: str = "bridge") -> None:
        super().__init__(page_size=4096, larger_pages=False)
        self.network = Network(loopback, name * 12, mode)
        self.ipc: Any = None
        self.pids: dict[int, Any] = {}
        self.by_host_pid: dict[int, Any] = {}
        self.hostname = b"host-" + name.encode()
        self.domainname = b"(none)"
        upper, work = directory / f"{name}-upper", directory / f"{name}-work"
        upper.mkdir()
        work.mkdir()
        fs = OverlayFs([], os.fsencode(upper), Owners(), os.fsencode(work), 0x77)
        self.context = FsContext(fs.root, fs.root, Memory(Answers(bytes)))
        self.tasks: list[FakeTask] = []

    def task(self, credentials: Credentials | None = None) -> FakeTask:
        """A process with one thread."""
        pid = len(self.tasks) + 1
        process: Any = FakeProcess(
            container=self, pid=pid, host_pid=1 << 22 | pid, files=Files(), comm=b"fake", tasks={},
            parent=None, children=[], group=pid, session=pid, limits=Limits(), leader=None,
            rusage=(0.0, 0.0, 0), children_rusage=(0.0, 0.0, 0), zombie=False, ending=False,
            on_end=[], channel=FakeChannel(),
        )  # fmt: skip
        task = FakeTask(process, pid, self, credentials or container_credentials(0, 0, [0]))
        process.tasks[pid] = process.leader = task
        self.pids[pid] = process
        self.by_host_pid[process.host_pid] = process
        self.tasks.append(task)
        return task

    def close(self) -> None:
        """Give everything back."""
        self.network.close()
        if self.ipc is not None:
            self.ipc.close()
        for task in self.tasks:
            task.close()


class FakeTask(Task):
    """A thread whose programs are interpreted by `run`."""

    def __init__(
        self, process: Any, tid: int, container: FakeContainer, credentials: Credentials
    ) -> None:
        slot = SlotMemory(0)
        slot.address = address_of(slot.mm)
        super().__init__(process, tid, slot, credentials, container.context.copy(), ABI)
        self.fds: list[int] = []
        self.results = [0] * 16
        self.interrupted: asyncio.Future[None] | None = None
        self._received: list[int] = []
        self.keep: list[Any] = []

    def close(self) -> None:
        for fd in self.fds:
            with contextlib.suppress(OSError):
                os.close(fd)
        self.slot.close()

    # -- the guest's side --------------------------------------------------------------------------

    def buffer(self, data: bytes | int) -> int:
        """The address of guest memory that holds `data` (or that many zero bytes)."""
        size = data if isinstance(data, int) else len(data)
        # A length argument may claim more: as much as a stub would copy is readable.
        memory = ctypes.create_string_buffer(size + 1 + PAYLOAD_SIZE)
        if isinstance(data, bytes):
            ctypes.memmove(memory, data, size)
        self.keep.append(memory)
        return ctypes.addressof(memory)

    def read(self, address: int, size: int) -> bytes:
        """Guest memory."""
        return ctypes.string_at(address, size)

    async def call(self, name: str, *args: int | bytes | None) -> int:
        """Make a system call; bytes become the address of a buffer. The result or -errno."""
        registers = [0] * 6
        for i, value in enumerate(args):
            if isinstance(value, bytes):
                registers[i] = self.buffer(value)
            else:
                registers[i] = (value or 0) & (1 << 64) - 1
        try:
            self._marshal(name, registers)
            answer = REGISTRY[name].call(self, self.slot.q, self.slot.mm)
            if asyncio.iscoroutine(answer):
                answer = await answer
            result = await self.finish(answer)
        except LinuxError as error:
            return -error.errno
        except Interrupted:
            return -errno.EINTR
        if name in ("socket", "accept", "accept4", "mq_open") and result >= 0:
            self.fds.append(result)
        return result

    def _marshal(self, name: str, registers: list[int]) -> None:
        q, mm = self.slot.q, self.slot.mm
        for i, value in enumerate(registers):
            q[Slot.ARGS // 8 + i] = value
        cursor = 0
        for i, argument in enumerate(ABI.syscalls[name].args):
            if argument.kind not in ("path", "string", "inbuffer", "instruct"):
                continue
            address = registers[i]
            if not address:
                q[Slot.IN // 8 + i] = NULL_ARGUMENT << 32 | cursor
                continue
            if argument.kind == "inbuffer":
                index, unit = argument.param
                size = min((registers[index] & 0xFFFFFFFF) * unit, PAYLOAD_SIZE - cursor)
                data = ctypes.string_at(address, size)
            elif argument.kind == "instruct":
                data = ctypes.string_at(address, argument.param[0])
            else:
                data = ctypes.string_at(address)
            mm[PAYLOAD + cursor : PAYLOAD + cursor + len(data)] = data
            q[Slot.IN // 8 + i] = len(data) << 32 | cursor
            cursor = (cursor + len(data) + 7) & ~7

    async def finish(self, answer: Any) -> int:
        if isinstance(answer, int):
            return answer
        assert isinstance(answer, Reply), answer
        if isinstance(answer, DescriptorReply):
            os.set_inheritable(answer.host_fd, not answer.cloexec)
            if answer.open_file is not None:
                self.process.files.set(answer.host_fd, answer.open_file, answer.cloexec)
            return answer.host_fd
        if isinstance(answer, DescriptorsReply):
            numbers = [fd for fd, _, _ in answer.files]
            out: Any = answer.address
            self.fds += numbers
            ctypes.memmove(out, struct.pack("<2i", *numbers), 8)
            return answer.result
        if isinstance(answer, OutReply):
            if answer.address < 4096:
                return -errno.EFAULT
            ctypes.memmove(answer.address, answer.data, len(answer.data))
            return answer.result
        answer.emit(self)
        return await self._interpret()

    # -- what kernel.task.Task does with a stub ----------------------------------------------------

    async def run(self, program: Program) -> None:
        program.emit(self)
        await self._interpret()

    def result(self, register: int) -> int:
        return self.results[register]

    async def sleep_on(self, future: Any) -> Any:
        """A signal is `interrupt()`."""
        loop = asyncio.get_running_loop()
        if isinstance(future, Waiter):
            if future.done:
                return await future
            sleeper = _Sleeper(future, loop.create_future())
            future.bind(sleeper)  # type: ignore[arg-type]
            future = sleeper.future
        self.interrupted = loop.create_future()
        done, _ = await asyncio.wait(
            {future, self.interrupted}, return_when=asyncio.FIRST_COMPLETED
        )
        self.interrupted = None
        if future in done:
            return future.result()
        raise Interrupted

    def interrupt(self) -> bool:
        if self.interrupted is None or self.interrupted.done():
            return False
        self.interrupted.set_result(None)
        return True

    async def take_fd(self, fd: int) -> int:
        try:
            return os.dup(fd)
        except OSError as error:
            raise LinuxError(error.errno or errno.EBADF) from None

    async def _interpret(self) -> int:
        slot = self.slot
        base = slot.address + PAYLOAD
        for index in range(slot.q[Slot.OPS // 8]):
            at = Slot.PROGRAM + index * Slot.OP_SIZE
            code, register, mask, flags, nr, *args = _OP.unpack(slot.mm[at : at + _OP.size])
            args = [self.results[a] if mask >> i & 1 else a for i, a in enumerate(args)]
            value = 0
            if code == Op.END:
                return int(args[0] if args[0] < 1 << 63 else args[0] - (1 << 64))
            if code == Op.HOSTCALL:
                value = await asyncio.to_thread(host_call, nr, *args)
                if value < 0 and (
                    flags & Op.CHECKED or (flags & Op.REPORT_EINTR and value == -errno.EINTR)
                ):
                    raise ProgramFailed(-value, index)
            elif code == Op.COPY_OUT:
                _check(args[0])
                ctypes.memmove(args[0], base + args[1], args[2])
            elif code == Op.COPY_IN:
                _check(args[0])
                ctypes.memmove(base + args[1], args[0], args[2])
            elif code == Op.STORE32:
                ctypes.memmove(args[0], struct.pack("<I", args[1] & 0xFFFFFFFF), 4)
            elif code == Op.RECV_FDS:
                channel: Any = self.process.channel
                value = channel.queue.pop(0)
            elif code == Op.CONTINUE:
                return 0
            else:
                raise AssertionError(f"op {code}")
            self.results[register] = value
        return 0


class _Sleeper:
    """What a Waiter believes to be its task."""

    def __init__(self, waiter: Waiter, future: asyncio.Future[Any]) -> None:
        self.sleeping_on = waiter
        self.future = future

    def resume(self, value: Any) -> None:
        if not self.future.done():
            self.future.set_result(value)


def _check(address: int) -> None:
    if address < 4096:
        raise ProgramFailed(errno.EFAULT, 0)
