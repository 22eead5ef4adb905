"""Images: import, load, save, tag, rmi, inspect; layers are shared and verified."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docker.daemon import Daemon, Outcome

pytestmark = [pytest.mark.docker, pytest.mark.core]


def layer(members: dict[str, bytes | str | None], owner: tuple[int, int] = (0, 0)) -> bytes:
    """An uncompressed layer: bytes are files, strings symlinks, None directories."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.mode, (member.uid, member.gid) = 0o755, owner
            if content is None:
                member.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return buffer.getvalue()


def docker_archive(
    layers: list[bytes], tag: str, change: Callable[[dict[str, object]], None] = lambda _: None
) -> bytes:
    """What `docker save` of older engines writes: a config, layers, manifest.json."""
    config: dict[str, object] = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin", "FROM=image"], "WorkingDir": "/work"},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers],
        },
    }
    change(config)
    text = json.dumps(config).encode()
    name = f"{hashlib.sha256(text).hexdigest()}.json"
    manifest = [
        {
            "Config": name,
            "RepoTags": [tag],
            "Layers": [f"{n}/layer.tar" for n in range(len(layers))],
        }
    ]
    files: dict[str, bytes | str | None] = {
        name: text,
        "manifest.json": json.dumps(manifest).encode(),
    }
    files |= {f"{n}/layer.tar": data for n, data in enumerate(layers)}
    return layer(files)


@pytest.fixture
def busybox(docker: Daemon) -> bytes:
    """The busybox program."""
    return docker("run --rm busybox cat /bin/busybox").stdout.encode(errors="surrogateescape")


def base(busybox: bytes) -> dict[str, bytes | str | None]:
    applets = ("sh", "ls", "cat", "stat", "find", "id", "rm", "mkdir", "mv", "touch", "sort")
    return {"bin": None, "bin/busybox": busybox} | {f"bin/{name}": "busybox" for name in applets}


def test_import_run_and_remove(docker: Daemon, busybox: bytes) -> None:
    done = docker("import", "-c", 'CMD ["/bin/sh", "-c", "cat /hello"]', "-", "small:1",
                  stdin=layer(base(busybox) | {"hello": b"from the layer\n"}))  # fmt: skip
    assert done.status == 0
    assert done.stdout.startswith("sha256:")
    assert docker("run --rm small:1") == Outcome("from the layer\n", "", 0)
    assert docker("rmi small:1").status == 0
    assert docker("inspect small:1").status == 1


def test_layers_stack(docker: Daemon, busybox: bytes) -> None:
    lower = base(busybox) | {
        "a": b"lower a\n", "b": b"lower b\n", "dir": None, "dir/one": b"1\n", "dir/two": b"2\n",
        "opaque": None, "opaque/old": b"old\n", "link": "a", "becomes-dir": b"file\n",
        "becomes-file": None, "becomes-file/x": b"x\n",
    }  # fmt: skip
    upper: dict[str, bytes | str | None] = {
        "a": b"upper a\n", ".wh.b": b"", "dir": None, "dir/.wh.one": b"", "dir/three": b"3\n",
        "opaque": None, "opaque/.wh..wh..opq": b"", "opaque/new": b"new\n",
        "becomes-dir": None, "becomes-dir/y": b"y\n", "becomes-file": b"now a file\n",
        "work": None, "owned": None,
    }  # fmt: skip
    tag = "stacked:1"
    done = docker("load", stdin=docker_archive([layer(lower), layer(upper, owner=(7, 8))], tag))
    assert done.stdout == "Loaded image: stacked:1\n", done
    script = (
        "cat /a /link; ls /b; ls /dir /opaque /becomes-dir; cat /becomes-file; pwd; echo $FROM;"
        " stat -c '%u:%g %n' /owned /a /bin/busybox; find / -name '.wh.*'"
    )
    done = docker("run", "--rm", tag, "/bin/sh", "-c", script)
    assert done.stdout == (
        "upper a\nupper a\n/becomes-dir:\ny\n\n/dir:\nthree\ntwo\n\n/opaque:\nnew\n"
        "now a file\n/work\nimage\n7:8 /owned\n7:8 /a\n0:0 /bin/busybox\n"
    )
    assert "/b: No such file or directory" in done.stderr
    # What a container deletes, renames and re-creates stays its own.
    script = (
        "rm -r /dir && mkdir /dir && ls /dir; mv /a /moved && cat /moved /link; rm /opaque/new;"
        " ls /opaque; touch /b; ls /b; rm /b; ls /b"
    )
    done = docker("run", "--rm", tag, "/bin/sh", "-c", script)
    assert done.stdout == "upper a\n/b\n"
    assert "/link" in done.stderr
    assert (
        docker("run", "--rm", tag, "/bin/sh", "-c", "cat /a; ls /dir").stdout
        == "upper a\nthree\ntwo\n"
    )
    docker("rmi", tag)


def test_save_and_load_give_the_same_image(docker: Daemon, tmp_path: Path) -> None:
    docker("tag busybox copy:1")
    identity = docker("inspect -f {{.Id}} copy:1").stdout
    path = tmp_path / "saved.tar"
    assert docker("save", "-o", str(path), "copy:1").status == 0
    with tarfile.open(path) as tar:
        names = tar.getnames()
    assert "manifest.json" in names
    assert docker("rmi copy:1").stdout == "Untagged: copy:1\n"
    assert docker("load", "-q", "-i", str(path)).status == 0
    assert docker("inspect -f {{.Id}} copy:1").stdout == identity
    assert docker("run --rm copy:1 echo same").stdout == "same\n"
    docker("rmi copy:1")


