"""execve's two halves: deciding what to run, and mapping it into the fresh process.

`prepare` resolves the file, scripts and interpreter and may fail without harm. The host then
executes the stub, which posts BOOT; `boot` maps the image with a reply program and enters it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codegen.layout import FD_FLAGS, JUMP_TABLE, LOW_END, STUB_BASE, Op, Slot
from kernel import elf
from kernel.errors import LinuxError
from kernel.executable import Executable, open_executable
from kernel.host.profiles import HOST_PAGE
from kernel.limits import INFINITY, NOFILE, STACK, descriptor_limits, enforce
from kernel.pages import NO_FD, hold, past_end, rounded, stack_of_host
from kernel.patching import Texts
from kernel.reply import SCRATCH, Program
from kernel.robust import forget as forget_robust_list
from kernel.signals.state import SIGCHLD, SIGSEGV

if TYPE_CHECKING:
    from kernel.credentials import Credentials
    from kernel.process import Process
    from kernel.task import Task

_SCRIPT_DEPTH = 5  # Linux: BINPRM_MAX_RECURSION
_SHEBANG_MAX = 256
_ARG_MAX_BYTES = 2 << 20
_PROT = {0: 0, 1: 4, 2: 2, 3: 6, 4: 1, 5: 5, 6: 3, 7: 7}  # PF_* bits -> PROT_* bits
_PRIVATE_FIXED_ANON = 0x32
_LEAST_STACK = 8 << 20
_ZEROS = 16 << 10  # how many are written at once
_AT = {
    "NULL": 0, "PHDR": 3, "PHENT": 4, "PHNUM": 5, "PAGESZ": 6, "BASE": 7, "FLAGS": 8, "ENTRY": 9,
    "UID": 11, "EUID": 12, "GID": 13, "EGID": 14, "PLATFORM": 15, "HWCAP": 16, "CLKTCK": 17,
    "SECURE": 23, "RANDOM": 25, "HWCAP2": 26, "RSEQ_SIZE": 27, "RSEQ_ALIGN": 28, "EXECFN": 31,
    "SYSINFO_EHDR": 33, "MINSIGSTKSZ": 51,
}  # fmt: skip
_FROM_HOST = ("SYSINFO_EHDR", "HWCAP", "CLKTCK", "HWCAP2", "RSEQ_SIZE", "RSEQ_ALIGN", "MINSIGSTKSZ")


@dataclass
class Layout:
    """Where an image's files go, and the program that maps them."""

    program: Program
    texts: Texts
    bias: int  # of the executable
    base: int  # of the interpreter; 0: there is none
    entry: int
    high: int  # free memory begins here


@dataclass
class Image:
    """A program ready to be mapped. Owns the descriptors of its files until it is loaded."""

    executable: Executable
    interpreter: Executable | None
    path: bytes  # AT_EXECFN
    argv: list[bytes]
    envp: list[bytes]
    credentials: Credentials
    secure: bool
    layout: Layout | None = None  # once it is known

    def close(self) -> None:
        """Give the files back."""
        self.executable.close()
        if self.interpreter is not None:
            self.interpreter.close()


def prepare(
    task: Task, path: bytes, argv: list[bytes], envp: list[bytes], first: Executable | None = None
) -> Image:
    """Find out what executing `path` means. LinuxError: ENOENT, EACCES, ENOEXEC, ELOOP, E2BIG, ...

    `first` is the already opened file (execveat with a descriptor); it is owned from here on.
    """
    if sum(map(len, argv)) + sum(map(len, envp)) + 8 * (len(argv) + len(envp)) > _ARG_MAX_BYTES:
        if first is not None:
            first.close()
        raise LinuxError(errno.E2BIG)
    argv = argv or [b""]
    file_path = path
    for _ in range(_SCRIPT_DEPTH + 1):
        executable = first or open_executable(task, file_path)
        first = None
        try:
            script = _shebang(executable.head)
            if script is None:
                return _image(task, executable, path, argv, envp)
        except BaseException:
            executable.close()
            raise
        executable.close()
        interpreter, argument = script
        argv = [interpreter, *([argument] if argument else []), file_path, *argv[1:]]
        file_path = interpreter
    raise LinuxError(errno.ELOOP)


