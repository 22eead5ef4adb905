"""Where what generated code and the kernel share lies: addresses, descriptors, slot fields.

Both sides import these numbers; nothing else may spell them. Offsets are bytes from the start of
a slot unless a name says otherwise. A slot belongs to exactly one guest thread.
"""

from __future__ import annotations

from typing import Final

PAGE: Final = 4096
LARGEST_PAGE: Final = 0x1_0000  # of any host: what needs a protection of its own lies so far apart

# --- the stub's part of the guest's address space (all of it is refused to guest memory calls)
STUB_BASE: Final = 0x6800_0000_0000  # the stub's ELF: text and read-only data
STUB_END: Final = 0x6801_0000_0000  # first address that is the guest's again
STUB_TEXT_LIMIT: Final = STUB_BASE + 0x10_0000  # text never grows beyond this
STUB_MEMORY: Final = STUB_BASE + 0x8_0000  # from here to the limit arm64's has memory of its own
BELLS_BASE: Final = STUB_BASE + 0x1000_0000  # the container's bell page
SLOTS_BASE: Final = STUB_BASE + 0x2000_0000  # slot i lies at SLOTS_BASE + i * SLOT_SIZE

# --- low addresses that patched sites jump through (see codegen.patch for the proof). What a call
# touches lies together: a forked child maps 64 KiB at each first touch.
SITE_LIMIT: Final = 8191
JUMP_TABLE: Final = 0x050F_0000  # a pointer a site; the address's top half must be 0x050F
ENTRY_POINTER: Final = JUMP_TABLE + 8 * SITE_LIMIT  # one pointer: the stub's entry
TRAMPOLINES: Final = 0x0510_0000  # a trampoline of 32 bytes a site
TRAMPOLINE_SIZE: Final = 32
RETURN_TABLE: Final = 0x0514_0000  # a return address a site, private to the process
LOW_END: Final = 0x0515_0000

# --- descriptors of the stub in every guest process
WATCH_FD: Final = 1020  # never free; a pidfd where kernel.watching says so
STUB_FD: Final = 1021  # the stub's ELF, for execve
CTRL_FD: Final = 1022  # SEQPACKET socket to the kernel: descriptors travel here
BELL_FD: Final = 1023  # eventfd that wakes a sleeping kernel
STUB_FDS: Final = range(WATCH_FD, BELL_FD + 1)

KICK_SIGNAL: Final = 62  # host signal that takes a thread out of native code

# --- the bell page: shared by all guests of a container
BELLS_AWAKE: Final = 0  # u32: the kernel is polling, no doorbell needed
BELLS_SPIN: Final = 4  # u32: how many pauses a guest spins before it sleeps
BELLS_CPU: Final = 8  # u32: where the kernel runs, or ran last; NO_CPU: nobody knows
BELLS_FIRST: Final = 64  # one byte a slot from here on
NO_CPU: Final = 0xFFFF_FFFF
SLOT_LIMIT: Final = PAGE - BELLS_FIRST

# --- a slot
SLOT_SIZE: Final = 0x2_0000
FD_FLAGS: Final = 0x1000  # one byte a descriptor, 0..4095 (only the group leader's counts)
FD_FLAGS_SIZE: Final = 0x1000
STACK_TOP: Final = 0x4000  # the stub's own stack grows down from here
PAYLOAD: Final = 0x4000
PAYLOAD_SIZE: Final = 0x1_0000
ALT_STACK: Final = 0x1_4000  # host signal frames of this thread
ALT_STACK_SIZE: Final = SLOT_SIZE - ALT_STACK


