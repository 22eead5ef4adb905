"""The overlay: what layers and the upper directory are together, and how it changes."""

from __future__ import annotations

import errno
import mmap
import os
from typing import Any

import pytest

from kernel.fs import attributes, naming, overlay
from kernel.fs.metadata import unpack
from kernel.fs.resolver import resolve, walk

from .conftest import FakeTask, Home, dirents, fails


def stat(task: FakeTask, path: bytes, follow: bool = True) -> Any:
    return unpack(resolve(task, task.fs.cwd, path, follow).stat())


def two_layers(home: Home) -> FakeTask:
    home.layer(
        {"etc/passwd": b"root", "usr/bin/tool": b"old", "usr/share/doc": None, "lib": "usr/lib"}
    )
    home.layer({"usr/bin/tool": b"new", "usr/lib/libc": b"c", "usr/bin/extra": b"x"})
    return home.task()


def test_upper_layers_hide_lower_ones(home: Home) -> None:
    task = two_layers(home)
    assert task.read(b"/usr/bin/tool") == b"new"
    assert task.read(b"/etc/passwd") == b"root"
    assert task.read(b"/lib/libc") == b"c"
    assert task.names(b"/usr/bin") == [b"extra", b"tool"]
    assert task.names(b"/usr") == [b"bin", b"lib", b"share"]


def test_writing_copies_up_and_leaves_the_layer_alone(home: Home) -> None:
    task = two_layers(home)
    before = stat(task, b"/usr/bin/tool")
    task.write(b"/usr/bin/tool", b"changed", os.O_APPEND)
    assert task.read(b"/usr/bin/tool") == b"newchanged"
    after = stat(task, b"/usr/bin/tool")
    assert (after.ino, after.dev) == (before.ino, before.dev)
    assert after.size == 10
    assert (home.path / "layer1/root/usr/bin/tool").read_bytes() == b"new"
    assert stat(home.task(), b"/usr/bin/tool").ino == before.ino


def test_removed_names_stay_removed_after_a_restart(home: Home) -> None:
    task = two_layers(home)
    naming.remove_name(task, task.fs.cwd, b"/usr/bin/tool")
    fails(errno.ENOENT, task.read, b"/usr/bin/tool")
    assert task.names(b"/usr/bin") == [b"extra"]
    naming.remove_name(task, task.fs.cwd, b"/usr/bin/extra")
    naming.remove_directory(task, task.fs.cwd, b"/usr/bin")
    again = home.task()
    assert again.names(b"/usr") == [b"lib", b"share"]
    naming.make_directory(again, again.fs.cwd, b"/usr/bin", 0o755)
    assert again.names(b"/usr/bin") == []
    assert home.task().names(b"/usr/bin") == []


def test_a_whiteout_is_made_only_if_a_layer_has_the_name(home: Home) -> None:
    task = two_layers(home)
    task.write(b"/etc/fresh", b"1")
    naming.remove_name(task, task.fs.cwd, b"/etc/fresh")
    assert not any(task.process.container.mounts.root.owners.whiteouts.values())
    task.write(b"/etc/fresh", b"2")
    assert home.task().read(b"/etc/fresh") == b"2"


def test_renaming_a_lower_directory_takes_everything_along(home: Home) -> None:
    task = two_layers(home)
    naming.rename(task, task.fs.cwd, b"/usr", task.fs.cwd, b"/opt", 0)
    for fresh in (task, home.task()):
        fails(errno.ENOENT, fresh.read, b"/usr/bin/tool")
        assert fresh.read(b"/opt/bin/tool") == b"new"
        assert fresh.names(b"/opt/bin") == [b"extra", b"tool"]
        assert fresh.names(b"/") == [b"etc", b"lib", b"opt"]


