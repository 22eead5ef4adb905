"""Host directories inside a container: shared, not cached, and no way out."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from kernel.credentials import Credentials
from kernel.errors import LinuxError
from kernel.fs import attributes, naming
from kernel.fs.resolver import resolve, walk
from kernel.host import linux_fs

from .conftest import FakeTask, Home, fails


def bind(home: Home, **fields: object) -> tuple[FakeTask, Path]:
    place = home.path / "shared"
    place.mkdir()
    home.layer({"etc/passwd": b"container's", "srv": None})
    entry = {"type": "bind", "source": os.fspath(place), "target": "/srv/data", "readonly": False}
    return home.container(mounts=[{**entry, "options": [], **fields}]), place


@pytest.fixture(params=[True, False], ids=["openat2", "stepwise"])
def beneath(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of staying beneath the mount."""
    monkeypatch.setattr(linux_fs, "HAVE_OPENAT2", request.param and linux_fs.HAVE_OPENAT2)


@pytest.mark.usefixtures("beneath")
def test_both_sides_see_each_others_changes(home: Home) -> None:
    task, place = bind(home)
    (place / "from-host").write_bytes(b"1")
    assert task.read(b"/srv/data/from-host") == b"1"
    task.write(b"/srv/data/from-guest", b"2")
    assert (place / "from-guest").read_bytes() == b"2"
    (place / "from-host").unlink()
    fails(errno.ENOENT, task.read, b"/srv/data/from-host")
    assert task.names(b"/srv/data") == [b"from-guest"]
    a = resolve(task, task.fs.cwd, b"/srv/data/from-guest").attributes()
    assert (a.uid, a.gid) == (0, 0)
    cwd = task.fs.cwd
    naming.make_directory(task, cwd, b"/srv/data/d", 0o755)
    naming.rename(task, cwd, b"/srv/data/from-guest", cwd, b"/srv/data/d/moved", 0)
    naming.make_link(task, cwd, b"/srv/data/d/moved", cwd, b"/srv/data/two", follow=False)
    naming.make_symlink(task, b"d/moved", cwd, b"/srv/data/link")
    assert task.read(b"/srv/data/link") == b"2"
    attributes.set_times(task, resolve(task, cwd, b"/srv/data/two"), (5, 6, False))
    assert (place / "two").stat().st_mtime_ns == 6
    attributes.truncate(task, resolve(task, cwd, b"/srv/data/two"), 0)
    assert (place / "d/moved").read_bytes() == b""
    fails(errno.EXDEV, naming.rename, task, cwd, b"/srv/data/two", cwd, b"/two", 0)
    naming.remove_name(task, cwd, b"/srv/data/d/moved")
    naming.remove_directory(task, cwd, b"/srv/data/d")
    assert sorted(os.listdir(place)) == ["link", "two"]


@pytest.mark.usefixtures("beneath")
def test_links_lead_into_the_container_never_to_the_host(home: Home) -> None:
    task, place = bind(home)
    (place / "absolute").symlink_to("/etc/passwd")
    (place / "relative").symlink_to("../../etc/passwd")
    (place / "far").symlink_to("../" * 30 + "etc/passwd")
    (place / "dir").symlink_to("/etc")
    for name in (b"absolute", b"relative", b"far", b"dir/passwd"):
        assert task.read(b"/srv/data/" + name) == b"container's"
    assert task.read(b"/srv/data/../../etc/passwd") == b"container's"
    task.fs.change_directory(resolve(task, task.fs.cwd, b"/srv/data"))
    assert task.fs.cwd.path(task.fs.root) == b"/srv/data"
    above = walk(task, task.fs.cwd, b"..")
    assert above.path(task.fs.root) == b"/srv"


def test_deep_paths_take_short_cuts_that_change_nothing(home: Home) -> None:
    task, place = bind(home)
    deep = place / "a/b/c/d"
    deep.mkdir(parents=True)
    (deep / "f").write_bytes(b"deep")
    (place / "link").symlink_to("a/b")
    (place / "a/b/out").symlink_to("/etc")
    assert task.read(b"/srv/data/a/b/c/d/f") == b"deep"
    assert task.read(b"/srv/data/link/c/d/../d/./f") == b"deep"
    assert task.read(b"/srv/data/a/b/out/passwd") == b"container's"
    node = resolve(task, task.fs.cwd, b"/srv/data/a/b/c/d/f")
    assert node.path(task.fs.root) == b"/srv/data/a/b/c/d/f"
    fails(errno.ENOENT, task.read, b"/srv/data/a/b/none/d/f")
    fails(errno.ENOTDIR, task.read, b"/srv/data/a/b/c/d/f/g")
    task.fs.change_directory(resolve(task, task.fs.cwd, b"/srv/data/a/b"))
    assert task.read(b"c/d/f") == b"deep"
    (place / "a/b").chmod(0o700)
    bob = FakeTask(task.process.container.mounts, Credentials(
        uid=7, euid=7, suid=7, fsuid=7, gid=7, egid=7, sgid=7, fsgid=7, effective=0))  # fmt: skip
    bob.fs.change_directory(resolve(task, task.fs.cwd, b"c/d"))
    assert bob.read(b"f") == b"deep"
    fails(errno.EACCES, bob.read, b"../../c/d/f")
    fails(errno.EACCES, bob.read, b"/srv/data/a/b/c/d/f")