class Slot:
    """Offsets of the slot header's fields."""

    STATE: Final = 0x00  # u32: see State
    ATTENTION: Final = 0x04  # u32: host signals arrived, see HOST_SIGNALS
    NR: Final = 0x08  # u64: system call number or one of the Request numbers
    ARGS: Final = 0x10  # 6 x u64
    FIXUP: Final = 0x40  # u64: where a fault inside the stub's copy loops continues
    REGS: Final = 0x48  # saved guest registers, see SAVED_REGISTERS of the templates (16 x u64)
    RESULT: Final = 0xC8  # i64: the answer
    OPS: Final = 0xD0  # u64: how many micro-ops of PROGRAM to run; 0 = plain answer
    OUT_ADDRESS: Final = 0xD8  # u64: plain answer: copy OUT_LENGTH bytes of PAYLOAD here first
    OUT_LENGTH: Final = 0xE0  # u64
    SAVED_RCX: Final = 0xE8  # return address during a native call
    SAVED_NR: Final = 0xF0  # number of the native call under way
    SELF: Final = 0xF8  # u64: the slot's address in the guest
    # One cache line that is seldom written: it costs nothing that the other side looks at it.
    BELL: Final = 0x100  # u64: address of this slot's bell byte
    FLAGS_POINTER: Final = 0x108  # u64: address of the fd flags that count for this thread
    SLEEPING: Final = 0x110  # u32: the guest waits in futex(STATE)
    PENDING: Final = 0x114  # u32: leave native code before the next guest instruction
    HOST_TID: Final = 0x118  # u32: written by the host's clone
    HOST_SIGNALS: Final = 0x120  # u64: bit n-1 = host signal n arrived
    TRAPS: Final = 0x128  # u64: of the calls entered, those through SIGSYS
    # What follows is the guest's again.
    TID: Final = 0x140  # u64 each: identities as the guest sees them
    PID: Final = 0x148
    PPID: Final = 0x150
    UID: Final = 0x158
    EUID: Final = 0x160
    GID: Final = 0x168
    EGID: Final = 0x170
    ENTRIES: Final = 0x178  # u64: system calls entered (by patch or trap)
    IN: Final = 0x1C0  # 6 x (u32 offset in payload, u32 length or NULL_ARGUMENT)
    REASON: Final = 0x228  # u64: why a DELIVER request was posted, see Reason
    CHILD_TID: Final = 0x230  # u64: where a cloned child stores its tid, 0 = nowhere
    HANDLER_RSP: Final = 0x238  # u64: scratch of the host signal handler
    RESULTS: Final = 0x240  # 16 x u64: results of the running program's micro-ops
    HOST_PID: Final = 0x2C8  # u64: the thread group's host pid
    MAIL_FULL: Final = 0x2D0  # u64: another thread received our descriptors: the message's number
    MAIL_FDS: Final = 0x2D8  # 2 x u32
    ALT_DESCRIPTOR: Final = 0x2E0  # stack_t for sigaltstack: address, flags, size
    CHILD_CTRL: Final = 0x2F8  # u32: descriptor to move to CTRL_FD, of a process made in two steps
    ROBUST_LIST: Final = 0x300  # u64: head of the robust futex list (set_robust_list), 0 = none
    ASK_BEFORE_EXIT: Final = 0x308  # u32: exit_group posts LAST_WILL whatever ROBUST_LIST says
    CHILD_LIMIT: Final = 0x310  # struct rlimit: a child raises RLIMIT_NOFILE to this, then sets
    CHILD_LIMIT_AFTER: Final = 0x320  # struct rlimit: this one; hard limit 0 = nothing to do
    WATCH: Final = 0x330  # u64: pid of the only child, whose pidfd is WATCH_FD; 0 = there is none
    WATCH_POLL: Final = 0x338  # struct pollfd of WATCH_FD
    CHILD_HOST_TID: Final = 0x340  # u32: of the process that this thread has made last
    TRAP_LOG: Final = 0x350  # 16 x u64: return addresses of recent traps, ring indexed by TRAPS
    TRAP_LOG_SIZE: Final = 16
    PROGRAM: Final = 0x400  # micro-ops, OP_SIZE each
    OP_SIZE: Final = 64
    PROGRAM_LIMIT: Final = 48


class SlotArm64:
    """Fields that only the arm64 stub has. Those below 0xC8 take the place of Slot.REGS."""

    SAVED_X17: Final = 0x48  # x17, x30: what a trampoline loads on its way back
    SAVED_X30: Final = 0x50
    SAVED_X15: Final = 0x58  # x15, x16: scratch of the fast path
    SAVED_X16: Final = 0x60
    RETURN: Final = 0x68  # where the stub returns to: the trampoline's second half
    KEY: Final = 0x70  # TPIDR_EL0 under which the thread table knows this slot, 0 = it does not
    FIRST_ARGUMENT: Final = 0x78  # x0 of a native call, which the result overwrites
    KERNEL_PID: Final = 0x80  # u64: the kernel's host pid, the parent of every guest process
    X18: Final = 0x88  # the guest's, where the host keeps the register for itself,
    RESERVED_X18: Final = 0x90  # which this says: 1
    XREGS: Final = 0x3E00  # x0..x30, sp: saved on the slow path
    NZCV: Final = 0x3F00  # saved on the slow path
    STACK_TOP: Final = 0x3E00  # the stub's own stack grows down from here


class Trampoline:
    """arm64: a patched site is `b T`. T's words, and the offsets of its parts.

    stp x17, x30, [sp, #-32]; ldr x17, ENTRY; blr x17; BACK: ldp x17, x30, [x30, #SAVED_X17];
    b site + 4; u32 register of `msr tpidr_el0`; u64 ENTRY: `entry` or `set_tls` of the stub.
    At BACK the stub has left the slot's address in x30.
    """

    SIZE: Final = 32
    BACK: Final = 12
    REGISTER: Final = 20
    ENTRY: Final = 24


