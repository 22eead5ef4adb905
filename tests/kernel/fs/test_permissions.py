"""Who may do what: emulated owners decide, as in credentials(7) and path_resolution(7)."""

from __future__ import annotations

import errno
import os

import pytest

from kernel.credentials import Credentials
from kernel.fs import attributes, naming
from kernel.fs.metadata import CHARACTER
from kernel.fs.resolver import resolve, walk

from .conftest import FakeTask, Home, fails

BOB = Credentials(
    uid=1000, euid=1000, suid=1000, fsuid=1000, gid=1000, egid=1000, sgid=1000, fsgid=1000,
    groups=frozenset((50,)), effective=0, permitted=0,
)  # fmt: skip


@pytest.fixture
def tree(home: Home) -> FakeTask:
    """root's and bob's files."""
    home.layer(
        {"root/secret": b"s", "home/bob/f": b"f", "srv/shared/x": b"x", "tmp/a": b"a", "etc/p": b""}
    )
    task = home.task()
    cwd = task.fs.cwd
    attributes.change_mode(task, resolve(task, cwd, b"/root"), 0o700)
    attributes.change_mode(task, resolve(task, cwd, b"/tmp"), 0o1777)
    for path in (b"/home/bob", b"/home/bob/f"):
        attributes.change_owner(task, resolve(task, cwd, path), 1000, 1000)
    attributes.change_owner(task, resolve(task, cwd, b"/srv/shared"), 0, 50)
    attributes.change_mode(task, resolve(task, cwd, b"/srv/shared"), 0o2775)
    assert walk(task, cwd, b"/root/secret").kind  # remembered, but not for everybody
    return task


def test_search_permission_guards_remembered_walks_too(tree: FakeTask) -> None:
    bob = FakeTask(tree.process.container.mounts, BOB)
    fails(errno.EACCES, walk, bob, bob.fs.cwd, b"/root/secret")
    fails(errno.EACCES, walk, bob, bob.fs.cwd, b"/root/none")
    assert walk(tree, tree.fs.cwd, b"/root/secret").kind
    fails(errno.EACCES, walk, bob, bob.fs.cwd, b"/root/secret")
    attributes.change_mode(tree, resolve(tree, tree.fs.cwd, b"/root"), 0o711)
    assert bob.read(b"/root/secret") == b"s"
    attributes.change_mode(tree, resolve(tree, tree.fs.cwd, b"/root"), 0o700)
    fails(errno.EACCES, bob.read, b"/root/secret")


def test_reading_and_writing_need_their_bits(tree: FakeTask) -> None:
    bob = FakeTask(tree.process.container.mounts, BOB)
    bob.write(b"/home/bob/f", b"mine")
    fails(errno.EACCES, bob.open, b"/etc/p", os.O_WRONLY)
    fails(errno.EACCES, bob.open, b"/etc/new", os.O_WRONLY | os.O_CREAT)
    bob.write(b"/tmp/new", b"")
    made = resolve(bob, bob.fs.cwd, b"/tmp/new").attributes()
    assert (made.uid, made.gid, made.mode & 0o777) == (1000, 1000, 0o644)
    attributes.change_mode(bob, resolve(bob, bob.fs.cwd, b"/home/bob/f"), 0o000)
    fails(errno.EACCES, bob.read, b"/home/bob/f")
    assert tree.read(b"/home/bob/f") == b"mine"  # CAP_DAC_OVERRIDE
    fails(
        errno.EACCES, attributes.access, tree, resolve(tree, tree.fs.cwd, b"/home/bob/f"), 1, True
    )


def test_setgid_directories_hand_on_their_group(tree: FakeTask) -> None:
    bob = FakeTask(tree.process.container.mounts, BOB)
    bob.write(b"/srv/shared/new", b"")
    assert resolve(bob, bob.fs.cwd, b"/srv/shared/new").attributes().gid == 50
    naming.make_directory(bob, bob.fs.cwd, b"/srv/shared/sub", 0o755)
    sub = resolve(bob, bob.fs.cwd, b"/srv/shared/sub").attributes()
    assert (sub.gid, sub.mode & 0o7777) == (50, 0o2755)


def test_sticky_directories_protect_names(tree: FakeTask) -> None:
    bob = FakeTask(tree.process.container.mounts, BOB)
    cwd = bob.fs.cwd
    fails(errno.EPERM, naming.remove_name, bob, cwd, b"/tmp/a")
    fails(errno.EPERM, naming.rename, bob, cwd, b"/tmp/a", cwd, b"/tmp/b", 0)
    bob.write(b"/tmp/mine", b"")
    naming.remove_name(bob, cwd, b"/tmp/mine")


def test_only_owners_change_attributes(tree: FakeTask) -> None:
    bob = FakeTask(tree.process.container.mounts, BOB)
    cwd = bob.fs.cwd
    fails(errno.EPERM, attributes.change_mode, bob, resolve(bob, cwd, b"/etc/p"), 0o777)
    mine = resolve(bob, cwd, b"/home/bob/f")
    fails(errno.EPERM, attributes.change_owner, bob, mine, 0, attributes.KEEP)
    fails(errno.EPERM, attributes.change_owner, bob, mine, attributes.KEEP, 7)
    attributes.change_owner(bob, mine, attributes.KEEP, 50)
    attributes.change_mode(bob, mine, 0o2755)
    assert mine.attributes().mode & 0o7777 == 0o2755  # in group 50
    fails(errno.EPERM, attributes.set_times, bob, resolve(bob, cwd, b"/etc/p"), (1, 1, False))
    fails(errno.EACCES, attributes.set_times, bob, resolve(bob, cwd, b"/etc/p"), (1, 1, True))
    fails(errno.EPERM, naming.make_node, bob, cwd, b"/tmp/null", CHARACTER | 0o666, 259)


def test_access_asks_for_the_real_ids(tree: FakeTask) -> None:
    from dataclasses import replace

    setuid_root = replace(BOB, euid=0, suid=0, fsuid=0, effective=(1 << 41) - 1)
    task = FakeTask(tree.process.container.mounts, setuid_root)
    secret = resolve(task, task.fs.cwd, b"/root/secret")
    attributes.change_mode(task, secret, 0o600)
    fails(errno.EACCES, attributes.access, task, secret, 4, False)
    attributes.access(task, secret, 4, True)


def test_a_read_only_root_refuses_changes(home: Home) -> None:
    home.layer({"etc/p": b"1"})
    task = home.container(readonly_rootfs=True)
    cwd = task.fs.cwd
    fails(errno.EROFS, task.open, b"/etc/p", os.O_WRONLY)
    fails(errno.EROFS, task.open, b"/etc/new", os.O_WRONLY | os.O_CREAT)
    fails(errno.EROFS, naming.make_directory, task, cwd, b"/x", 0o755)
    fails(errno.EEXIST, naming.make_directory, task, cwd, b"/etc", 0o755)
    fails(errno.EROFS, naming.remove_name, task, cwd, b"/etc/p")
    fails(errno.EROFS, attributes.change_mode, task, resolve(task, cwd, b"/etc/p"), 0)
    fails(errno.EROFS, attributes.access, task, resolve(task, cwd, b"/etc/p"), 2, True)
    task.write(b"/dev/shm/x", b"")
    task.write(b"/etc/hosts", b"mine", 0)