def test_ownership_and_special_modes_persist(home: Home) -> None:
    task = two_layers(home)
    node = resolve(task, task.fs.cwd, b"/usr/bin/tool")
    attributes.change_owner(task, node, 33, 44)
    attributes.change_mode(task, resolve(task, task.fs.cwd, b"/usr/bin/tool"), 0o4510)
    for fresh in (task, home.task()):
        a = stat(fresh, b"/usr/bin/tool")
        assert (a.uid, a.gid, a.mode & 0o7777) == (33, 44, 0o4510)
        assert fresh.read(b"/usr/bin/tool") == b"new"
    attributes.change_owner(task, resolve(task, task.fs.cwd, b"/usr/bin/tool"), 0, 0xFFFFFFFF)
    assert stat(task, b"/usr/bin/tool").mode & 0o7777 == 0o510


def test_hard_links_share_everything(home: Home) -> None:
    task = two_layers(home)
    cwd = task.fs.cwd
    naming.make_link(task, cwd, b"/usr/bin/tool", cwd, b"/tool2", follow=False)
    task.write(b"/tool2", b"both", os.O_TRUNC)
    attributes.change_mode(task, resolve(task, cwd, b"/tool2"), 0o700)
    one, two = stat(task, b"/usr/bin/tool"), stat(task, b"/tool2")
    assert one == two
    assert one.nlink == 2
    assert task.read(b"/usr/bin/tool") == b"both"
    naming.remove_name(task, cwd, b"/tool2")
    assert stat(task, b"/usr/bin/tool").nlink == 1


def test_getdents_gives_dots_stable_offsets_and_rewinds(home: Home) -> None:
    home.layer({f"d/file{i:04}": b"" for i in range(3000)})
    task = home.task()
    fd = task.open(b"/d", os.O_RDONLY | os.O_DIRECTORY)
    entries = dirents(task, fd, 4096)
    assert [e[0] for e in entries[:2]] == [b".", b".."]
    assert entries[0][1] == stat(task, b"/d").ino
    assert entries[1][1] == stat(task, b"/").ino
    assert len(entries) == 3002
    assert len({e[0] for e in entries}) == 3002
    assert all(e[1] == stat(task, b"/d/" + e[0]).ino for e in entries[2:50])
    assert dirents(task, fd) == []
    task.write(b"/d/zz", b"")
    task.file(fd).seek(task, 0, os.SEEK_SET)
    assert len(dirents(task, fd)) == 3003
    task.close(fd)


def test_links_stay_inside(home: Home) -> None:
    home.layer(
        {
            "escape": "/../../../../../etc",
            "up": "../../../../..",
            "loop": "loop",
            "a/b/c": None,
            "a/link": "/a/b/",
            "etc/motd": b"inside",
        }
    )
    task = home.task()
    assert task.read(b"/escape/motd") == b"inside"
    assert task.read(b"/up/etc/motd") == b"inside"
    assert task.read(b"/../../etc/motd") == b"inside"
    assert task.read(b"/a/link/c/../../../etc/motd") == b"inside"
    fails(errno.ELOOP, task.read, b"/loop")
    fails(errno.ELOOP, task.open, b"/escape", os.O_NOFOLLOW)
    fails(errno.ENOTDIR, task.open, b"/etc/motd/")
    fails(errno.ENOTDIR, task.open, b"/etc/motd/x")
    fails(errno.ENAMETOOLONG, task.open, b"/" + b"x" * 256)
    fails(errno.ENAMETOOLONG, task.open, b"/x" * 2048)
    fails(errno.ENOENT, task.open, b"")