def test_a_name_that_turns_into_a_link_meanwhile_leads_nowhere(home: Home) -> None:
    """Another container sharing the volume swaps a directory for a link to the host."""
    task, place = bind(home)
    outside = home.path / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(b"host's")
    (place / "real").mkdir()
    (place / "real/f").write_bytes(b"ours")
    (place / "evil").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        descriptor = os.open(place, os.O_RDONLY)
        while not stop.is_set():
            linux_fs.rename_flags_at(descriptor, b"real", descriptor, b"evil", 2)
        os.close(descriptor)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for i in range(2000):
            name = b"/srv/data/real/"
            try:
                assert task.read(name + b"f") == b"ours"
                task.write(name + b"new%d" % (i % 3), b"x")
                attributes.change_mode(task, resolve(task, task.fs.cwd, name + b"f"), 0o600)
                naming.make_directory(task, task.fs.cwd, name + b"d", 0o700)
                naming.remove_directory(task, task.fs.cwd, name + b"d")
            except LinuxError as error:
                assert error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EEXIST)  # noqa: PT017
    finally:
        stop.set()
        thread.join()
    assert os.listdir(outside) == ["f"]
    assert (outside / "f").stat().st_mode & 0o777 == 0o644 or os.umask(0) == 0


def test_owners_travel_with_a_volume(home: Home) -> None:
    task, place = bind(home, options=["volume"])
    task.write(b"/srv/data/db", b"")
    attributes.change_owner(task, resolve(task, task.fs.cwd, b"/srv/data/db"), 999, 998)
    attributes.change_mode(task, resolve(task, task.fs.cwd, b"/srv/data/db"), 0o4700)
    resolve(task, task.fs.cwd, b"/srv/data/db").set_xattrs({b"user.a": b"1", b"security.x": b"2"})
    other = home.container(
        mounts=[{
            "type": "bind", "source": os.fspath(place), "target": "/data", "readonly": True,
            "options": ["volume"],
        }]
    )  # fmt: skip
    node = resolve(other, other.fs.cwd, b"/data/db")
    a = node.attributes()
    assert (a.uid, a.gid, a.mode & 0o7777) == (999, 998, 0o4700)
    assert node.xattrs() == {b"user.a": b"1", b"security.x": b"2"}
    assert (place / "db").stat().st_mode & 0o7777 == 0o700
    fails(errno.EROFS, other.open, b"/data/db", os.O_RDWR)
    fd = other.open(b"/data/db")
    raw = linux_fs.fstat_raw(fd)
    assert other.process.container.mounts.present(other, fd, raw)[24:36] == a_head(a)
    os.close(fd)


def a_head(a: object) -> bytes:
    import struct

    return struct.pack("<III", a.mode, a.uid, a.gid)  # type: ignore[attr-defined]


def test_a_new_volume_gets_the_images_files(home: Home) -> None:
    home.layer({"var/lib/db/conf/a": b"1", "var/lib/db/link": "conf"})
    place = home.path / "vol"
    place.mkdir()
    task = home.container(
        mounts=[{
            "type": "bind", "source": os.fspath(place), "target": "/var/lib/db", "readonly": False,
            "options": ["volume", "copy"],
        }]
    )  # fmt: skip
    assert task.read(b"/var/lib/db/link/a") == b"1"
    assert (place / "conf/a").read_bytes() == b"1"


def test_a_single_file_can_be_mounted(home: Home) -> None:
    source = home.path / "config"
    source.write_bytes(b"cfg")
    task = home.container(
        mounts=[{
            "type": "bind", "source": os.fspath(source), "target": "/etc/app/config",
            "readonly": False, "options": [],
        }]
    )  # fmt: skip
    assert task.read(b"/etc/app/config") == b"cfg"
    task.write(b"/etc/app/config", b"new", os.O_TRUNC)
    assert source.read_bytes() == b"new"
    fails(errno.EBUSY, naming.remove_name, task, task.fs.cwd, b"/etc/app/config")
    fails(errno.EBUSY, naming.rename, task, task.fs.cwd, b"/etc/hosts", task.fs.cwd, b"/etc/h", 0)


def test_tmpfs_mounts_take_options(home: Home) -> None:
    task = home.container(
        mounts=[{
            "type": "tmpfs", "source": "", "target": "/run", "readonly": False,
            "options": ["size=1m", "mode=750", "exec"],
        }]
    )  # fmt: skip
    node = resolve(task, task.fs.cwd, b"/run")
    assert node.mode & 0o7777 == 0o750
    assert node.fs.statfs()[:2] == (4096, 256)
    task.write(b"/run/pid", b"1")
    assert task.read(b"/run/pid") == b"1"
    assert node.fs.type == b"tmpfs"


def test_a_missing_source_is_an_error_and_leaves_nothing(home: Home) -> None:
    entry = {"type": "bind", "source": "/nonexistent/x", "target": "/x", "readonly": False}
    before = set(os.listdir("/dev/shm"))
    with pytest.raises(OSError, match="nonexistent"):
        home.container(mounts=[{**entry, "options": []}])
    assert set(os.listdir("/dev/shm")) <= before
