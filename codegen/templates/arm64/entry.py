"""Where system calls arrive, and those that never leave the guest's own process.

`entry` dispatches on w8. A native call passes a window [native_check, native_call]: a host signal
that interrupts it there moves pc back to native_check, where PENDING is seen, so that no signal
is lost between the check and the host call. The way out has the same window
[exit_check, exit_jump]. Nothing here changes the flags: compilers keep them across `svc`.
"""

from __future__ import annotations

from codegen.asm.arm64 import (
    Reg,
    X,
    at,
    indexed,
    sp,
    x0,
    x1,
    x2,
    x3,
    x4,
    x5,
    x8,
    x9,
    x15,
    x16,
    x17,
    x28,
    x30,
    xzr,
)
from codegen.layout import FD_FLAGS_SIZE, STUB_BASE, STUB_END, Request, Slot, SlotArm64, State
from codegen.templates.arm64 import threads
from codegen.templates.arm64.common import HostCall, Stub
from codegen.templates.native import (
    FCNTL_NATIVE,
    IDENTITIES,
    PI_FUTEXES,
    ROBUST_HEAD_SIZE,
    TTY_TO_KERNEL,
    WAIT_OPTIONS_WATCHED,
)
from codegen.templates.tables import TABLE_SIZE

_HIGH_BASE, _HIGH_END = STUB_BASE >> 32, STUB_END >> 32
_TABLE_BITS = TABLE_SIZE.bit_length() - 1
_FLAGS_BITS = FD_FLAGS_SIZE.bit_length() - 1


def _require_plain(s: Stub, register: Reg) -> None:
    """To `slow` unless the descriptor in `register` is an unflagged one below FD_FLAGS_SIZE."""
    a = s.a
    a.lsr(x16.w, register.w, _FLAGS_BITS)
    a.cbnz(x16.w, s["slow"])
    a.ldr(x16, at(x17, Slot.FLAGS_POINTER))
    a.ldrb(x16.w, indexed(x16, register.w))
    a.cbnz(x16.w, s["slow"])


def _if_equal(s: Stub, register: Reg, value: int, label: str) -> None:
    """To `label` if the lower half of `register` is `value`. Destroys x15, x16."""
    a = s.a
    if value < 1 << 12:
        a.sub(x16.w, register.w, value)
    else:
        a.constant(x15, value)
        a.sub(x16.w, register.w, x15.w)
    a.cbz(x16.w, s[label])


def _require_outside(s: Stub) -> None:
    """To `slow` if [x0, x0+x1) touches the stub's range. Ends past it are the host's."""
    a = s.a
    outside = a.label("outside")
    a.lsr(x16, x0, 32)
    a.constant(x15, _HIGH_END)
    a.sub(x15, x15, x16)
    a.sub(x15, x15, 1)
    a.tbnz(x15, 63, outside)  # begins behind it
    a.add(x16, x0, x1)
    a.orr(x15, x16, x1)
    a.tbnz(x15, 63, s["slow"])  # so far up, or around
    a.lsr(x16, x16, 32)
    a.constant(x15, _HIGH_BASE)
    a.sub(x16, x16, x15)
    a.tbz(x16, 63, s["slow"])
    a.bind(outside)


def dispatch(s: Stub) -> None:
    """entry: w8 = number, x30 = the trampoline's second half; x17 and x30 are below sp."""
    a = s.a
    s.bind("entry")
    threads.find(s, "entry")
    a.ldr(x16, at(x17, Slot.ENTRIES))
    a.add(x16, x16, 1)
    a.str_(x16, at(x17, Slot.ENTRIES))
    a.lsr(x16.w, x8.w, _TABLE_BITS)
    a.cbnz(x16.w, s["slow"])
    a.load_address(x16, s["dispatch_table"])
    a.ldr(x16, indexed(x16, x8.w, 3))
    a.br(x16)


def native(s: Stub) -> None:
    """Run the guest's call as it stands: all argument registers are already the host's."""
    a = s.a
    s.bind("fd0")
    _require_plain(s, x0)
    s.bind("native")
    a.str_(x0, at(x17, SlotArm64.FIRST_ARGUMENT))
    a.str_(x8, at(x17, Slot.SAVED_NR))
    s.bind("native_check")
    a.ldr(x16.w, at(x17, Slot.PENDING))
    a.cbnz(x16.w, s["trap_before"])
    s.bind("native_call")
    a.svc(0)
    a.add(x16, x0, 5)  # EINTR: the kernel knows whether the call restarts;
    a.lsr(x16, x16, 1)  # EIO: and whether a terminal refused a job in the background
    a.cbz(x16, s["trap_interrupted"])
    s.bind("exit_check")
    a.ldr(x16.w, at(x17, Slot.PENDING))
    a.cbnz(x16.w, s["trap_after"])
    a.ldp(x15, x16, at(x17, SlotArm64.SAVED_X15))
    a.mov(x30, x17)
    a.ldr(x17, at(x17, SlotArm64.RETURN))
    s.bind("exit_jump")
    a.br(x17)


