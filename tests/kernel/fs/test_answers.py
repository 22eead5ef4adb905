"""What generated code answers about paths is what the resolver would say, whatever has happened.

Random changes to a real overlay; after each, whoever is asked again answers the same: the poll loop
from what it has been taught, and a walk that remembers nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
from collections.abc import Iterator
from stat import S_ISREG
from typing import Any

import pytest

from codegen.layout import PAYLOAD, Slot
from codegen.poll_layout import IDLE
from kernel.credentials import Credentials
from kernel.errors import LinuxError
from kernel.fs.resolver import Walk
from kernel.host.linux_fs import fstat_raw
from kernel.syscalls import dirs, files, stat
from tests.kernel.polled import Guest, needs_code

from .conftest import FakeTask, Home, run

AT_FDCWD = -100
FDCWD = AT_FDCWD % (1 << 64)
NAMES = (b"a", b"b", b"link")
PATHS = [
    prefix + b"/".join(parts)
    for prefix in (b"/d/", b"d/", b"", b"/")
    for parts in ((b"a",), (b"b",), (b"link",), (b"a", b"a"), (b"b", b"a"), (b"link", b"b"))
]

pytestmark = needs_code


class Answering:
    """A task whose calls are asked of the poll loop first, of Python where that does not know."""

    def __init__(self, task: FakeTask) -> None:
        self.task: Any = task
        self.mounts = task.process.container.mounts
        self.guest = Guest(self.mounts.answers, task.fs, task.credentials)
        self.known = 0

    def attributes(self, path: bytes, follow: bool) -> bytes | int:
        """stat(2) or lstat(2): what is copied out, or a negative errno."""
        if self.guest.post("stat" if follow else "lstat", path, 1) == IDLE:
            self.known += 1
            return self.guest.result or self.guest.out()[1]
        return self._python(stat.stat if follow else stat.lstat, path, 1)

    def exists(self, path: bytes) -> int:
        """access(2) for F_OK."""
        if self.guest.post("access", path, 0) == IDLE:
            self.known += 1
            return self.guest.result
        answer = self._python(stat.access, path, 0)
        assert isinstance(answer, int)
        return answer

    def text(self, path: bytes) -> bytes | int:
        """readlink(2)."""
        if self.guest.post("readlink", path, 1, 100) == IDLE:
            self.known += 1
            return self.guest.out()[1] if self.guest.result > 0 else self.guest.result
        return self._python(stat.readlink, path, 1, 100)

    def content(self, path: bytes) -> bytes | int:
        """open(2) and read(2) of a regular file; other kinds say 0."""
        if self.guest.post("open", path, 0, 0) == IDLE:
            self.known += 1
            if self.guest.result < 0 and not self.guest.slot.q[Slot.OPS // 8]:
                return self.guest.result
            _, (fd,), _, _ = socket.recv_fds(self.guest.theirs, 16, 2)
        else:
            try:
                answer: Any = files.open(self.task, path, 0, 0)
                answer = run(answer) if hasattr(answer, "send") else answer
            except LinuxError as error:
                return -error.errno
            if isinstance(answer, int):
                return answer
            fd = answer.host_fd
        try:
            return os.read(fd, 100) if S_ISREG(os.fstat(fd).st_mode) else 0
        finally:
            os.close(fd)

    def _python(self, handler: Any, *arguments: Any) -> bytes | int:
        try:
            answer = handler(self.task, *arguments)
        except LinuxError as error:
            return -error.errno
        return answer if isinstance(answer, int) else answer.data

    def open_file(self, fd: int) -> bytes | int:
        """fstat(2) of an unflagged descriptor, after the host's."""
        raw = fstat_raw(fd)
        self.guest.slot.mm[PAYLOAD : PAYLOAD + len(raw)] = raw
        self.guest.slot.q[Slot.IN // 8] = len(raw) << 32
        if self.guest.post("fstat", fd, 1) == IDLE:
            self.known += 1
            return self.guest.result or self.guest.out()[1]
        self.task.slot.q[Slot.ARGS // 8] = fd
        return self._python(stat.fstat, raw, 1)

    def truth(self, path: bytes, follow: bool) -> tuple[bytes | int, bytes | int, bytes | int]:
        """(attributes, link text, content), by a walk that remembers nothing."""
        try:
            node = Walk(self.task, self.task.fs.root).run(self.task.fs.cwd, path, follow)
            if not node.kind:
                raise LinuxError(errno.ENOENT)
        except LinuxError as error:
            return (-error.errno,) * 3
        link: bytes | int = -errno.EINVAL
        if node.kind == 0o120000:
            link = node.readlink(self.task)
        content: bytes | int = 0
        if node.kind == 0o100000:
            fd, _ = node.open(self.task, os.O_RDONLY)
            with os.fdopen(fd, "rb") as file:
                content = file.read()
        return node.packed or node.stat(), link, content


@pytest.fixture
def answering(home: Home) -> Iterator[Answering]:
    home.layer({"d/a": b"lower", "d/link": "a", "b": "d", "a/a": b"deep", "keep/x": b""})
    made = Answering(home.task())
    yield made
    made.guest.close()


def change(task: Any, chance: random.Random) -> None:
    """One change, or an attempt at one."""
    one, other = chance.choice(PATHS), chance.choice(PATHS)
    mode = chance.choice((0o644, 0o600, 0o755, 0o700))

    def write() -> None:
        fd = task.open(one, os.O_WRONLY | chance.choice((0, os.O_CREAT, os.O_TRUNC | os.O_CREAT)))
        os.write(fd, bytes(chance.randrange(9)))
        os.close(fd)

    actions = (
        write,
        write,
        lambda: dirs.unlink(task, one),
        lambda: dirs.mkdir(task, one, mode),
        lambda: dirs.rmdir(task, one),
        lambda: dirs.rename(task, one, other),
        lambda: dirs.rename(task, one, other),
        lambda: dirs.symlink(task, chance.choice((b"a", b"/d", b"../b", b"nowhere")), one),
        lambda: dirs.link(task, one, other),
        lambda: dirs.chmod(task, one, mode),
        lambda: dirs.chown(task, one, chance.randrange(3), 0),
        lambda: dirs.truncate(task, one, chance.randrange(20)),
        lambda: dirs.chdir(task, chance.choice((b"/", b"/d", b"..", one))),
    )
    with contextlib.suppress(LinuxError, OSError):
        answer = chance.choice(actions)()  # type: ignore[no-untyped-call]
        if hasattr(answer, "send"):
            run(answer)


@pytest.mark.parametrize("seed", range(12))
def test_the_poll_loop_says_what_the_resolver_says(answering: Answering, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(60):
        change(answering.task, chance)
        for _ in range(3):
            for path in chance.sample(PATHS, 8):
                attributes, _, content = answering.truth(path, follow=True)
                assert answering.content(path) == content, path
                assert answering.attributes(path, follow=True) == attributes, path
                exists = attributes if isinstance(attributes, int) else 0
                assert answering.exists(path) == exists, path
                attributes, text, _ = answering.truth(path, follow=False)
                assert answering.attributes(path, follow=False) == attributes, path
                assert answering.text(path) == text, path
    assert answering.known > 1000


@pytest.mark.parametrize("seed", range(6))
def test_fstat_says_what_stat_says(answering: Answering, seed: int) -> None:
    """Who owns a file and what it is; size and times are the host's anyway."""
    chance, task = random.Random(seed), answering.task
    for _ in range(80):
        change(task, chance)
        for path in chance.sample(PATHS, 10):
            try:
                node = Walk(task, task.fs.root).run(task.fs.cwd, path, follow=True)
            except LinuxError:
                continue
            if node.kind != 0o100000:
                continue
            told = node.stat()
            fd, _ = node.open(task, os.O_RDONLY)
            for _ in range(3):
                seen = answering.open_file(fd)
                assert isinstance(seen, bytes)
                assert seen[:16] + seen[24:48] == told[:16] + told[24:48], path
            os.close(fd)
    assert answering.known > 100


def test_a_change_of_root_or_mounts_is_a_change_of_answers(answering: Answering) -> None:
    task = answering.task
    for _ in range(3):
        assert answering.content(b"/d/a") == b"lower"
    known = answering.known
    dirs.chroot(task, b"/d")
    assert answering.content(b"/d/a") == -errno.ENOENT
    assert answering.content(b"/a") == b"lower"
    assert known >= 1


def test_a_private_directory_is_not_for_everybody(answering: Answering) -> None:
    task = answering.task
    dirs.chmod(task, b"/d", 0o700)
    for _ in range(3):
        assert answering.exists(b"/d/a") == 0
    assert answering.known == 1
    nobody = Credentials(uid=7, euid=7, fsuid=7, permitted=0, effective=0, bounding=0)
    task.credentials = nobody
    answering.guest.slot.record[3] = 0
    assert answering.exists(b"/d/a") == -errno.EACCES