def _shebang(head: bytes) -> tuple[bytes, bytes] | None:
    """(interpreter, optional argument) of a script's first line; None for other files."""
    if head[:2] != b"#!":
        return None
    line = head[2:_SHEBANG_MAX].split(b"\n", 1)[0].strip(b" \t\r")
    if not line:
        raise LinuxError(errno.ENOEXEC)
    interpreter, _, argument = line.replace(b"\t", b" ").partition(b" ")
    return interpreter, argument.strip(b" ")


def _image(
    task: Task, executable: Executable, path: bytes, argv: list[bytes], envp: list[bytes]
) -> Image:
    parsed = executable.parse(task.isa.elf_machine)
    interpreter = None
    if parsed.interpreter is not None:
        interpreter = open_executable(task, parsed.interpreter)
        try:
            interpreter.parse(task.isa.elf_machine)
        except LinuxError as error:
            interpreter.close()
            raise LinuxError(errno.ELIBBAD) from error
    who, secure = executable.credentials(task.credentials)
    return Image(executable, interpreter, path, argv, envp, who, secure)


# -- mapping -------------------------------------------------------------------------------------


async def boot(task: Task) -> Program:
    """Answer BOOT: map `process.image` and return the program that enters it."""
    process = task.process
    image = process.image
    if image is None:
        raise LinuxError(errno.ENOEXEC)
    process.image = None
    stack_top = task.slot.q[Slot.ARGS // 8]
    host_auxv = _host_auxv(task.slot.read_payload(0, 1024))
    try:
        _become(task, image)
        if process.first_boot:
            process.first_boot = False
            if process.container.confinement is not None:
                await process.container.confinement(task)
        return await _load(task, image, stack_top, host_auxv)
    finally:
        image.close()


def _become(task: Task, image: Image) -> None:
    """The process is the new program: other threads are gone, caught signals are default."""
    process = task.process
    for other in list(process.tasks.values()):
        if other is not task:
            process.container.retire_task(other)
    if task.tid != process.pid:
        process.tasks.pop(task.tid, None)
        task.tid = process.pid
        process.tasks[process.pid] = task
    old, process.leader_slot = process.leader_slot, task.slot
    if old is not None and old is not task.slot:
        process.container.slots.give(old)
    for slot in process.spare_slots:
        process.container.slots.give(slot)
    process.spare_slots.clear()
    process.mapped_slots.clear()
    task.slot.words[Slot.HOST_TID // 4] = process.host_pid
    task.slot.q[Slot.FLAGS_POINTER // 8] = task.slot.address + FD_FLAGS
    task.slot.reset_flags()
    process.files.drop_cloexec()
    process.files = process.files.copy(task.slot.flags_view)
    process.signals.reset_for_exec()
    process.exit_signal = SIGCHLD
    process.stop_timers(posix_only=True)
    forget_robust_list(task)
    task.alt_stack = (0, 2, 0)
    task.restart_nr = -1
    task.saved_mask = None
    task.credentials = image.credentials
    process.exe = image.executable.node
    process.comm = os.path.basename(image.path)[:15]
    task.comm = process.comm
    process.argv = image.argv
    process.environ = image.envp


def _host_auxv(stack: bytes) -> dict[int, int]:
    """The auxiliary vector on the host's initial stack (argc, argv, 0, envp, 0, pairs)."""
    words = list(struct.unpack(f"<{len(stack) // 8}Q", stack))
    at = 1 + words[0] + 1
    while at < len(words) and words[at]:
        at += 1
    pairs = words[at + 1 :]
    result = {}
    for key, value in zip(pairs[::2], pairs[1::2], strict=False):
        if key == 0:
            break
        result[key] = value
    return result


def lay_out_early(task: Task, image: Image) -> None:
    """Do what BOOT will ask for while the host is still executing the stub."""
    if task.process.image is image and image.layout is None:
        with contextlib.suppress(LinuxError, OSError):  # what is wrong will be so again
            image.layout = _lay_out(task, image)


def _lay_out(task: Task, image: Image) -> Layout:
    """Decide where the image goes; its files are on their way to the guest. LinuxError."""
    process = task.process
    old, process.texts = process.texts, Texts()
    try:
        return _layout_with(task, image)
    finally:
        process.texts = old  # until the old program is gone


def _layout_with(task: Task, image: Image) -> Layout:
    process = task.process
    program = Program()
    parsed = image.executable.parse(task.isa.elf_machine)
    fixed_low = parsed.kind == elf.ET_EXEC and parsed.low < LOW_END and parsed.high > JUMP_TABLE
    if not fixed_low:
        process.container.translations.begin(task, program)
    page = process.container.page_size
    bias = 0 if parsed.kind == elf.ET_EXEC else _random_page(task.isa.program_base, 28, page)
    high = _map(task, program, image.executable, parsed, bias)
    entry = parsed.entry + bias
    base = 0
    if image.interpreter is not None:
        loader = image.interpreter.parse(task.isa.elf_machine)
        base = 0 if loader.kind == elf.ET_EXEC else _random_page(0x7D00_0000_0000, 28, page)
        _map(task, program, image.interpreter, loader, base)
        entry = loader.entry + base
    if parsed.kind == elf.ET_EXEC and high <= LOW_END:
        high = LOW_END
    return Layout(program, process.texts, bias, base, entry, high)


async def _load(task: Task, image: Image, stack_top: int, host_auxv: dict[int, int]) -> Program:
    process = task.process
    page = process.container.page_size
    layout = image.layout or _lay_out(task, image)
    program, bias, base = layout.program, layout.bias, layout.base
    process.texts = layout.texts
    process.brk_start = process.brk_end = _random_page(rounded(layout.high, page), 13, page)
    parsed = image.executable.parse(task.isa.elf_machine)
    auxv = {_AT[name]: host_auxv[_AT[name]] for name in _FROM_HOST if _AT[name] in host_auxv}
    who = image.credentials
    auxv |= {
        _AT["PAGESZ"]: page, _AT["PHDR"]: parsed.program_headers + bias, _AT["PHENT"]: 56,
        _AT["PHNUM"]: parsed.header_count, _AT["BASE"]: base, _AT["FLAGS"]: 0,
        _AT["ENTRY"]: parsed.entry + bias, _AT["UID"]: who.uid, _AT["EUID"]: who.euid,
        _AT["GID"]: who.gid, _AT["EGID"]: who.egid, _AT["SECURE"]: int(image.secure),
    }  # fmt: skip
    if process.container.larger_pages:
        stack_top = await _own_stack(task, program, stack_top)
    sp, stack = _stack(image, auxv, stack_top, task.isa.uname)
    process.auxv = stack[1]
    process.stack_at = sp
    if descriptor_limits(process) is not None:  # none of its descriptors may be too many
        await task.run(program)
        enforce(process, NOFILE)
        program = Program()
    if program.room < len(stack[0]):
        await task.run(program)
        await task.copy_out(sp, stack[0])
        program = Program()
    else:
        program.copy_out(sp, stack[0])
    program.op(Op.ENTER, layout.entry, sp)
    task.recover = lambda _index, _number: _unloadable(process)
    return await task.shortened(program)


def _unloadable(process: Process) -> int:
    """There is no program to return to: the old one is gone."""
    process.container.kill(process, SIGSEGV)
    return -errno.ENOEXEC


def _random_page(base: int, bits: int, page: int) -> int:
    return rounded(base + (random.getrandbits(bits) << 12), page)


def _map(task: Task, program: Program, file: Executable, parsed: elf.Elf, bias: int) -> int:
    """Map every segment of `file` at `bias` (elf(5); the host's elf_map does the same).

    Returns where free memory begins behind it.
    """
    nr = task.abi.numbers
    texts = task.process.container.translations
    page = task.process.container.page_size
    room = rounded(parsed.high + bias, page)
    fd = task.process.channel.give(task, program, os.dup(file.fd), True)
    for segment in parsed.segments:
        start = (segment.address + bias) & -page
        if STUB_BASE - (1 << 32) <= start <= STUB_BASE + (1 << 32):
            raise LinuxError(errno.ENOEXEC)
        skew = segment.address % page
        prot = _PROT[segment.flags & 7]
        file_end = segment.address + bias + segment.file_size
        memory_end = segment.address + bias + segment.memory_size
        page_end = start
        if segment.file_size:
            offset = segment.offset - skew
            if offset % page:  # laid out for smaller pages: fatal, as with Linux's elf_map
                raise LinuxError(errno.EINVAL)
            page_end = rounded(file_end, page)
            where = (start, page_end - start, offset)
            room = texts.map_segment(task, program, (fd, file.fd), where, prot, room)
            held = _map_zeros(task, program, file, where, prot)
            if memory_end > file_end and prot & 2 and held > file_end:
                _zero(program, file_end, held - file_end)
        if memory_end > page_end:
            length = memory_end - page_end
            granted = texts.granted(task.process, page_end, length, prot)
            program.do(nr["mmap"], page_end, length, granted, _PRIVATE_FIXED_ANON, (1 << 64) - 1, 0)
    program.do(nr["close"], fd)
    return room


def _map_zeros(
    task: Task, program: Program, file: Executable, where: tuple[int, int, int], prot: int
) -> int:
    """Map the end of the file's last page where the host's own pages end earlier.

    Returns how far the file itself is mapped.
    """
    start, length, offset = where
    if not task.process.container.larger_pages:
        return start + length
    size = os.fstat(file.fd).st_size
    first, end = past_end(offset, length, size, task.process.container.page_size, HOST_PAGE)
    if first >= end:
        return start + length
    granted = task.process.container.translations.granted(
        task.process, start + first, end - first, prot
    )
    mmap = task.abi.numbers["mmap"]
    program.do(mmap, start + first, end - first, granted, _PRIVATE_FIXED_ANON, (1 << 64) - 1, 0)
    return start + first


def _zero(program: Program, address: int, length: int) -> None:
    """Clear memory, all of it from the same few zeros."""
    zeros = program.store(bytes(min(length, _ZEROS)))
    for at in range(address, address + length, _ZEROS):
        count = min(_ZEROS, address + length - at)
        program.op(Op.COPY_OUT, at, zeros, count, flags=Op.CHECKED, register=SCRATCH)


async def _own_stack(task: Task, program: Program, host_top: int) -> int:
    """A stack of whole pages in place of the host's, and a page below it; its end."""
    page = task.process.container.page_size
    nr = task.abi.numbers
    limit = task.process.limits[STACK][0]
    size = rounded(max(_LEAST_STACK, limit) if limit != INFINITY else _LEAST_STACK, page)
    start = page + await hold(task, 0, page + size, page)
    program.do(nr["mmap"], start, size, 3, _PRIVATE_FIXED_ANON, NO_FD, 0)
    old = stack_of_host(task.process, host_top)
    if old is not None:
        program.do(nr["munmap"], old[0], old[1] - old[0])
    return start + size


def _stack(
    image: Image, auxv: dict[int, int], top: int, platform: bytes
) -> tuple[int, tuple[bytes, bytes]]:
    """The initial stack below `top`: (stack pointer, (its bytes, the auxiliary vector)).

    Strings lie as Linux lays them: argv low to high, then envp, then the file name, at the end.
    """
    tail = b"".join(s + b"\0" for s in (*image.argv, *image.envp, image.path))
    tail_at = (top - len(tail) - 8) & -16
    random_at = tail_at - 32
    platform_at = random_at - 16
    addresses = []
    at = tail_at
    for string in (*image.argv, *image.envp):
        addresses.append(at)
        at += len(string) + 1
    pairs = dict(auxv)
    pairs[_AT["RANDOM"]] = random_at
    pairs[_AT["PLATFORM"]] = platform_at
    pairs[_AT["EXECFN"]] = at
    vector = b"".join(struct.pack("<QQ", k, v) for k, v in pairs.items()) + bytes(16)
    count = len(image.argv)
    pointers = [count, *addresses[:count], 0, *addresses[count:], 0]
    head = struct.pack(f"<{len(pointers)}Q", *pointers) + vector
    sp = (platform_at - len(head)) & -16
    data = head.ljust(platform_at - sp, b"\0")
    data += platform.ljust(16, b"\0") + os.urandom(16) + bytes(16)
    data = data.ljust(tail_at - sp, b"\0") + tail
    return sp, (data, vector)


def forget(process: Process) -> None:
    """Drop an image that will not be loaded."""
    if process.image is not None:
        process.image.close()
        process.image = None