def guards(s: Stub) -> None:
    """The conditions under which a call may run natively, one label each (see NATIVE)."""
    a = s.a
    for label, registers in (("fd01", (x0, x1)), ("fd02", (x0, x2))):
        s.bind(label)
        for register in registers:
            _require_plain(s, register)
        a.b(s["native"])
    for label, register, then in (
        ("if_fifth_null", x4, "fd0"), ("if_second_null", x1, "fd0"),
        ("if_fourth_null", x3, "native"), ("if_sixth_null", x5, "native"),
    ):  # fmt: skip
        s.bind(label)
        a.cbnz(register, s["slow"])
        a.b(s[then])
    s.bind("fd0_sockopt")  # SOL_SOCKET (credentials, devices) and IPV6_V6ONLY go to the kernel
    _if_equal(s, x1, 1, "slow")
    ipv6 = a.label("sockopt_other")
    a.sub(x16.w, x1.w, 41)
    a.cbnz(x16.w, ipv6)
    _if_equal(s, x2, 26, "slow")
    a.bind(ipv6)
    a.b(s["fd0"])
    s.bind("futex")
    a.and_(x15.w, x1.w, 0x7F)
    for operation in PI_FUTEXES:  # their words hold thread ids, which the host does not know
        a.sub(x16.w, x15.w, operation)
        a.cbz(x16.w, s["slow"])
    a.b(s["native"])
    s.bind("mprotect")
    a.tbnz(x2, 2, s["slow"])  # PROT_EXEC: the pages are looked at first
    s.bind("mem")
    _require_outside(s)
    a.b(s["native"])
    s.bind("mremap")
    a.tbnz(x3, 1, s["slow"])  # MREMAP_FIXED: the kernel checks the second range
    a.b(s["mem"])
    _mmap(s)
    _by_command(s)


def _mmap(s: Stub) -> None:
    """mmap: whatever is executable goes to the kernel, fixed ranges are checked."""
    a = s.a
    movable, anonymous = a.label("mmap_movable"), a.label("mmap_anonymous")
    s.bind("mmap")
    a.tbnz(x2, 2, s["slow"])  # PROT_EXEC
    a.tbnz(x3, 20, s["slow"])  # MAP_FIXED_NOREPLACE: not every host knows it
    a.tbz(x3, 4, movable)  # MAP_FIXED
    _require_outside(s)
    a.bind(movable)
    a.tbnz(x3, 5, anonymous)  # MAP_ANONYMOUS
    _require_plain(s, x4)
    a.bind(anonymous)
    a.b(s["native"])


def _by_command(s: Stub) -> None:
    """ioctl and fcntl: native for the commands that concern only the descriptor."""
    a = s.a
    s.bind("ioctl")
    _require_plain(s, x0)
    a.lsr(x16.w, x1.w, 8)
    a.sub(x16.w, x16.w, 0x54)
    a.cbnz(x16.w, s["slow"])
    for command in TTY_TO_KERNEL:
        _if_equal(s, x1, command, "slow")
    a.b(s["native"])
    s.bind("fcntl")
    _require_plain(s, x0)
    a.sub(x16.w, x1.w, 5)
    a.tbz(x16.w, 31, s["fcntl_more"])
    a.tbz(x1.w, 31, s["native"])
    s.bind("fcntl_more")
    for command in FCNTL_NATIVE:
        _if_equal(s, x1, command, "native")
    a.b(s["slow"])


def newfstatat(s: Stub) -> None:
    """newfstatat(fd, "", buf, AT_EMPTY_PATH) is how glibc spells fstat: make it one."""
    a = s.a
    named = a.label("newfstatat_named")
    s.bind("newfstatat")
    a.constant(x16, 0x1000)  # AT_EMPTY_PATH and nothing else
    a.sub(x16.w, x16.w, x3.w)
    a.cbnz(x16.w, s["slow"])
    a.load_address(x16, named)
    a.str_(x16, at(x17, Slot.FIXUP))  # a bad path is the slow path's to report
    a.ldrb(x16.w, at(x1))
    a.cbnz(x16.w, named)
    a.str_(xzr, at(x17, Slot.FIXUP))
    s.save_registers()
    a.mov(x8, HostCall.FSTAT)
    a.mov(x1, x2)
    a.b(s["slow_saved"])
    a.bind(named)
    a.str_(xzr, at(x17, Slot.FIXUP))
    a.b(s["slow"])


