"""The poll loop in generated code: what it answers, what it leaves to Python."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tables
from codegen.layout import (
    BELLS_CPU,
    BELLS_FIRST,
    PAYLOAD,
    PAYLOAD_SIZE,
    SLOT_SIZE,
    SLOTS_BASE,
    Slot,
    State,
)
from codegen.poll_layout import IDLE, PLAIN, Entry, hashed
from kernel.fs.answers import ATTRIBUTES, CONTENT, EXISTENCE, TEXT, Answers
from kernel.host.engines import host_isa
from tests.kernel.polled import Guest, needs_code

REGULAR, SYMLINK, DIRECTORY = 0o100000, 0o120000, 0o040000
ROOT, CWD = 5, 6
AT_FDCWD = (1 << 64) - 100
SENT = struct.Struct("<QQ")
ASKED = 11 | PLAIN  # Python is: of a request that there is nothing else to know about
PACKED = bytes(range(144))
FUTEX = tables.load(host_isa()).numbers["futex"]

pytestmark = needs_code


class Node:
    """As much of a node as answers are made of."""

    def __init__(self, kind: int, mode: int = 0o644, packed: bytes | None = None) -> None:
        self.kind = kind
        self.mode = kind | mode
        self.packed = packed
        self.learned: dict[tuple[int, bytes], tuple[int, int]] | None = None
        self.text: bytes | None = None
        self.host: bytes | None = None

    def link_text(self) -> bytes | None:
        return self.text

    def plain_file(self) -> bytes | None:
        return self.host


@pytest.fixture
def guest() -> Iterator[Guest]:
    context = SimpleNamespace(root_number=ROOT, cwd_number=CWD, users={})
    nobody = SimpleNamespace(effective=0, can=lambda _capability: False)
    made = Guest(Answers(lambda packed: packed), context, nobody)
    yield made
    made.close()


def learn(guest: Guest, path: bytes, node: Node, want: int, **where: Any) -> None:
    """Teach it; `where`: start, follow, need."""
    start, follow, need = where.get("start", ROOT), where.get("follow", True), where.get("need", 0)
    made: Any = node
    guest.answers.learn(start, path, follow, made, want, need)


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 15, 16, 17, 100, 127, 128])
def test_stat_is_answered_where_it_is_known(guest: Guest, length: int) -> None:
    path = b"/" + b"x" * (length - 1)
    assert guest.post("stat", path, 0x1234) == ASKED
    learn(guest, path, Node(REGULAR, packed=PACKED), ATTRIBUTES)
    assert guest.post("stat", path, 0x1234) == IDLE
    assert (guest.done, guest.result, guest.out()) == (True, 0, (0x1234, PACKED))
    assert guest.post("newfstatat", AT_FDCWD, path, 0x4321, 0) == IDLE
    assert guest.out() == (0x4321, PACKED)
    assert guest.post("lstat", path, 0x1234) == ASKED
    assert guest.post("newfstatat", AT_FDCWD, path, 0x4321, 0x100) == ASKED
    assert guest.post("newfstatat", AT_FDCWD, path, 0x4321, 0x800) == ASKED


def test_nothing_is_known_of_longer_paths(guest: Guest) -> None:
    path = b"/" + b"x" * 128
    learn(guest, path, Node(REGULAR, packed=PACKED), ATTRIBUTES)
    assert guest.post("stat", path, 0x1234) == ASKED
    assert guest.post("stat", b"", 0x1234) == ASKED


def test_open_sends_the_descriptor(guest: Guest, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    node = Node(REGULAR)
    node.host = bytes(file)
    learn(guest, b"file", node, CONTENT, start=CWD)
    for flags in (0, os.O_CLOEXEC, os.O_NONBLOCK | os.O_NOCTTY):
        before = len(os.listdir("/proc/self/fd"))
        assert guest.post("openat", AT_FDCWD, b"file", flags, 0) == IDLE
        data, fds, _, _ = socket.recv_fds(guest.theirs, 16, 2)
        assert len(fds) == 1
        assert len(os.listdir("/proc/self/fd")) == before + 1
        assert os.read(fds[0], 100) == b"content"
        os.close(fds[0])
        number = guest.slot.record[7]
        cloexec = flags & os.O_CLOEXEC != 0
        assert SENT.unpack(data) == (SLOTS_BASE + 11 * SLOT_SIZE, number << 1 | cloexec)
        assert guest.slot.q[Slot.OPS // 8] == 2
        first = guest.slot.mm[Slot.PROGRAM : Slot.PROGRAM + 64]
        assert first[40:48] == number.to_bytes(8, "little")


def test_open_leaves_to_python_what_is_not_plain(guest: Guest) -> None:
    node = Node(REGULAR)
    node.host = b"/nonexistent/file"
    learn(guest, b"/f", node, CONTENT)
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_PATH, os.O_NOFOLLOW, os.O_TRUNC):
        assert guest.post("open", b"/f", flags, 0) == ASKED
    assert guest.post("open", b"/f", 0, 0) == ASKED, "the host cannot open it: Python says why"
    assert not guest.done


def test_a_message_that_cannot_be_sent_leaves_nothing_open(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    node = Node(REGULAR)
    node.host = bytes(tmp_path / "file")
    learn(guest, b"/f", node, CONTENT)
    while guest.post("open", b"/f", 0, 0) == IDLE:
        pass  # the guest does not receive: the socket is full at last
    before = len(os.listdir("/proc/self/fd"))
    assert guest.post("open", b"/f", 0, 0) == ASKED
    assert len(os.listdir("/proc/self/fd")) == before


def test_who_may_not_read_asks_python(guest: Guest) -> None:
    node = Node(REGULAR, 0o600, PACKED)
    node.host = b"/dev/null"
    learn(guest, b"/secret", node, CONTENT)
    assert guest.post("open", b"/secret", 0, 0) == ASKED
    assert guest.post("stat", b"/secret", 1) == IDLE
    guest.slot.record[3] = Entry.NEEDS_READ
    assert guest.post("open", b"/secret", 0, 0) == IDLE


def test_who_may_not_search_asks_python(guest: Guest) -> None:
    learn(guest, b"/root/f", Node(REGULAR, packed=PACKED), ATTRIBUTES, need=Entry.NEEDS_SEARCH)
    assert guest.post("stat", b"/root/f", 1) == ASKED
    guest.slot.record[3] = Entry.NEEDS_READ
    assert guest.post("stat", b"/root/f", 1) == ASKED
    guest.slot.record[3] = Entry.NEEDS_SEARCH
    assert guest.post("stat", b"/root/f", 1) == IDLE


def test_what_is_not_there(guest: Guest) -> None:
    learn(guest, b"gone", Node(0), EXISTENCE, start=CWD)
    learn(guest, b"gone", Node(0), EXISTENCE, start=CWD, follow=False)
    for call in (
        ("stat", b"gone", 1), ("lstat", b"gone", 1), ("newfstatat", AT_FDCWD, b"gone", 1, 0),
        ("open", b"gone", 0, 0), ("openat", AT_FDCWD, b"gone", os.O_CLOEXEC, 0),
        ("access", b"gone", 0), ("access", b"gone", os.R_OK), ("faccessat", AT_FDCWD, b"gone", 7),
        ("readlink", b"gone", 1, 9), ("readlinkat", AT_FDCWD, b"gone", 1, 9),
    ):  # fmt: skip
        assert guest.post(*call) == IDLE, call
        assert (guest.result, guest.out()[1]) == (-errno.ENOENT, b""), call
    for call in (
        ("open", b"gone", os.O_CREAT, 0o644), ("access", b"gone", 8), ("readlink", b"gone", 1, 0),
        ("openat", 3, b"gone", 0, 0), ("stat", b"/gone", 1),
    ):  # fmt: skip
        assert guest.post(*call) == ASKED, call


def test_links(guest: Guest) -> None:
    link = Node(SYMLINK, packed=PACKED)
    link.text = b"to/somewhere"
    learn(guest, b"/link", link, TEXT, follow=False)
    learn(guest, b"/file", Node(REGULAR), TEXT, follow=False)
    for size, text in ((100, b"to/somewhere"), (12, b"to/somewhere"), (5, b"to/so")):
        assert guest.post("readlink", b"/link", 77, size) == IDLE
        assert (guest.result, guest.out()) == (len(text), (77, text))
    assert guest.post("readlink", b"/link", 77, (1 << 64) - 1) == ASKED
    assert guest.post("readlink", b"/link", 77, 1 << 31) == ASKED
    assert guest.post("lstat", b"/link", 78) == IDLE
    assert guest.out() == (78, PACKED)
    assert guest.post("access", b"/link", 0) == ASKED, "which follows"
    assert guest.post("readlink", b"/file", 77, 100) == IDLE
    assert guest.result == -errno.EINVAL


def test_access_answers_only_whether_it_is_there(guest: Guest) -> None:
    learn(guest, b"/file", Node(REGULAR), EXISTENCE)
    assert guest.post("access", b"/file", 0) == IDLE
    assert guest.result == 0
    assert guest.post("access", b"/file", os.R_OK) == ASKED


def stat_of(mode: int, uid: int) -> bytes:
    """struct stat of device 7, inode 8, with 3 links; 99 behind what is replaced."""
    return struct.pack("<QQQIIIIQ", 7, 8, 3, mode, uid, uid, 0, 0) + bytes([99]) * 96


@pytest.mark.parametrize(("live", "mode"), [(True, 0o100755), (False, 0o104711)])
def test_fstat_tells_who_owns_a_file(guest: Guest, live: bool, mode: int) -> None:
    shown = struct.pack("<QQQIIIIQ", 70, 80, 1, 0o104711, 5, 6, 0, 9) + bytes(96)

    def ask(raw: bytes = stat_of(0o100755, 1000), place: int = 0) -> int:
        """As the stub does: the host's answer comes with the request."""
        guest.slot.mm[PAYLOAD : PAYLOAD + len(raw)] = raw
        guest.slot.q[Slot.IN // 8] = 144 << 32 | place
        return guest.post("fstat", 3, 0x5000)

    assert ask() == ASKED
    guest.answers.learn_file(7, 8, shown, live)
    assert ask() == ASKED, "once is not often"
    guest.answers.learn_file(7, 8, shown, live)
    assert ask() == IDLE
    assert guest.result == 0
    expected = struct.pack("<QQQIIIIQ", 70, 80, 3, mode, 5, 6, 0, 9) + bytes([99]) * 96
    assert guest.out() == (0x5000, expected)
    assert ask(place=8) == ASKED
    assert ask(struct.pack("<QQ", 7, 9)) == ASKED
    guest.answers.forget_file(7, 9)
    assert ask() == IDLE
    guest.answers.forget_file(7, 8)
    assert ask() == ASKED


def test_what_changed_is_forgotten(guest: Guest) -> None:
    nodes = [Node(REGULAR, packed=bytes([n]) * 144) for n in range(3)]
    for n, node in enumerate(nodes):
        learn(guest, b"/%d" % n, node, ATTRIBUTES)
        learn(guest, b"%d" % n, node, ATTRIBUTES, start=CWD)
    victim: Any = nodes[1]
    guest.answers.forget(victim)
    assert [guest.post("stat", b"/%d" % n, 1) for n in range(3)] == [IDLE, ASKED, IDLE]
    assert [guest.post("stat", b"%d" % n, 1) for n in range(3)] == [IDLE, ASKED, IDLE]
    guest.answers.clear()
    assert [guest.post("stat", b"/%d" % n, 1) for n in range(3)] == [ASKED] * 3
    learn(guest, b"/0", nodes[0], ATTRIBUTES)
    assert guest.post("stat", b"/0", 1) == IDLE


def test_a_full_bucket_gives_way(guest: Guest) -> None:
    """Whatever is known is right, and each new path is known at first."""
    made = {b"/%d" % n: bytes([n % 256]) * 144 for n in range(20_000)}
    for path, packed in made.items():
        learn(guest, path, Node(REGULAR, packed=packed), ATTRIBUTES)
        assert guest.post("stat", path, 1) == IDLE
    known = 0
    for path, packed in made.items():
        if guest.post("stat", path, 1) == IDLE:
            known += 1
            assert guest.out() == (1, packed)
    assert known <= Entry.BUCKET << Entry.BUCKET_BITS
    assert known > 3000


def test_python_sees_what_is_not_a_plain_request(guest: Guest) -> None:
    learn(guest, b"/f", Node(REGULAR, packed=PACKED), ATTRIBUTES)
    slot = guest.slot

    def asks(field: int, value: int) -> int:
        slot.q[field // 8] = value
        got = guest.post("stat", b"/f", 1)
        slot.q[field // 8] = 0
        return got

    assert guest.post("stat", b"/f", 1) == IDLE
    assert asks(Slot.HOST_SIGNALS, 1 << 16) == 11
    assert asks(Slot.TRAPS, 7) == IDLE, "the log has room for more"
    assert asks(Slot.TRAPS, 8) == 11
    slot.record[5] = 1  # HOLD
    assert guest.post("stat", b"/f", 1) == 11
    slot.record[5] = 0
    slot.words[1] = 1  # ATTENTION
    assert guest.post("stat", b"/f", 1) == 11
    slot.words[1] = 0
    for state in (State.IDLE, State.PARKED, State.DONE, 77):
        slot.words[0] = state
        guest.ring()
        assert guest.poller.poll() == 11
    guest.poller.know(False)
    assert guest.post("stat", b"/f", 1) == ASKED
    guest.poller.know(True)
    assert guest.post("stat", b"/f", 1) == IDLE
    guest.records.detach(guest.task)
    assert guest.post("stat", b"/f", 1) == 11


def test_hostile_requests(guest: Guest) -> None:
    """Nothing a guest may write in its slot makes the kernel look outside of it."""
    learn(guest, b"/f", Node(REGULAR, packed=PACKED), ATTRIBUTES)
    at = Slot.IN // 8
    for offset in (0, PAYLOAD_SIZE - 128, PAYLOAD_SIZE - 1, PAYLOAD_SIZE, 1 << 20, (1 << 32) - 1):
        for length in (0, 1, 128, 129, 4096, (1 << 32) - 2, (1 << 32) - 1):
            guest.post("stat", b"/f", 1)
            guest.slot.q[at] = length << 32 | offset
            guest.slot.words[0] = State.REQUESTED
            guest.ring()
            assert guest.poller.poll() in (11, ASKED, IDLE)
    for number in (511, 512, 1 << 31, (1 << 32) - 1, (1 << 64) - 1):
        guest.slot.q[Slot.NR // 8] = number
        guest.slot.words[0] = State.REQUESTED
        guest.ring()
        assert guest.poller.poll() in (11, ASKED)


def test_noise_in_the_slot_does_no_harm(guest: Guest) -> None:
    for n in range(50):
        learn(guest, b"/%d" % n, Node(REGULAR, packed=PACKED), ATTRIBUTES)
    chance = random.Random(7)
    for _ in range(20_000):
        for at in (Slot.NR, *range(Slot.ARGS, Slot.ARGS + 48, 8), *range(Slot.IN, Slot.IN + 48, 8)):
            choice = chance.randrange(4)
            value = (chance.getrandbits(64), chance.randrange(300), 2 << 32, 1 << 63)[choice]
            guest.slot.q[at // 8] = value
        guest.slot.mm[PAYLOAD : PAYLOAD + 8] = (b"/%d" % chance.randrange(60)).ljust(8, b"\0")
        guest.slot.words[0] = State.REQUESTED
        guest.ring()
        assert guest.poller.poll() in (11, ASKED, IDLE)


def test_bells_are_looked_at_in_turn(guest: Guest) -> None:
    for index in (2, 19, 0, 9):
        guest.bells[BELLS_FIRST + index] = 1
    assert [guest.poller.poll() for _ in range(5)] == [0, 2, 9, 19, IDLE]


def test_guests_are_told_which_cpu_it_runs_on(guest: Guest) -> None:
    usable = os.sched_getaffinity(0)
    told = memoryview(guest.bells).cast("I")
    try:
        for cpu in usable:
            os.sched_setaffinity(0, {cpu})
            guest.poller.poll()
            assert told[BELLS_CPU // 4] == cpu
    finally:
        os.sched_setaffinity(0, usable)
    told.release()


def test_a_sleeper_is_woken(guest: Guest) -> None:
    libc, state = ctypes.CDLL(None), ctypes.c_void_p(guest.slot.futex_address)
    pid = os.fork()
    if pid == 0:
        guest.slot.words[Slot.SLEEPING // 4] = 1
        while guest.slot.words[0] != State.DONE:
            libc.syscall(FUTEX, state, 0, State.REQUESTED, None, None, 0)
        os._exit(7)
    learn(guest, b"/f", Node(REGULAR, packed=PACKED), ATTRIBUTES)
    while not guest.slot.words[Slot.SLEEPING // 4]:
        os.sched_yield()
    assert guest.post("stat", b"/f", 1) == IDLE
    assert os.waitpid(pid, 0)[1] == 7 << 8


def test_publish(guest: Guest) -> None:
    slot = guest.slot
    slot.words[0] = State.REQUESTED
    guest.poller.publish(slot.futex_address - Slot.STATE)
    assert guest.done


def test_the_hash_is_the_same_on_both_sides() -> None:
    """Where an entry is looked for follows from it; both have been seen to agree above."""
    assert hashed(10, b"/etc/passwd") == hashed(10, b"/etc/passwd\0")
    assert hashed(10, b"/etc/passwd") != hashed(11, b"/etc/passwd")
    assert len({hashed(2, b"/%d" % n) >> 53 for n in range(20_000)}) == 2048
