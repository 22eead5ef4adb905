"""What a guest sees of the stub, and what the kernel and the host see."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.layout import (
    BELL_FD,
    BELLS_BASE,
    BELLS_CPU,
    BELLS_FIRST,
    FD_FLAGS_SIZE,
    NO_CPU,
    NULL_ARGUMENT,
    OVERSIZE_ARGUMENT,
    PAYLOAD,
    PAYLOAD_SIZE,
    STUB_BASE,
    STUB_END,
    WATCH_FD,
    Slot,
    State,
)
from codegen.templates.native import NATIVE
from tests.codegen.stub_machine import (
    MASK,
    MEMORY,
    SLOT,
    UNMAPPED,
    Ended,
    Machine,
    Trap,
    says,
)
from tests.codegen.x86_64_machine import MachineX86

IDENTITIES = {
    "getpid": Slot.PID, "gettid": Slot.TID, "getppid": Slot.PPID, "getuid": Slot.UID,
    "geteuid": Slot.EUID, "getgid": Slot.GID, "getegid": Slot.EGID,
}  # fmt: skip


def answering(machine: Machine, result: int = 0) -> list[tuple[int, list[int]]]:
    """Let the kernel answer `result`; the requests it sees."""
    seen: list[tuple[int, list[int]]] = []

    def kernel(m: Machine) -> None:
        seen.append(m.posted)
        m.answer(result)

    machine.kernel = kernel
    return seen


def natively(machine: Machine, result: int = 0) -> None:
    """Let the host answer `result`."""
    machine.host = says(result)


def goes_native(machine: Machine, name: str, *arguments: int) -> bool:
    """Whether the call reaches the host as it stands; otherwise the kernel must get it."""
    seen = answering(machine)
    natively(machine)
    machine.calls.clear()
    padded = [a & MASK for a in arguments] + [0] * (6 - len(arguments))
    machine.call(name, *padded)
    host = [(n, a[: len(padded)]) for n, a in machine.calls]
    if seen:
        assert [(n, a[: len(padded)]) for n, a in seen] == [(machine.numbers[name], padded)]
        assert not [n for n, _ in host if n != "fstat"]
        return False
    assert host == [(name, padded)]
    return True


# --------------------------------------------------------------------------- answers from the slot
@pytest.mark.parametrize("name", IDENTITIES)
def test_identities_stand_in_the_slot(machine: Machine, name: str) -> None:
    for i, field in enumerate(IDENTITIES.values()):
        machine.set(field, 1000 + i)
    assert machine.call(name) == 1000 + list(IDENTITIES).index(name)
    assert not machine.calls
    assert not machine.requests
    assert machine.get(Slot.ENTRIES) == 1


def test_set_tid_address_tells_the_host_and_answers_the_guests_tid(machine: Machine) -> None:
    machine.set(Slot.TID, 7)
    natively(machine, 55_000)
    assert machine.call("set_tid_address", MEMORY) == 7
    assert machine.calls[0][1][0] == MEMORY


# ------------------------------------------------------------------------------------ native calls
def test_a_native_call_has_the_guests_registers_and_returns_to_the_guest(machine: Machine) -> None:
    natively(machine, 11)
    arguments = [5, MEMORY, 0x1234, 4, 5, 6]
    assert machine.call("read", *arguments) == 11
    assert machine.calls == [("read", arguments)]
    assert machine.returns_to == machine.RETURN
    assert not machine.requests
    assert machine.read(BELLS_BASE + BELLS_FIRST, 16) == bytes(16)


@pytest.mark.parametrize("result", [0, 1, MASK >> 1, -1, -9, -11, -4095])
def test_native_results_pass(machine: Machine, result: int) -> None:
    natively(machine, result)
    assert machine.call("read", 5, MEMORY, 1) == result


@pytest.mark.parametrize("result", [-errno.EINTR, -errno.EIO])
def test_an_interrupted_native_call_asks_the_kernel(machine: Machine, result: int) -> None:
    natively(machine, result)
    with pytest.raises(Trap, match="trap_interrupted"):
        machine.call("read", 5, MEMORY, 1)
    assert machine.returns_to == machine.RETURN
    assert machine.get(Slot.SAVED_NR) == machine.numbers["read"]
    assert [machine.register(r) for r in machine.ARGUMENTS[1:3]] == [MEMORY, 1]


def test_pending_work_is_seen_before_a_native_call(machine: Machine) -> None:
    machine.set(Slot.PENDING, 1, 4)
    with pytest.raises(Trap, match="trap_before"):
        machine.call("read", 5, MEMORY, 1)
    assert not machine.calls
    assert machine.returns_to == machine.RETURN
    assert machine.register(machine.NUMBER) == machine.numbers["read"]


@pytest.mark.parametrize("name", ["getpid", "read", "getpgid"])
def test_pending_work_is_seen_on_the_way_out(machine: Machine, name: str) -> None:
    def host(m: Machine, number: int, arguments: list[int]) -> int:
        m.set(Slot.PENDING, 1, 4)
        return 3

    def kernel(m: Machine) -> None:
        m.set(Slot.PENDING, 1, 4)
        m.answer(3)

    machine.host, machine.kernel = host, kernel
    machine.set(Slot.PID, 3)
    if name == "getpid":
        machine.set(Slot.PENDING, 1, 4)
    with pytest.raises(Trap, match="trap_after"):
        machine.call(name, 0, 0, 0)
    assert machine.result == 3
    assert machine.returns_to == machine.RETURN


@pytest.mark.parametrize("fd", [0, 3, WATCH_FD - 1, FD_FLAGS_SIZE - 1])
def test_a_flagged_descriptor_goes_to_the_kernel(machine: Machine, fd: int) -> None:
    assert goes_native(machine, "lseek", fd, 0, 0)
    machine.flag(fd)
    assert not goes_native(machine, "lseek", fd, 0, 0)


@pytest.mark.parametrize("fd", [WATCH_FD, BELL_FD, FD_FLAGS_SIZE, -1, 1 << 31])
def test_the_stubs_and_very_high_descriptors_go_to_the_kernel(machine: Machine, fd: int) -> None:
    assert not goes_native(machine, "close", fd)


@pytest.mark.parametrize(
    ("name", "fds"), [("tee", (0, 1)), ("dup3", (0, 1)), ("sendfile", (0, 1)), ("splice", (0, 2))]
)
def test_both_descriptors_count(machine: Machine, name: str, fds: tuple[int, int]) -> None:
    machine.flag(9)
    for position in fds:
        arguments = [5] * 4
        arguments[position] = 9
        assert not goes_native(machine, name, *arguments)
    assert goes_native(machine, name, 5, 5, 5, 5)


def test_a_descriptor_has_32_bits(machine: Machine) -> None:
    machine.flag(5)
    assert not goes_native(machine, "lseek", 5 | 1 << 40, 0, 0)
    assert goes_native(machine, "lseek", 6 | 1 << 40, 0, 0)


@pytest.mark.parametrize("name", ["mmap", "munmap", "mprotect", "madvise", "msync"])
@pytest.mark.parametrize(
    ("start", "length", "native"),
    [
        (MEMORY, 0x1000, True),
        (STUB_BASE - 0x2000, 0x1000, True),
        (STUB_END, 0x1000, True),
        (STUB_BASE, 0x1000, False),
        (STUB_END - 0x1000, 0x1000, False),
        (STUB_BASE - 0x1000, 0x1001, False),
        (0x1000, 1 << 47, False),
        (0x1000, MASK, False),
    ],
)
def test_the_stubs_range_is_not_the_guests(
    machine: Machine, name: str, start: int, length: int, native: bool
) -> None:
    arguments = [start, length, 3, 0x32, MASK, 0]  # MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS
    assert goes_native(machine, name, *arguments) == native


def test_mmap_by_its_flags(machine: Machine) -> None:
    private, anonymous, fixed_once = 2, 0x20, 0x10_0000
    machine.flag(9)
    here = [STUB_BASE, 0x1000, 3]
    assert goes_native(machine, "mmap", *here, private | anonymous, MASK, 0)  # only a hint
    assert not goes_native(machine, "mmap", *here, private | anonymous | fixed_once, MASK, 0)
    assert goes_native(machine, "mmap", 0, 0x1000, 1, private, 5, 0)
    assert not goes_native(machine, "mmap", 0, 0x1000, 5, private, 5, 0)  # text
    assert not goes_native(machine, "mmap", 0, 0x1000, 1, private, 9, 0)  # flagged


def test_only_fs_is_the_guests_to_set() -> None:
    machine = MachineX86()
    for option in (0x1002, 0x1003):
        assert goes_native(machine, "arch_prctl", option, MEMORY)
    for option in (0x1001, 0x1004, 0, 0x1_0000_1002):
        assert not goes_native(machine, "arch_prctl", option, MEMORY)


def test_mremap_to_a_fixed_place_is_checked_by_the_kernel(machine: Machine) -> None:
    assert goes_native(machine, "mremap", MEMORY, 0x1000, 0x2000, 1, 0)
    assert not goes_native(machine, "mremap", MEMORY, 0x1000, 0x2000, 3, STUB_BASE)
    assert not goes_native(machine, "mremap", STUB_BASE, 0x1000, 0x2000, 1, 0)


@pytest.mark.parametrize(
    ("name", "position"),
    [("sendto", 4), ("recvfrom", 4), ("accept", 1), ("accept4", 1), ("ppoll", 3), ("pselect6", 5),
     ("epoll_pwait", 4)],
)  # fmt: skip
def test_calls_that_are_native_without_an_argument(
    machine: Machine, name: str, position: int
) -> None:
    arguments = [5, 0, 0, 0, 0, 0]
    assert goes_native(machine, name, *arguments)
    arguments[position] = MEMORY
    assert not goes_native(machine, name, *arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "native"),
    [
        ("ioctl", (5, 0x5401), True),  # TCGETS
        ("ioctl", (5, 0x5421), True),  # FIONBIO
        ("ioctl", (5, 0x540F), False),  # TIOCGPGRP
        ("ioctl", (5, 0x5412), False),  # TIOCSTI
        ("ioctl", (5, 0x8004_5430), False),  # TIOCGPTN
        ("ioctl", (5, 0x8912), False),  # SIOCGIFCONF
        ("fcntl", (5, 0), True),  # F_DUPFD
        ("fcntl", (5, 4), True),  # F_SETFL
        ("fcntl", (5, 1030), True),  # F_DUPFD_CLOEXEC
        ("fcntl", (5, 8), False),  # F_SETOWN
        ("fcntl", (5, 1024), False),  # F_SETLEASE
        ("setsockopt", (5, 1, 2), False),  # SOL_SOCKET
        ("setsockopt", (5, 6, 1), True),  # TCP_NODELAY
        ("setsockopt", (5, 41, 26), False),  # IPV6_V6ONLY
        ("futex", (MEMORY, 0x80, 1), True),
        ("futex", (MEMORY, 0x86, 1), False),  # FUTEX_LOCK_PI_PRIVATE
    ],
)
def test_calls_that_are_native_by_their_command(
    machine: Machine, name: str, arguments: tuple[int, ...], native: bool
) -> None:
    assert goes_native(machine, name, *arguments) == native


def detours(machine: Machine) -> list[tuple[str, int, int]]:
    """(name, argument, value) of what the tables send to the kernel of native calls."""
    found = []
    for name in NATIVE:
        for detour in machine.table.syscalls[name].detours if name in machine.numbers else ():
            if name == "mprotect":  # new text is not patched but traps first
                continue
            values = detour.values if detour.test in {"is", "has"} else (MEMORY,)
            found += [(name, detour.argument, value) for value in values]
    return found


def test_every_detour_of_the_tables_is_taken(machine: Machine) -> None:
    assert len(detours(machine)) > 40
    for name, argument, value in detours(machine):
        arguments = [5, MEMORY, 0, 0, 0, 0]
        if name in {"setsockopt", "getsockopt"}:
            arguments[1] = 1  # SOL_SOCKET
        arguments[argument] = value
        refused = (name, value) == ("ioctl", machine.table.ioctls["TIOCCONS"])  # by the filter
        assert goes_native(machine, name, *arguments) is refused, (name, hex(value))


def test_every_other_number_goes_to_the_kernel(machine: Machine) -> None:
    seen = answering(machine, -errno.ENOSYS)
    known = {machine.numbers[n] for n in NATIVE if n in machine.numbers}
    row_of = machine.address("marshal_table")
    numbers = [n for n in range(512) if n not in known]
    unmarshalled = [n for n in numbers if machine.read(row_of + 32 * n, 6) == bytes(6)]
    for number in [*unmarshalled, 512, 1 << 20, (1 << 32) - 1]:
        assert machine.call(number, 1, 2, 3, 4, 5, 6) == -errno.ENOSYS
        assert seen.pop() == (number, [1, 2, 3, 4, 5, 6])
    assert not machine.calls


@given(high=st.integers(0, 0xFFFF_FFFF))
@settings(max_examples=10, deadline=None)
def test_a_number_has_32_bits(make: type[Machine], high: int) -> None:
    machine = make()
    machine.set(Slot.PID, 4)
    assert machine.call(machine.numbers["getpid"] | high << 32) == 4
    seen = answering(machine)
    machine.call(1000 | high << 32)
    assert seen[0][0] == 1000


# ------------------------------------------------------------------------------------ the slow path
def test_a_request_holds_number_arguments_and_registers(machine: Machine) -> None:
    values = {r: 0x4444_0000_0000 + i for i, r in enumerate(machine.ARGUMENTS)}

    def kernel(m: Machine) -> None:
        assert m.posted == (m.numbers["getpgid"], list(values.values()))
        assert {r: m.saved[r] for r in values} == values
        assert m.returns_to == m.RETURN
        assert m.read(BELLS_BASE + BELLS_FIRST, 6) == b"\0\0\0\1\0\0"
        assert 0 < SLOT + m.STACK_TOP - m.register(m.STACK_POINTER) < 0x100
        m.answer(-errno.ESRCH)

    machine.kernel = kernel
    assert machine.call("getpgid", **values) == -errno.ESRCH
    assert machine.requests == 1


def test_an_answer_with_a_block(machine: Machine) -> None:
    machine.kernel = lambda m: m.answer(5, (MEMORY + 3, b"hello"))
    assert machine.call("getcwd", MEMORY + 3, 100) == 5
    assert machine.read(MEMORY, 10) == b"\0\0\0hello\0\0"
    assert machine.get(Slot.FIXUP) == 0


@pytest.mark.parametrize("where", [0, UNMAPPED, MEMORY - 2])
def test_a_block_for_a_bad_address_is_efault(machine: Machine, where: int) -> None:
    machine.kernel = lambda m: m.answer(5, (where, b"hello"))
    assert machine.call("getcwd", where, 100) == -errno.EFAULT
    assert machine.get(Slot.FIXUP) == 0


def test_a_sleeping_kernel_is_woken_and_waited_for(machine: Machine) -> None:
    def host(m: Machine, number: int, arguments: list[int]) -> int:
        if number == machine.numbers["write"]:
            assert m.read(arguments[1], 8) == struct.pack("<Q", 1)
            return 8
        assert number == machine.numbers["futex"]
        assert m.get(Slot.SLEEPING, 4) == 1
        assert arguments[:4] == [SLOT + Slot.STATE, 0, State.REQUESTED, 0]
        if len(m.calls) == 3:
            m.answer(77)
        return 0

    machine.asleep()
    machine.host = host
    assert machine.call("chdir", 0) == 77
    assert [n for n, _ in machine.calls] == ["write", "futex", "futex"]
    assert machine.calls[0][1][0] == BELL_FD


def test_a_parked_request_is_not_spun_for(machine: Machine) -> None:
    def host(m: Machine, number: int, arguments: list[int]) -> int:
        assert number == machine.numbers["futex"]
        assert arguments[2] == State.PARKED
        m.answer(1)
        return -errno.EAGAIN

    machine.kernel = lambda m: m.set(Slot.STATE, State.PARKED, 4)
    machine.host = host
    assert machine.call("wait4", -1, 0, 0, 0) == 1
    assert machine.requests == 1


def test_spinning_offers_the_core_and_ends(machine: Machine) -> None:
    machine.awake(spin=600)

    def host(m: Machine, number: int, arguments: list[int]) -> int:
        if number == machine.numbers["futex"]:
            m.answer(2)
        return 0

    machine.host = host
    assert machine.call("getpgid", 0) == 2
    assert [n for n, _ in machine.calls] == ["sched_yield"] * 3 + ["futex"]


@pytest.mark.parametrize(("kernel_cpu", "sleeps"), [(NO_CPU, False), (4, False), (0x7B, True)])
def test_who_is_on_the_kernels_cpu_does_not_spin(kernel_cpu: int, sleeps: bool) -> None:
    """The emulated machine has no segment that tells the CPU: it is taken to be 0x7B."""
    machine = MachineX86()
    machine.awake(spin=600)
    machine.write(BELLS_BASE + BELLS_CPU, kernel_cpu.to_bytes(4, "little"))

    def host(m: Machine, number: int, arguments: list[int]) -> int:
        if number == machine.numbers["futex"]:
            m.answer(2)
        return 0

    machine.host = host
    assert machine.call("getpgid", 0) == 2
    assert ([n for n, _ in machine.calls] == ["futex"]) == sleeps


def test_exit_announces_and_does_not_wait(machine: Machine) -> None:
    def host(m: Machine, number: int, arguments: list[int]) -> int:
        assert m.posted[0] == number == machine.numbers["exit_group"]
        assert m.posted[1][0] == arguments[0] == 3
        assert m.get(Slot.STATE, 4) == State.REQUESTED
        raise Ended

    machine.host = host
    with pytest.raises(Ended):
        machine.call("exit_group", 3)
    assert machine.stack_untouched()


# ------------------------------------------------------------------------------------- marshalling
def copies(machine: Machine, name: str, *arguments: int) -> list[tuple[int, bytes]]:
    """What the kernel finds of each argument."""
    found: list[tuple[int, bytes]] = []

    def kernel(m: Machine) -> None:
        found.extend(m.copied(i) for i in range(6))
        m.answer(0)

    machine.kernel = kernel
    assert machine.call(name, *arguments) == 0
    assert machine.get(Slot.FIXUP) == 0
    return found


@pytest.mark.parametrize("path", [b"", b"/", b"a" * 4095])
def test_a_path_is_copied_without_its_nul(machine: Machine, path: bytes) -> None:
    machine.write(MEMORY, path + b"\0garbage")
    assert copies(machine, "chdir", MEMORY)[0] == (len(path), path)


def test_two_paths_do_not_overlap(machine: Machine) -> None:
    machine.write(MEMORY, b"from\0")
    machine.write(MEMORY + 100, b"/to/there\0")
    got = copies(machine, "pivot_root", MEMORY, MEMORY + 100)
    assert got[:2] == [(4, b"from"), (9, b"/to/there")]


def test_a_path_that_is_too_long(machine: Machine) -> None:
    machine.write(MEMORY, b"a" * 4096 + b"\0")
    assert machine.call("chdir", MEMORY) == -errno.ENAMETOOLONG
    assert not machine.requests
    assert machine.get(Slot.FIXUP) == 0


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("chdir", (UNMAPPED,)), ("execve", (MEMORY, UNMAPPED, 0)), ("bind", (5, UNMAPPED, 16)),
     ("rt_sigaction", (2, UNMAPPED, 0, 8)), ("writev", (9, UNMAPPED, 1))],
)  # fmt: skip
def test_a_bad_address_is_efault_and_no_request(
    machine: Machine, name: str, arguments: tuple[int, ...]
) -> None:
    machine.flag(9)
    assert machine.call(name, *arguments) == -errno.EFAULT
    assert not machine.requests
    assert machine.get(Slot.FIXUP) == 0


def test_a_path_that_runs_off_its_mapping(machine: Machine) -> None:
    end = MEMORY + 0x20000
    machine.write(end - 3, b"abc")
    assert machine.call("chdir", end - 3) == -errno.EFAULT


def test_null_is_told_apart(machine: Machine) -> None:
    assert copies(machine, "chdir", 0)[0][0] == NULL_ARGUMENT
    assert copies(machine, "rt_sigaction", 2, 0, MEMORY, 8)[1][0] == NULL_ARGUMENT
    machine.write(MEMORY, b"/x\0")
    got = copies(machine, "execve", MEMORY, 0, 0)
    assert got[0] == (2, b"/x")
    assert got[1][0] == got[2][0] == NULL_ARGUMENT


def vector(machine: Machine, where: int, strings: list[bytes]) -> int:
    """A NULL-terminated array of strings in guest memory."""
    text = where + 8 * (len(strings) + 1)
    pointers = []
    for string in strings:
        pointers.append(text)
        text += len(machine.read(machine.write(text, string + b"\0"), len(string) + 1))
    machine.write(where, struct.pack(f"<{len(strings) + 1}Q", *pointers, 0))
    return where


@pytest.mark.parametrize(
    "strings", [[], [b""], [b"sh", b"-c", b"exit 3"], [b"", b"", b"x"], [b"v" * 20000] * 2]
)
def test_a_vector(machine: Machine, strings: list[bytes]) -> None:
    machine.write(MEMORY, b"/bin/sh\0")
    argv = vector(machine, MEMORY + 0x100, strings)
    envp = vector(machine, MEMORY + 0x1_8000, [b"A=b"])
    got = copies(machine, "execve", MEMORY, argv, envp)
    data = b"".join(s + b"\0" for s in strings)
    assert got[:3] == [(7, b"/bin/sh"), (len(data), data), (4, b"A=b\0")]


def test_a_vector_that_does_not_fit(machine: Machine) -> None:
    machine.write(MEMORY, b"/x\0")
    argv = vector(machine, MEMORY + 0x100, [b"small"])
    envp = vector(machine, MEMORY + 0x200, [b"v" * (PAYLOAD_SIZE - 80)])
    got = copies(machine, "execve", MEMORY, argv, envp)
    assert got[:2] == [(2, b"/x"), (6, b"small\0")]
    assert got[2][0] == OVERSIZE_ARGUMENT


def test_a_buffer_has_its_length_in_another_argument(machine: Machine) -> None:
    machine.write(MEMORY, bytes(range(200)))
    assert copies(machine, "bind", 5, MEMORY, 16)[1] == (16, bytes(range(16)))
    assert copies(machine, "bind", 5, MEMORY, 0)[1] == (0, b"")
    assert copies(machine, "setgroups", 3, MEMORY)[1] == (12, bytes(range(12)))


def test_two_buffers(machine: Machine) -> None:
    machine.write(MEMORY, bytes(range(200)))
    got = copies(machine, "sendto", 5, MEMORY, 5, 0, MEMORY + 100, 3)
    assert (got[1], got[4]) == ((5, bytes(range(5))), (3, bytes([100, 101, 102])))


@pytest.mark.parametrize("length", [PAYLOAD_SIZE, PAYLOAD_SIZE + 1, 1 << 40])
def test_a_large_buffer_is_cut_to_the_payload(machine: Machine, length: int) -> None:
    data = bytes(i * 13 & 0xFF for i in range(PAYLOAD_SIZE))
    machine.write(MEMORY, data)
    machine.flag(9)
    beyond = machine.read(SLOT + PAYLOAD + PAYLOAD_SIZE, 64)
    assert copies(machine, "write", 9, MEMORY, length)[1] == (PAYLOAD_SIZE, data)
    assert machine.read(SLOT + PAYLOAD + PAYLOAD_SIZE, 64) == beyond


def test_a_struct_has_a_fixed_size(machine: Machine) -> None:
    machine.write(MEMORY, bytes(range(200)))
    assert copies(machine, "rt_sigaction", 2, MEMORY, 0, 8)[1] == (32, bytes(range(32)))


def test_an_iovec_is_gathered(machine: Machine) -> None:
    machine.flag(9)
    machine.write(MEMORY, b"onetwothree")
    entries = ((MEMORY, 3), (UNMAPPED, 0), (MEMORY + 3, 3), (MEMORY + 6, 5))
    machine.write(MEMORY + 0x100, b"".join(struct.pack("<QQ", *e) for e in entries))
    assert copies(machine, "writev", 9, MEMORY + 0x100, 4)[1] == (11, b"onetwothree")
    assert copies(machine, "writev", 9, MEMORY + 0x100, 0)[1] == (0, b"")


def test_an_iovec_is_cut_to_the_payload(machine: Machine) -> None:
    machine.flag(9)
    entries = ((MEMORY, 0x9000), (MEMORY, 0x9000), (UNMAPPED, 5))
    machine.write(MEMORY + 0x1_0000, b"".join(struct.pack("<QQ", *e) for e in entries))
    assert copies(machine, "writev", 9, MEMORY + 0x1_0000, 3)[1][0] == PAYLOAD_SIZE


def test_fstat_brings_the_hosts_answer(machine: Machine) -> None:
    stat = bytes(i ^ 0x5A for i in range(machine.STAT_SIZE))

    def host(m: Machine, number: int, arguments: list[int]) -> int:
        assert (number, arguments[0]) == (machine.numbers["fstat"], 6)
        m.write(arguments[1], stat)
        return 0

    machine.host = host
    assert copies(machine, "fstat", 6, MEMORY)[0] == (machine.STAT_SIZE, stat)


def test_fstat_of_a_closed_descriptor_needs_no_kernel(machine: Machine) -> None:
    natively(machine, -errno.EBADF)
    assert machine.call("fstat", 6, MEMORY) == -errno.EBADF
    assert not machine.requests


@given(
    data=st.lists(st.binary(max_size=40).map(lambda b: b.replace(b"\0", b"x")), max_size=8),
    shift=st.integers(0, 9),
)
@settings(max_examples=15, deadline=None)
def test_any_vector(make: type[Machine], data: list[bytes], shift: int) -> None:
    machine = make()
    machine.write(MEMORY, b"p" * shift + b"\0")
    got = copies(machine, "execve", MEMORY, vector(machine, MEMORY + 0x101, data), 0)
    assert got[0] == (shift, b"p" * shift)
    assert got[1][1] == b"".join(s + b"\0" for s in data)