def test_a_layer_that_is_not_what_the_config_says_is_refused(
    docker: Daemon, busybox: bytes
) -> None:
    def lie(config: dict[str, object]) -> None:
        config["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{'0' * 64}"]}

    before = docker("images -aq").stdout
    done = docker("load", stdin=docker_archive([layer(base(busybox))], "liar:1", lie))
    assert done.status == 1
    assert done.stderr
    assert docker("images -aq").stdout == before


def test_tags(docker: Daemon) -> None:
    assert docker("tag busybox localhost:5000/team/name:v1.2").status == 0
    assert docker("tag busybox other").status == 0
    listed = docker("images --format {{.Repository}}:{{.Tag}}").stdout.split()
    assert {"localhost:5000/team/name:v1.2", "other:latest", "busybox:latest"} <= set(listed)
    assert docker("run --rm localhost:5000/team/name:v1.2 echo tagged").stdout == "tagged\n"
    assert docker("rmi localhost:5000/team/name:v1.2 other").stdout == (
        "Untagged: localhost:5000/team/name:v1.2\nUntagged: other:latest\n"
    )
    done = docker("tag no-such-image x")
    assert done.status == 1
    assert "No such image" in done.stderr
    assert docker("tag busybox Bad:Name:Here").status == 1


def test_an_image_in_use_is_not_removed(docker: Daemon, busybox: bytes) -> None:
    docker("import", "-", "used:1", stdin=layer(base(busybox)))
    docker("create --name user used:1 /bin/sh")
    done = docker("rmi used:1")
    assert done.status == 1
    assert "conflict" in done.stderr
    docker("rm user")
    assert docker("rmi used:1").status == 0


def test_equal_layers_are_kept_once(docker: Daemon, busybox: bytes) -> None:
    content = layer(base(busybox))
    before = len(list((docker.home / "layers").iterdir()))
    for tag in ("twin:1", "twin:2"):
        docker("load", stdin=docker_archive([content, layer({tag: b""})], tag))
    assert len(list((docker.home / "layers").iterdir())) == before + 3
    docker("rmi twin:1 twin:2")
    assert len(list((docker.home / "layers").iterdir())) == before


def test_owners_modes_and_links_of_a_layer(docker: Daemon, busybox: bytes) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        with tarfile.open(fileobj=io.BytesIO(layer(base(busybox)))) as basic:
            for member in basic:
                tar.addfile(member, basic.extractfile(member) if member.isreg() else None)
        for name, mode, uid, gid in [
            ("setuid", 0o4755, 0, 0), ("secret", 0o600, 1000, 1000), ("none", 0o000, 5, 6),
            ("sticky-dir", 0o1777, 0, 0),
        ]:  # fmt: skip
            member = tarfile.TarInfo(name)
            member.mode, member.uid, member.gid, member.mtime = mode, uid, gid, 1234567890
            member.type = tarfile.DIRTYPE if name.endswith("dir") else tarfile.REGTYPE
            tar.addfile(member)
        hard = tarfile.TarInfo("hard")
        hard.type, hard.linkname = tarfile.LNKTYPE, "secret"
        tar.addfile(hard)
        device = tarfile.TarInfo("null")
        device.type, device.devmajor, device.devminor, device.mode = tarfile.CHRTYPE, 1, 3, 0o666
        tar.addfile(device)
        fifo = tarfile.TarInfo("fifo")
        fifo.type, fifo.mode = tarfile.FIFOTYPE, 0o644
        tar.addfile(fifo)
    assert docker("import", "-", "odd:1", stdin=buffer.getvalue()).status == 0
    script = (
        "stat -c '%n %a %u:%g %F' /setuid /secret /none /sticky-dir /fifo /null; stat -c %h /hard;"
        " stat -c %Y /secret; echo discarded > /null && cat /null; id -u"
    )
    done = docker("run", "--rm", "odd:1", "/bin/sh", "-c", script)
    assert done.stdout == (
        "/setuid 4755 0:0 regular empty file\n/secret 600 1000:1000 regular empty file\n"
        "/none 0 5:6 regular empty file\n/sticky-dir 1777 0:0 directory\n/fifo 644 0:0 fifo\n"
        "/null 666 0:0 character special file\n2\n1234567890\n0\n"
    ), done.stderr
    docker("rmi odd:1")


def test_history_and_inspect(docker: Daemon) -> None:
    assert docker("history busybox").status == 0
    shown = json.loads(docker("image inspect busybox").stdout)[0]
    assert shown["Architecture"] == "amd64"
    assert shown["Os"] == "linux"
    assert shown["RootFS"]["Layers"][0].startswith("sha256:")


def test_version_and_info(docker: Daemon) -> None:
    assert docker("version").status == 0
    assert docker("info").status == 0
    assert docker("version -f {{.Server.APIVersion}}").stdout.startswith("1.")


def test_export(docker: Daemon) -> None:
    docker("run --name changed busybox sh -c 'echo new > /new; rm /etc/passwd'")
    data = docker("export changed").stdout.encode(errors="surrogateescape")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = set(tar.getnames())
    assert "new" in names
    assert "etc/passwd" not in names
    assert docker("import", "-", "exported:1", stdin=data).status == 0
    assert docker("run --rm exported:1 cat /new").stdout == "new\n"
    docker("rmi exported:1")