def wait4(s: Stub, number: int) -> None:
    """wait4(2), `number`, for the only child: sleep until the host says it has ended, then ask.

    On Linux the child's end wakes its parent on the child's core; so it is here. Whatever else
    there is to report clears WATCH and kicks this thread, which then asks at once.
    """
    a = s.a
    watched = a.label("wait4_watched")
    s.bind("wait4")
    a.ldr(x15.w, at(x17, Slot.WATCH))
    a.cbz(x15.w, s["slow"])
    a.constant(x16, ~WAIT_OPTIONS_WATCHED & 0xFFFF_FFFF)
    a.and_(x16.w, x16.w, x2.w)
    a.cbnz(x16.w, s["slow"])
    a.sub(x16.w, x0.w, x15.w)
    a.cbz(x16.w, watched)
    a.add(x16.w, x0.w, 1)
    a.cbnz(x16.w, s["slow"])
    a.bind(watched)
    s.save_registers()
    a.add(x0, x28, Slot.WATCH_POLL)
    a.mov(x1, 1)
    for register in (x2, x3, x4):
        a.mov(register, xzr)
    a.constant(x8, HostCall.PPOLL)
    s.bind("watch_check")
    a.ldr(x9.w, at(x28, Slot.PENDING))
    a.cbnz(x9.w, s["watch_over"])
    s.bind("watch_call")
    a.svc(0)
    s.bind("watch_over")
    s.far(x16, x28, SlotArm64.XREGS)
    a.ldp(x0, x1, at(x16))
    a.ldp(x2, x3, at(x16, 16))
    a.ldp(x4, x5, at(x16, 32))
    a.constant(x8, number)
    a.b(s["slow_saved"])


def identities(s: Stub) -> None:
    """Answers that stand in the slot."""
    for name, offset in IDENTITIES.items():
        s.bind(name)
        s.a.ldr(x0, at(x17, offset))
        s.a.b(s["exit_check"])


def set_tid_address(s: Stub) -> None:
    """set_tid_address(2): the host clears the address at exit; we answer the guest's tid."""
    a = s.a
    s.bind("set_tid_address")
    a.svc(0)
    a.ldr(x0, at(x17, Slot.TID))
    a.b(s["exit_check"])


def set_robust_list(s: Stub) -> None:
    """set_robust_list(2): noted for the kernel; the host's own walk never finds its tids there.

    The host is not told: the emulated one refuses the call.
    """
    a = s.a
    s.bind("set_robust_list")
    a.sub(x16, x1, ROBUST_HEAD_SIZE)
    a.cbnz(x16, s["native"])
    a.str_(x0, at(x17, Slot.ROBUST_LIST))
    a.mov(x0, xzr)
    a.b(s["exit_check"])


def exits(s: Stub, exit_group: int) -> None:
    """exit(2), exit_group(2): tell the kernel, do not wait for it, and go.

    A thread that may hold robust mutexes asks first, and the answer makes the call: the list's head
    does not point to itself, or list_op_pending is set, or other threads end with this one. A
    process that ends as a whole only leaves its request in the slot: the host tells of its end.
    """
    a = s.a
    ask, no_list, announce = (a.label(name) for name in ("exit_ask", "no_list", "exit_announce"))
    s.bind("exit")
    a.mov(x28, x17)
    s.far(x9, x28, SlotArm64.STACK_TOP)
    a.mov(sp, x9)
    s.store(x0, Slot.ARGS)
    a.mov(x8.w, x8.w)
    s.store(x8, Slot.SAVED_NR)
    a.bl(s["forget_key"])
    s.load(x9, Slot.ROBUST_LIST)
    a.cbz(x9, no_list)
    a.load_address(X[10], no_list)
    s.store(X[10], Slot.FIXUP)
    a.ldr(X[10], at(x9))
    a.cmp(X[10], x9)
    a.b_ne(ask)
    a.ldr(X[10], at(x9, 16))
    a.cbnz(X[10], ask)
    a.bind(no_list)
    a.cmp(x8, exit_group)
    a.b_ne(announce)
    s.load(x9.w, Slot.ASK_BEFORE_EXIT)
    a.cbnz(x9.w, ask)
    s.store(xzr, Slot.FIXUP)
    s.store(x8, Slot.NR)
    a.mov(x9, State.REQUESTED)
    a.stlr(x9.w, at(x28))
    a.svc(0)
    a.brk(1)
    a.bind(ask)
    s.store(xzr, Slot.FIXUP)
    s.store(x8, Slot.ARGS + 8)
    a.constant(x9, Request.LAST_WILL)
    s.store(x9, Slot.NR)
    a.b(s["post"])
    a.bind(announce)
    s.store(xzr, Slot.FIXUP)
    s.store(x8, Slot.NR)
    a.bl(s["announce"])
    s.load(x0, Slot.ARGS)
    s.load(x8, Slot.SAVED_NR)
    a.svc(0)
    a.brk(1)
