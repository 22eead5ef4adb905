"""Where system calls arrive, and those that never leave the guest's own process.

`entry` dispatches on rax. A native call passes a window [native_check, native_call]: a host signal
that interrupts it there moves rip back to native_check, where PENDING is seen, so that no signal
is lost between the check and the host call. The way out has the same window
[exit_check, exit_jump].
"""

from __future__ import annotations

from codegen.asm.x86_64 import (
    Mem,
    Reg,
    at,
    eax,
    edi,
    edx,
    esi,
    gs,
    r8,
    r9,
    r10,
    r11,
    rax,
    rcx,
    rdi,
    rdx,
    rsi,
    rsp,
)
from codegen.layout import FD_FLAGS_SIZE, STACK_TOP, STUB_BASE, STUB_END, Request, Slot, State
from codegen.templates.native import (
    ARCH_GET_FS,
    ARCH_SET_FS,
    FCNTL_NATIVE,
    IDENTITIES,
    PI_FUTEXES,
    ROBUST_HEAD_SIZE,
    TTY_TO_KERNEL,
    WAIT_OPTIONS_WATCHED,
)
from codegen.templates.tables import TABLE_SIZE
from codegen.templates.x86_64.common import HostCall, Stub

_HIGH_BASE, _HIGH_END = STUB_BASE >> 32, STUB_END >> 32


def _require_plain(s: Stub, register: Reg) -> None:
    """To `slow` unless the descriptor in `register` is an unflagged one below FD_FLAGS_SIZE."""
    s.a.mov(r11.low32, register.low32)
    s.a.cmp(r11.low32, FD_FLAGS_SIZE)
    s.a.jae(s["slow"])
    s.a.add(r11, gs(Slot.FLAGS_POINTER))
    s.a.cmp(at(r11, 0, 1), 0)
    s.a.jne(s["slow"])


def _require_outside(s: Stub) -> None:
    """To `slow` if [rdi, rdi+rsi) touches the stub's range. Ends past it are the host's."""
    a = s.a
    outside = a.label("outside")
    a.mov(r11, rdi)
    a.shr(r11, 32)
    a.cmp(r11.low32, _HIGH_END)
    a.jae(outside)
    a.mov(r11, rdi)
    a.add(r11, rsi)
    a.jb(s["slow"])
    a.shr(r11, 32)
    a.cmp(r11.low32, _HIGH_BASE)
    a.jae(s["slow"])
    a.bind(outside)


def dispatch(s: Stub) -> None:
    """entry: rax = number, rcx = return address; anything may follow."""
    a = s.a
    s.bind("entry")
    a.inc(gs(Slot.ENTRIES))
    a.cmp(eax, TABLE_SIZE)
    a.jae(s["slow"])
    a.mov(eax, eax)
    a.load_address(r11, s["dispatch_table"])
    a.jmp(Mem(r11, 0, rax, 8))


def native(s: Stub) -> None:
    """Run the guest's call as it stands: all argument registers are already the host's."""
    a = s.a
    s.bind("native")
    a.mov(gs(Slot.SAVED_RCX), rcx)
    a.mov(gs(Slot.SAVED_NR), rax)
    s.bind("native_check")
    a.cmp(gs(Slot.PENDING, 4), 0)
    a.jne(s["trap_before"])
    s.bind("native_call")
    a.syscall()
    a.mov(rcx, gs(Slot.SAVED_RCX))
    a.lea(r11, at(rax, 5))  # EINTR: the kernel knows whether the call restarts;
    a.cmp(r11, 1)  # EIO: and whether a terminal refused a job in the background
    a.jbe(s["trap_interrupted"])
    s.bind("exit_check")
    a.cmp(gs(Slot.PENDING, 4), 0)
    a.jne(s["trap_after"])
    s.bind("exit_jump")
    a.jmp(rcx)


