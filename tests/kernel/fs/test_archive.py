"""Tar streams out of and into a container, and what it changed."""

from __future__ import annotations

import io
import os
import tarfile

import pytest

from kernel.errors import LinuxError
from kernel.fs import archive, attributes, naming
from kernel.fs.changes import ADDED, DELETED, MODIFIED, changes
from kernel.fs.layer import LayerError, unpack
from kernel.fs.metadata import CHARACTER
from kernel.fs.resolver import resolve

from .conftest import FakeTask, Home
from .test_layer import attributes as stat
from .test_layer import file, link, tar


def busy(home: Home) -> FakeTask:
    home.layer({"etc/passwd": b"root", "usr/bin/a": b"a", "usr/bin/b": b"b", "usr/lib/x/y": b"y"})
    task = home.container()
    cwd = task.fs.cwd
    task.write(b"/usr/bin/a", b"changed")
    naming.remove_name(task, cwd, b"/usr/bin/b")
    naming.rename(task, cwd, b"/usr/lib", cwd, b"/lib2", 0)
    naming.make_directory(task, cwd, b"/usr/lib", 0o755)
    task.write(b"/usr/lib/new", b"n")
    naming.make_link(task, cwd, b"/usr/lib/new", cwd, b"/hard", follow=False)
    naming.make_symlink(task, b"/nowhere", cwd, b"/sym")
    naming.make_node(task, cwd, b"/dev0", CHARACTER | 0o640, os.makedev(1, 3))
    attributes.change_owner(task, resolve(task, cwd, b"/hard"), 5, 6)
    resolve(task, cwd, b"/hard").set_xattrs({b"user.k": b"\xff\0v"})
    task.write(b"/dev/shm/private", b"")
    return task


def test_diff_tells_what_changed(home: Home) -> None:
    task = busy(home)
    found = [(c.kind, c.path) for c in changes(task.process.container.mounts.root)]
    assert found == [
        (ADDED, b"/dev0"),
        (ADDED, b"/hard"),
        (ADDED, b"/lib2"),
        (ADDED, b"/lib2/x"),
        (ADDED, b"/lib2/x/y"),
        (ADDED, b"/sym"),
        (MODIFIED, b"/usr"),
        (MODIFIED, b"/usr/bin"),
        (MODIFIED, b"/usr/bin/a"),
        (DELETED, b"/usr/bin/b"),
        (MODIFIED, b"/usr/lib"),
        (ADDED, b"/usr/lib/new"),
        (DELETED, b"/usr/lib/x"),
    ]


def test_an_untouched_container_has_no_changes(home: Home) -> None:
    home.layer({"etc/passwd": b""})
    assert changes(home.container().process.container.mounts.root) == []


def everything(task: FakeTask, top: bytes = b"") -> dict[bytes, object]:
    found: dict[bytes, object] = {}
    for name in task.names(top or b"/"):
        path = top + b"/" + name
        a = stat(task, path)
        found[path] = (
            a.mode,
            a.uid,
            a.gid,
            a.rdev,
            a.nlink if a.mode >> 12 != 4 else 0,
            a.mtime_ns,
        )
        node = resolve(task, task.fs.cwd, path, follow=False)
        if a.mode >> 12 == 4:
            found |= everything(task, path)
        elif a.mode >> 12 == 8:
            found[path + b"?"] = (task.read(path), node.xattrs())
        elif a.mode >> 12 == 10:
            found[path + b"?"] = node.readlink(task)
    return found


def test_a_committed_layer_gives_the_same_tree(home: Home) -> None:
    task = busy(home)
    overlay = task.process.container.mounts.root
    data = b"".join(archive.layer(task, overlay.root, changes(overlay)))
    unpack(io.BytesIO(data), os.fsencode(home.path / "committed"))
    exported = b"".join(archive.export(task, overlay.root))
    unpack(io.BytesIO(exported), os.fsencode(home.path / "exported"))
    layers = home.layers
    plain = FakeTask(home.mount())
    seen = everything(plain)
    for stack in (
        [os.fsencode(home.path / "committed"), *layers],
        [os.fsencode(home.path / "exported")],
    ):
        other = Home(home.path / "again")
        other.layers = stack
        other.path.mkdir(exist_ok=True)
        placeholders = (b"/dev", b"/proc", b"/sys", b"/.dockerenv", b"/etc/")
        again = everything(other.task())
        expected = {
            k: v for k, v in seen.items() if not k.startswith(placeholders) or k == b"/dev0"
        }
        got = {k: v for k, v in again.items() if not k.startswith(placeholders) or k == b"/dev0"}
        assert got == expected


def test_cp_out_includes_mounts(home: Home) -> None:
    (home.path / "vol").mkdir()
    (home.path / "vol/f").write_bytes(b"volume")
    home.layer({"srv/g": b"g"})
    volume = {"type": "bind", "source": os.fspath(home.path / "vol"), "target": "/srv/data"}
    task = home.container(mounts=[{**volume, "readonly": False, "options": []}])
    node = resolve(task, task.fs.cwd, b"/srv")
    data = b"".join(archive.get(task, node, b"srv"))
    with tarfile.open(fileobj=io.BytesIO(data)) as archived:
        names = sorted(archived.getnames())
        assert names == ["srv", "srv/data", "srv/data/f", "srv/g"]
        member = archived.extractfile("srv/data/f")
        assert member is not None
        assert member.read() == b"volume"


def test_cp_in_follows_the_containers_links(home: Home) -> None:
    home.layer({"data/old": b"1", "link": "/data"})
    task = home.container()
    root = resolve(task, task.fs.cwd, b"/")
    members = (file("link/new", b"2", uid=7), file("deep/er/f", b"3"), link("s", "deep"))
    for _ in archive.put(task, root, io.BytesIO(tar(*members))):
        pass
    assert task.read(b"/data/new") == b"2"
    assert stat(task, b"/data/new").uid == 7
    assert task.read(b"/s/er/f") == b"3"
    for _ in archive.put(task, root, io.BytesIO(tar(file("deep"))), owner=(3, 4)):
        pass
    assert (stat(task, b"/deep").uid, stat(task, b"/deep").gid) == (3, 4)
    with pytest.raises(LayerError):
        list(archive.put(task, root, io.BytesIO(tar(file("data"))), keep_kind=True))
    with pytest.raises(LayerError):
        list(archive.put(task, root, io.BytesIO(tar(file("../x")))))
    with pytest.raises(LinuxError):
        list(archive.put(task, root, io.BytesIO(tar(file("proc/x")))))