NULL_ARGUMENT: Final = 0xFFFF_FFFF
OVERSIZE_ARGUMENT: Final = 0xFFFF_FFFE  # a vector that does not fit the payload


class State:
    """Values of Slot.STATE."""

    IDLE: Final = 0
    REQUESTED: Final = 1
    PARKED: Final = 2  # a request whose answer will take long: do not spin for it
    DONE: Final = 3


# A control socket's message begins with the slot address of the thread it is for and a u64: bit 0
# = close-on-exec, bits 1..62 = its number, bit 63 = it is for a stub that boots. A message that
# nobody took, because the program before it failed, is known by its number and dropped.
CTRL_MESSAGE_SIZE: Final = 16
BOOT_MESSAGE: Final = 1 << 63
ANY_MESSAGE: Final = (1 << 64) - 1

# Order of the registers in Slot.REGS (x86_64).
REGISTER_ORDER_X86_64: Final = (
    "rbx", "rbp", "rsp", "rip", "r12", "r13", "r14", "r15",
    "rdi", "rsi", "rdx", "r10", "r8", "r9",
)  # fmt: skip


class Request:
    """Slot.NR values that no guest can post: a call's number has 32 bits."""

    FIRST: Final = 1 << 32
    BOOT: Final = FIRST  # the stub has started (again): ARGS[0] = host's initial stack pointer
    DELIVER: Final = FIRST + 1  # a host signal frame wants a decision; see REASON
    CONTINUED: Final = FIRST + 2  # the reply program reached CONTINUE
    LAST_WILL: Final = FIRST + 4  # ARGS[0] = status, ARGS[1] = exit call: the thread holds mutexes
    FAILED: Final = FIRST + 3  # a checked micro-op failed: ARGS[0] = index, ARGS[1] = -errno


class Reason:
    """Why DELIVER: which registers and which restart rule apply."""

    ASYNC: Final = 1  # guest code was interrupted by a host signal or kick
    BEFORE: Final = 2  # pending was seen before a native call: context is at its `syscall`
    INTERRUPTED: Final = 3  # a native call returned EINTR or EIO
    AFTER: Final = 4  # pending was seen on the way out: the result stands
    FAULT: Final = 5  # a synchronous fault in guest code
    SIGRETURN: Final = 6  # the guest called rt_sigreturn
    FATAL: Final = 7  # the stub itself faulted: a bug or an attack


class Op:
    """Micro-op codes. An op: u8 code, u8 result, u16 argument mask, u32 flags, u64 nr, 6 x u64.

    An argument whose mask bit is set is read from RESULTS[argument].
    """

    END: Final = 0  # a0 = the guest's result
    HOSTCALL: Final = 1  # nr, a0..a5
    COPY_OUT: Final = 2  # a0 = guest address, a1 = payload offset, a2 = length
    COPY_IN: Final = 3  # a0 = guest address, a1 = payload offset, a2 = length
    # a0 = count (1; 2: next register too), a1 = recvmsg flags, a2 = fd flag byte, a3 = number
    RECV_FDS: Final = 4
    SEND_FD: Final = 5  # a0 = descriptor
    # a0 = host flags, a1 = 1: by way of a process in between (arm64), a2 = host tid's address,
    # a3 = ctid, a4 = tls, a5 = slot. With MAPS the child maps its slot, which RESULTS[1] is, and
    # has RESULTS[0] for its control socket.
    CLONE: Final = 6
    ENTER: Final = 7  # a0 = rip, a1 = rsp: start a program image
    CONTINUE: Final = 8  # post CONTINUED and run what the kernel answers
    STORE32: Final = 9  # a0 = guest address, a1 = value
    RETURN: Final = 10  # return from the host signal handler (DELIVER's last op)

    CMPXCHG32: Final = 11  # a0 = guest address, a1 = expected, a2 = new; result: what was there

    CHECKED: Final = 1  # flag: an error ends the program with Request.FAILED
    INTERRUPTIBLE: Final = 2  # flag: not started when PENDING is set (result -EINTR)
    MAPS: Final = 8  # flag of CLONE
    REPORT_EINTR: Final = 4  # flag: a result of -EINTR ends the program with Request.FAILED


class Marshal:
    """How the stub copies an argument in before it posts. One byte an argument in the row."""

    NONE: Final = 0
    PATH: Final = 1  # NUL-terminated, at most 4096 bytes
    BUFFER: Final = 2  # length in argument `param & 7`, times `param >> 3`
    STRUCT: Final = 3  # `param` bytes, NULL allowed
    VECTOR: Final = 4  # NULL-terminated array of strings
    STAT: Final = 5  # host fstat of this descriptor argument
    IOVEC: Final = 6  # gather, count in argument `param & 7`