def guards(s: Stub) -> None:
    """The conditions under which a call may run natively, one label each (see NATIVE)."""
    a = s.a
    for label, registers in (("fd0", (rdi,)), ("fd01", (rdi, rsi)), ("fd02", (rdi, rdx))):
        s.bind(label)
        for register in registers:
            _require_plain(s, register)
        a.jmp(s["native"])
    for label, register in (("if_fifth_null", r8), ("if_second_null", rsi)):
        s.bind(label)
        a.test(register, register)
        a.jne(s["slow"])
        a.jmp(s["fd0"])
    for label, register in (("if_fourth_null", r10), ("if_sixth_null", r9)):
        s.bind(label)
        a.test(register, register)
        a.jne(s["slow"])
        a.jmp(s["native"])
    s.bind("fd0_sockopt")  # SOL_SOCKET (credentials, devices) and IPV6_V6ONLY go to the kernel
    a.cmp(esi, 1)
    a.je(s["slow"])
    a.cmp(esi, 41)
    a.jne(s["fd0"])
    a.cmp(edx, 26)
    a.je(s["slow"])
    a.jmp(s["fd0"])
    s.bind("futex")
    a.mov(r11.low32, esi)
    a.and_(r11.low32, 0x7F)
    for operation in PI_FUTEXES:  # their words hold thread ids, which the host does not know
        a.cmp(r11.low32, operation)
        a.je(s["slow"])
    a.jmp(s["native"])
    s.bind("arch_prctl")  # FS is the guest's, GS is not
    a.lea(r11, at(rdi, -ARCH_SET_FS))
    a.cmp(r11, ARCH_GET_FS - ARCH_SET_FS)
    a.ja(s["slow"])
    a.jmp(s["native"])
    s.bind("mprotect")
    s.bind("mem")
    _require_outside(s)
    a.jmp(s["native"])
    s.bind("mremap")
    a.test(r10.low32, 2)  # MREMAP_FIXED: the kernel checks the second range
    a.jne(s["slow"])
    a.jmp(s["mem"])
    _mmap(s)
    _by_command(s)


def _mmap(s: Stub) -> None:
    """mmap: file text goes to the kernel (translation cache), fixed ranges are checked."""
    a = s.a
    movable = a.label("mmap_movable")
    s.bind("mmap")
    a.test(r10.low32, 0x10_0010)  # MAP_FIXED | MAP_FIXED_NOREPLACE
    a.je(movable)
    _require_outside(s)
    a.bind(movable)
    a.test(r10.low32, 0x20)  # MAP_ANONYMOUS
    a.jne(s["native"])
    a.test(edx, 4)  # PROT_EXEC
    a.jne(s["slow"])
    _require_plain(s, r8)
    a.jmp(s["native"])


def _by_command(s: Stub) -> None:
    """ioctl and fcntl: native for the commands that concern only the descriptor."""
    a = s.a
    s.bind("ioctl")
    _require_plain(s, rdi)
    a.mov(r11.low32, esi)
    a.shr(r11.low32, 8)
    a.cmp(r11.low32, 0x54)
    a.jne(s["slow"])
    for command in TTY_TO_KERNEL:
        a.cmp(esi, command)
        a.je(s["slow"])
    a.jmp(s["native"])
    s.bind("fcntl")
    _require_plain(s, rdi)
    a.cmp(esi, 4)
    a.jbe(s["native"])
    for command in FCNTL_NATIVE:
        a.cmp(esi, command)
        a.je(s["native"])
    a.jmp(s["slow"])


def newfstatat(s: Stub) -> None:
    """newfstatat(fd, "", buf, AT_EMPTY_PATH) is how glibc spells fstat: make it one."""
    a = s.a
    s.bind("newfstatat")
    a.cmp(r10.low32, 0x1000)  # AT_EMPTY_PATH and nothing else
    a.jne(s["slow"])
    a.load_address(r11, s["newfstatat_named"])
    a.mov(gs(Slot.FIXUP), r11)  # a bad path is the slow path's to report
    a.cmp(at(rsi, 0, 1), 0)
    a.jne(s["newfstatat_named"])
    a.mov(gs(Slot.FIXUP), 0)
    s.save_registers()
    a.mov(eax, HostCall.FSTAT)
    a.mov(rsi, rdx)
    a.jmp(s["slow_saved"])
    s.bind("newfstatat_named")
    a.mov(gs(Slot.FIXUP), 0)
    a.jmp(s["slow"])