def test_remembered_walks_see_changes(home: Home) -> None:
    home.layer({"a/f": b"1", "l": "a", "b/f": b"2"})
    task = home.task()
    cwd = task.fs.cwd
    assert task.read(b"/l/f") == b"1"
    assert not walk(task, cwd, b"/l/g").kind
    task.write(b"/a/g", b"g")
    assert task.read(b"/l/g") == b"g"
    task.write(b"/file", b"no link")
    naming.rename(task, cwd, b"/file", cwd, b"/l", 0)
    fails(errno.ENOTDIR, task.read, b"/l/f")
    naming.remove_name(task, cwd, b"/l")
    naming.make_symlink(task, b"b", cwd, b"/l")
    assert task.read(b"/l/f") == b"2"
    naming.rename(task, cwd, b"/b", cwd, b"/c", 0)
    fails(errno.ENOENT, task.read, b"/l/f")
    naming.rename(task, cwd, b"/a", cwd, b"/b", 0)
    assert task.read(b"/l/f") == b"1"
    task.write(b"/b/new", b"n")
    naming.rename(task, cwd, b"/b/new", cwd, b"/b/f", 0)
    assert task.read(b"/l/f") == b"n"
    fails(errno.ENOENT, task.read, b"/b/new")


def test_stat_sees_what_descriptors_do(home: Home) -> None:
    home.layer({"f": b"x"})
    task = home.task()
    assert stat(task, b"/f").size == 1
    fd = task.open(b"/f", os.O_RDWR)
    os.write(fd, b"12345")
    assert stat(task, b"/f").size == 5
    mounts = task.process.container.mounts
    from kernel.host.linux_fs import fstat_raw

    assert unpack(mounts.present(task, fd, fstat_raw(fd))) == stat(task, b"/f")
    os.close(fd)


def test_nodes_nobody_holds_are_forgotten(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "MOST_NODES", 300)
    home.layer({f"d{i % 20}/f{i}": b"x" for i in range(2000)})
    task = home.task()
    held = resolve(task, task.fs.cwd, b"/d1/f1")
    task.fs.change_directory(resolve(task, task.fs.cwd, b"/d3"))
    fd = task.open(b"/d5", os.O_RDONLY | os.O_DIRECTORY)
    writing = task.open(b"/d7/f7", os.O_WRONLY)
    for i in range(2000):
        assert stat(task, b"/d%d/f%d" % (i % 20, i)).size == 1
    root = task.process.container.mounts.root
    assert root._count < 700
    assert resolve(task, task.fs.cwd, b"/d1/f1") is held
    assert resolve(task, task.fs.cwd, b"../d3") is task.fs.cwd
    assert resolve(task, task.fs.cwd, b"/d5") is task.file(fd).node
    os.write(writing, b"12345")
    assert stat(task, b"/d7/f7").size == 5
    os.close(writing)
    task.close(fd)


def _settles(task: FakeTask, path: bytes) -> bool:
    """Whether the attributes are kept after some questions."""
    node = resolve(task, task.fs.cwd, path)
    for _ in range(64):
        node.stat()
    return node.packed is not None


def test_attributes_are_asked_for_while_a_file_may_be_written(home: Home) -> None:
    task = two_layers(home)
    fd = task.open(b"/file", os.O_CREAT | os.O_RDWR)
    for size in range(1, 20):
        os.write(fd, b"x")
        assert stat(task, b"/file").size == size
    assert not _settles(task, b"/file")
    memory = mmap.mmap(fd, 19)
    task.close(fd)
    assert not _settles(task, b"/file")  # the mapping may change it, too
    memory.close()
    assert _settles(task, b"/file")
    assert stat(task, b"/file").size == 19
    fd = task.open(b"/file", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"more")
    assert stat(task, b"/file").size == 23
    task.close(fd)


def test_a_kept_file_shows_that_it_was_read(home: Home) -> None:
    task = two_layers(home)
    task.write(b"/file", b"text")
    long_ago = 1_000_000_000 * 10**9
    resolve(task, task.fs.cwd, b"/file").set_times(long_ago, long_ago)
    assert _settles(task, b"/file")
    assert stat(task, b"/file").atime_ns == long_ago
    assert task.read(b"/file") == b"text"
    host = resolve(task, task.fs.cwd, b"/file").host_path()
    assert host is not None
    assert stat(task, b"/file").atime_ns == os.stat(host).st_atime_ns
