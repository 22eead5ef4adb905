"""Unpacking layers: what a tar says, and what a hostile one may not do."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from kernel.fs.layer import LayerError, unpack
from kernel.fs.metadata import unpack as unpack_stat
from kernel.fs.namespace import open_root
from kernel.fs.resolver import resolve

from .conftest import FakeTask, Home

Member = tuple[str, dict[str, Any], bytes]


def tar(*members: Member, format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, fields, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mtime = 1_000_000_000
            for key, value in fields.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def directory(name: str, **fields: Any) -> Member:
    return (name, {"type": tarfile.DIRTYPE, "mode": 0o755, **fields}, b"")


def link(name: str, target: str, hard: bool = False) -> Member:
    kind = tarfile.LNKTYPE if hard else tarfile.SYMTYPE
    return (name, {"type": kind, "linkname": target}, b"")


def file(name: str, data: bytes = b"", **fields: Any) -> Member:
    return (name, fields, data)


def add(home: Home, data: bytes) -> None:
    place = os.fsencode(home.path / f"tar{len(home.layers)}")
    unpack(io.BytesIO(data), place)
    home.layers.insert(0, place)


def attributes(task: FakeTask, path: bytes) -> Any:
    return unpack_stat(resolve(task, task.fs.cwd, path, follow=False).stat())


def test_a_layer_looks_as_its_tar_says(home: Home) -> None:
    add(
        home,
        tar(
            directory("./"),
            directory("./tmp/", mode=0o1777),
            file("bin/su", b"elf", mode=0o4755, uid=0, gid=5),
            file("home/bob/.x", b"1", mode=0o400, uid=1000, gid=1000),
            link("lib", "usr/lib"),
            link("bin/su2", "bin/su", hard=True),
            (
                "dev/null",
                {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3, "mode": 0o666},
                b"",
            ),
            ("run/fifo", {"type": tarfile.FIFOTYPE, "mode": 0o600}, b""),
            file("cap", b"", pax_headers={"SCHILY.xattr.security.capability": "\udc80\n=\0x"}),
            file("n" * 200 + "/" + "m" * 200, b"long"),
        ),
    )
    task = home.task()
    a = attributes(task, b"/bin/su")
    assert (a.mode, a.uid, a.gid, a.size, a.nlink) == (0o104755, 0, 5, 3, 2)
    assert a.mtime_ns == 10**18
    assert attributes(task, b"/bin/su2") == a
    assert attributes(task, b"/tmp").mode == 0o041777
    a = attributes(task, b"/home/bob/.x")
    assert (a.mode, a.uid, a.gid) == (0o100400, 1000, 1000)
    a = attributes(task, b"/dev/null")
    assert (a.mode, a.rdev, a.size) == (0o020666, os.makedev(1, 3), 0)
    assert attributes(task, b"/run/fifo").mode == 0o010600
    node = resolve(task, task.fs.cwd, b"/cap")
    assert node.xattrs() == {b"security.capability": b"\x80\n=\0x"}
    assert task.read(b"/" + b"n" * 200 + b"/" + b"m" * 200) == b"long"


def test_whiteouts_and_opaque_directories(home: Home) -> None:
    add(home, tar(file("a/1"), file("a/2"), file("b/1"), file("b/sub/x"), file("c")))
    add(home, tar(file("a/.wh.1"), file("b/.wh..wh..opq"), file("b/new"), file(".wh.c")))
    add(home, tar(file("a/3"), file("odd/.wh."), file("odd/.wh..wh.plnk")))
    task = home.task()
    assert task.names(b"/a") == [b"2", b"3"]
    assert task.names(b"/b") == [b"new"]
    assert task.names(b"/") == [b"a", b"b", b"odd"]
    assert task.names(b"/odd") == []


def test_later_members_replace_earlier_ones(home: Home) -> None:
    add(home, tar(file("d/x", b"1"), file("d", b"now a file", uid=7), file("f"), directory("f")))
    task = home.task()
    assert task.read(b"/d") == b"now a file"
    assert attributes(task, b"/d").uid == 7
    assert task.names(b"/f") == []


def test_links_on_the_way_are_followed_inside(home: Home) -> None:
    add(
        home,
        tar(link("lib", "/usr/lib"), file("lib/x", b"1"), link("a/b", "../c"), file("a/b/y", b"2")),
    )
    task = home.task()
    assert task.read(b"/usr/lib/x") == b"1"
    assert task.read(b"/c/y") == b"2"


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_formats(home: Home, format: int) -> None:  # noqa: A002
    add(home, tar(file("d/" + "x" * 90, b"data", uid=65534), format=format))
    assert home.task().read(b"/d/" + b"x" * 90) == b"data"


def test_sparse_files_keep_their_holes(home: Home, tmp_path: Path) -> None:
    import subprocess

    big = tmp_path / "sparse"
    with big.open("wb") as f:
        f.seek(10 << 20)
        f.write(b"end")
    for kind in ("gnu", "posix"):
        data = subprocess.run(
            ["tar", "-C", tmp_path, "-S", f"--format={kind}", "-cf", "-", "sparse"],
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        assert len(data) < 1 << 20
        place = tmp_path / kind
        unpack(io.BytesIO(data), os.fsencode(place))
        made = place / "root/sparse"
        assert made.read_bytes() == big.read_bytes()
        assert made.stat().st_blocks < 1000


HOSTILE = [
    tar(file("../../escape", b"x")),
    tar(file("a/../../escape", b"x")),
    tar(link("d", "../../.."), file("d/escape", b"x")),
    tar(link("a/b/d", "../../../outside"), file("a/b/d/escape", b"x")),
    tar(link("l", "l"), file("l/x")),
    tar(file("plain"), file("plain/below")),
    tar(link("h", "../../../etc/passwd", hard=True)),
    tar(link("h", "missing", hard=True)),
    tar(link("d", "../.."), link("h", "d/etc/passwd", hard=True)),
    tar(file("x" * 300)),
    b"this is not a tar" * 100,
    tar(file("f", b"x" * 5000))[:3000],
    tar(file("f", b"x" * 5000), file("g"))[:6000],
    tar(file("f"), file("g"))[:700],
    tar(file("f", b"1" * 512))[:1024] + b"garbage!" * 64 + bytes(1024),
]


@pytest.mark.parametrize("data", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_and_broken_tars_leave_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "outside").mkdir()
    home = tmp_path / "home" / "layers"
    with pytest.raises(LayerError):
        unpack(io.BytesIO(data), os.fsencode(home / "layer"))
    assert os.listdir(home) == []
    assert sorted(os.listdir(tmp_path)) == ["home", "outside"]
    assert os.listdir(tmp_path / "outside") == []


def test_absolute_names_are_relative_to_the_layer(home: Home) -> None:
    add(home, tar(file("/etc/motd", b"hi"), file("//x//./y", b"2")))
    task = home.task()
    assert task.read(b"/etc/motd") == b"hi"
    assert task.read(b"/x/y") == b"2"


def test_a_copied_layer_keeps_its_owners(home: Home, tmp_path: Path) -> None:
    import shutil

    add(home, tar(file("f", uid=12, gid=34), file(".wh.g"), directory("d"), file("d/.wh..wh..opq")))
    shutil.copytree(os.fsdecode(home.layers[0]), tmp_path / "copy", symlinks=True)
    home.layer({"g": b"", "d/hidden": b""})
    lower = home.layers.pop(0)
    root = open_root([os.fsencode(tmp_path / "copy"), lower], os.fsencode(tmp_path / "u"))
    home.layers = [os.fsencode(tmp_path / "copy"), lower]
    root.close()
    task = home.task()
    a = attributes(task, b"/f")
    assert (a.uid, a.gid) == (12, 34)
    assert task.names(b"/") == [b"d", b"f"]
    assert task.names(b"/d") == []


def test_an_empty_stream_is_an_empty_layer(home: Home) -> None:
    add(home, tar())
    add(home, b"")
    assert home.task().names(b"/") == []