def wait4(s: Stub, number: int) -> None:
    """wait4(2), `number`, for the only child: sleep until the host says it has ended, then ask.

    On Linux the child's end wakes its parent on the child's core; so it is here. Whatever else
    there is to report clears WATCH and kicks this thread, which then asks at once.
    """
    a = s.a
    watched = a.label("wait4_watched")
    s.bind("wait4")
    a.mov(r11.low32, gs(Slot.WATCH, 4))
    a.test(r11.low32, r11.low32)
    a.je(s["slow"])
    a.test(edx, ~WAIT_OPTIONS_WATCHED & 0xFFFF_FFFF)
    a.jne(s["slow"])
    a.cmp(edi, r11.low32)
    a.je(watched)
    a.cmp(edi, -1)
    a.jne(s["slow"])
    a.bind(watched)
    s.save_registers()
    a.mov(rdi, gs(Slot.SELF))
    a.add(rdi, Slot.WATCH_POLL)
    a.mov(esi, 1)
    for register in (rdx, r10, r8):
        a.xor(register.low32, register.low32)
    a.mov(eax, HostCall.PPOLL)
    s.bind("watch_check")
    a.cmp(gs(Slot.PENDING, 4), 0)
    a.jne(s["watch_over"])
    s.bind("watch_call")
    a.syscall()
    s.bind("watch_over")
    s.restore_registers()
    a.mov(eax, number)
    a.jmp(s["slow_saved"])


def identities(s: Stub) -> None:
    """Answers that stand in the slot."""
    for name, offset in IDENTITIES.items():
        s.bind(name)
        s.a.mov(rax, gs(offset))
        s.a.jmp(s["exit_check"])


def set_tid_address(s: Stub) -> None:
    """set_tid_address(2): the host clears the address at exit; we answer the guest's tid."""
    a = s.a
    s.bind("set_tid_address")
    a.mov(gs(Slot.SAVED_RCX), rcx)
    a.syscall()
    a.mov(rcx, gs(Slot.SAVED_RCX))
    a.mov(rax, gs(Slot.TID))
    a.jmp(s["exit_check"])


def set_robust_list(s: Stub) -> None:
    """set_robust_list(2): noted for the kernel; the host's own walk never finds its tids there."""
    a = s.a
    s.bind("set_robust_list")
    a.cmp(rsi, ROBUST_HEAD_SIZE)
    a.jne(s["native"])
    a.mov(gs(Slot.ROBUST_LIST), rdi)
    a.jmp(s["native"])


def exits(s: Stub, exit_group: int) -> None:
    """exit(2), exit_group(2): tell the kernel, do not wait for it, and go.

    A thread that may hold robust mutexes asks first, and the answer makes the call: the list's head
    does not point to itself, or list_op_pending is set, or other threads end with this one. A
    process that ends as a whole only leaves its request in the slot: the host tells of its end.
    """
    a = s.a
    ask, no_list, announce = (a.label(name) for name in ("exit_ask", "no_list", "exit_announce"))
    s.bind("exit")
    a.mov(rsp, gs(Slot.SELF))
    a.add(rsp, STACK_TOP)
    a.mov(gs(Slot.ARGS), rdi)
    a.mov(gs(Slot.SAVED_NR), rax)
    a.mov(rsi, gs(Slot.ROBUST_LIST))
    a.test(rsi, rsi)
    a.je(no_list)
    a.load_address(rcx, no_list)
    a.mov(gs(Slot.FIXUP), rcx)
    a.cmp(at(rsi), rsi)
    a.jne(ask)
    a.cmp(at(rsi, 16), 0)
    a.jne(ask)
    a.bind(no_list)
    a.cmp(eax, exit_group)
    a.jne(announce)
    a.cmp(gs(Slot.ASK_BEFORE_EXIT, 4), 0)
    a.jne(ask)
    a.mov(gs(Slot.FIXUP), 0)
    a.mov(gs(Slot.NR), rax)
    a.mov(gs(Slot.STATE, 4), State.REQUESTED)
    a.syscall()
    a.ud2()
    a.bind(ask)
    a.mov(gs(Slot.FIXUP), 0)
    a.mov(gs(Slot.ARGS + 8), rax)
    a.movabs(rcx, Request.LAST_WILL)
    a.mov(gs(Slot.NR), rcx)
    a.jmp(s["post"])
    a.bind(announce)
    a.mov(gs(Slot.FIXUP), 0)
    a.mov(gs(Slot.NR), rax)
    a.push(rdi)
    a.call(s["announce"])
    a.pop(rdi)
    a.mov(rax, gs(Slot.SAVED_NR))
    a.syscall()
    a.ud2()
