"""Random file calls made both in an overlay and in a plain host directory: same answers."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.errors import LinuxError
from kernel.fs import attributes, naming
from kernel.fs.resolver import resolve
from kernel.host.linux_fs import rename_flags_at

from .conftest import FakeTask, Home

# All happens this deep, so that no `..` gets out of the oracle's directory.
BASE = "r0/r1/r2/r3/r4/r5"
AT_FDCWD = -100

names = st.sampled_from(["a", "b", "c"])
parts = st.sampled_from(["a", "b", "c", "a", "b", "..", "."])
paths = st.builds(
    lambda above, last, slash: "/".join([*above, last]) + slash,
    st.lists(parts, max_size=3),
    st.one_of(names, names, names, parts),
    st.sampled_from(["", "", "", "/"]),
).map(os.fsencode)
contents = st.binary(max_size=5)
modes = st.sampled_from([0o755, 0o700, 0o750, 0o711, 0o777, 0o4755, 0o1777])

operations = st.one_of(
    st.tuples(st.just("mkdir"), paths, modes),
    st.tuples(st.just("rmdir"), paths),
    st.tuples(st.just("unlink"), paths),
    st.tuples(st.just("rename"), paths, paths, st.sampled_from([0, 0, 1, 2])),
    st.tuples(st.just("link"), paths, paths),
    st.tuples(st.just("symlink"), paths, paths),
    st.tuples(st.just("write"), paths, contents, st.sampled_from(
        [os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_TRUNC, os.O_CREAT | os.O_TRUNC, os.O_APPEND,
         os.O_CREAT | os.O_NOFOLLOW])),
    st.tuples(st.just("read"), paths),
    st.tuples(st.just("stat"), paths, st.booleans()),
    st.tuples(st.just("list"), paths),
    st.tuples(st.just("chmod"), paths, modes),
    st.tuples(st.just("truncate"), paths, st.integers(0, 9)),
    st.tuples(st.just("readlink"), paths),
    st.tuples(st.just("chdir"), paths),
    st.tuples(st.just("utime"), paths, st.integers(1, 10**9)),
    st.tuples(st.just("restart")),
)  # fmt: skip
trees = st.dictionaries(
    st.builds("/".join, st.lists(names, min_size=1, max_size=3)),
    st.one_of(contents, contents, st.none(), st.sampled_from(["a", "../b", "b/c", "."])),
    max_size=8,
)


class Oracle:
    """The calls on the host, in the working directory `self.cwd` (a descriptor)."""

    def __init__(self, root: Path) -> None:
        self.cwd = os.open(root / BASE, os.O_PATH)

    def at(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return getattr(os, name)(*args, dir_fd=self.cwd, **kwargs)

    def mkdir(self, path: bytes, mode: int) -> None:
        self.at("mkdir", path, mode)

    def rmdir(self, path: bytes) -> None:
        self.at("rmdir", path)

    def unlink(self, path: bytes) -> None:
        self.at("unlink", path)

    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        rename_flags_at(self.cwd, old, self.cwd, new, flags)

    def link(self, old: bytes, new: bytes) -> None:
        os.link(old, new, src_dir_fd=self.cwd, dst_dir_fd=self.cwd, follow_symlinks=False)

    def symlink(self, target: bytes, path: bytes) -> None:
        self.at("symlink", target, path)

    def write(self, path: bytes, data: bytes, flags: int) -> None:
        fd = self.at("open", path, os.O_WRONLY | flags, 0o666)
        os.write(fd, data)
        os.close(fd)

    def read(self, path: bytes) -> bytes:
        fd = self.at("open", path, os.O_RDONLY)
        try:
            return os.read(fd, 99)
        finally:
            os.close(fd)

    def stat(self, path: bytes, follow: bool) -> tuple[int, ...]:
        s = self.at("stat", path, follow_symlinks=follow)
        return shown(s.st_mode, s.st_nlink, s.st_size, s.st_mtime_ns)

    def list(self, path: bytes) -> list[bytes]:
        fd = self.at("open", path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return sorted(os.fsencode(name) for name in os.listdir(fd))
        finally:
            os.close(fd)

    def chmod(self, path: bytes, mode: int) -> None:
        fd = self.at("open", path, os.O_PATH)
        try:
            os.chmod(f"/proc/self/fd/{fd}", mode)
        finally:
            os.close(fd)

    def truncate(self, path: bytes, size: int) -> None:
        # A descriptor for writing fails as truncate(2) does, but for directories in the same way.
        fd = self.at("open", path, os.O_WRONLY)
        os.ftruncate(fd, size)
        os.close(fd)

    def readlink(self, path: bytes) -> bytes:
        return self.at("readlink", path)

    def chdir(self, path: bytes) -> None:
        fd = self.at("open", path, os.O_PATH | os.O_DIRECTORY)
        os.close(self.cwd)
        self.cwd = fd

    def utime(self, path: bytes, seconds: int) -> None:
        self.at("utime", path, ns=(seconds * 10**9, seconds * 10**9))


class Ours:
    """The same calls on the overlay."""

    def __init__(self, task: FakeTask) -> None:
        self.task = task
        self.task.fs.umask = 0

    def mkdir(self, path: bytes, mode: int) -> None:
        naming.make_directory(self.task, self.task.fs.cwd, path, mode)

    def rmdir(self, path: bytes) -> None:
        naming.remove_directory(self.task, self.task.fs.cwd, path)

    def unlink(self, path: bytes) -> None:
        naming.remove_name(self.task, self.task.fs.cwd, path)

    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        naming.rename(self.task, self.task.fs.cwd, old, self.task.fs.cwd, new, flags)

    def link(self, old: bytes, new: bytes) -> None:
        cwd = self.task.fs.cwd
        naming.make_link(self.task, cwd, old, cwd, new, follow=False)

    def symlink(self, target: bytes, path: bytes) -> None:
        naming.make_symlink(self.task, target, self.task.fs.cwd, path)

    def write(self, path: bytes, data: bytes, flags: int) -> None:
        self.task.write(path, data, flags)

    def read(self, path: bytes) -> bytes:
        fd = self.task.open(path)
        try:
            if self.task.process.files.get(fd) is not None:
                raise LinuxError(errno.EISDIR)
            return os.read(fd, 99)
        finally:
            self.task.close(fd)

    def stat(self, path: bytes, follow: bool) -> tuple[int, ...]:
        a = resolve(self.task, self.task.fs.cwd, path, follow).attributes()
        return shown(a.mode, a.nlink, a.size, a.mtime_ns)

    def list(self, path: bytes) -> list[bytes]:
        return self.task.names(path)

    def chmod(self, path: bytes, mode: int) -> None:
        attributes.change_mode(self.task, resolve(self.task, self.task.fs.cwd, path), mode)

    def truncate(self, path: bytes, size: int) -> None:
        attributes.truncate(self.task, resolve(self.task, self.task.fs.cwd, path), size)

    def readlink(self, path: bytes) -> bytes:
        return resolve(self.task, self.task.fs.cwd, path, False).readlink(self.task)

    def chdir(self, path: bytes) -> None:
        naming.change_directory(self.task, resolve(self.task, self.task.fs.cwd, path))

    def utime(self, path: bytes, seconds: int) -> None:
        times = (seconds * 10**9, seconds * 10**9, False)
        attributes.set_times(self.task, resolve(self.task, self.task.fs.cwd, path), times)


def shown(mode: int, nlink: int, size: int, mtime_ns: int) -> tuple[int, ...]:
    """What both sides must agree on: not a directory's size, and only times somebody set."""
    is_directory = mode >> 12 == 4
    old = mtime_ns if mtime_ns <= 10**18 and not is_directory else 0
    return (mode, 0 if is_directory else nlink, 0 if is_directory else size, old)


def outcome(call: Callable[..., Any], *args: Any) -> Any:
    try:
        return call(*args)
    except LinuxError as error:
        return errno.errorcode[error.errno]
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def tree_of(side: Any, top: bytes = b".", depth: int = 0) -> Any:
    found = {}
    for name in side.list(top):
        path = top + b"/" + name
        kind = side.stat(path, False)
        content: Any = None
        if kind[0] >> 12 == 4:
            content = tree_of(side, path, depth + 1)
        elif kind[0] >> 12 == 10:
            content = side.readlink(path)
        else:
            content = side.read(path)
        found[name] = (kind, content)
    return found


def merged(layers: list[dict[str, Any]], home: Home, plain: Path) -> None:
    """Make the layers, and in `plain` what they are together."""
    os.umask(0o022)
    (plain / BASE).mkdir(parents=True)
    for layer in layers:
        files: dict[str, Any] = {BASE: None}
        for name in sorted(layer):
            above = Path(name).parents
            content = layer[name]
            if any(files.get(f"{BASE}/{p}") is not None for p in above):
                continue
            if any((plain / BASE / p).is_symlink() or (plain / BASE / p).is_file() for p in above):
                continue
            place = plain / BASE / name
            if place.is_dir() and not place.is_symlink() and content is not None:
                continue
            if place.is_symlink() or place.is_file():
                place.unlink()
            files[f"{BASE}/{name}"] = content
            place.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                place.mkdir(exist_ok=True)
            elif isinstance(content, str):
                place.symlink_to(content)
            else:
                place.write_bytes(content)
        home.layer(files)
    os.umask(0)


@settings(
    max_examples=int(os.environ.get("ORACLE_EXAMPLES", "150")),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(trees, max_size=3), st.lists(operations, max_size=30))
def test_the_overlay_answers_as_a_host_directory_does(
    layers: list[dict[str, Any]], calls: list[tuple[Any, ...]]
) -> None:
    directory = Path(tempfile.mkdtemp(prefix="oracle-"))
    old = os.umask(0)
    home = Home(directory / "home")
    oracles = []
    try:
        plain = directory / "plain"
        merged(layers, home, plain)
        oracle, ours = Oracle(plain), Ours(home.task())
        oracles.append(oracle)
        if not layers:
            for i in range(6):
                ours.mkdir(b"/" + os.fsencode("/".join(BASE.split("/")[: i + 1])), 0o755)
        ours.chdir(b"/" + BASE.encode())
        for name, *args in calls:
            if name == "restart":
                # Only from a working directory that still has a path.
                cwd = ours.task.fs.cwd
                if cwd.gone:
                    continue
                path = cwd.path(ours.task.fs.root)
                home.opened.pop().close()
                ours = Ours(home.task())
                ours.chdir(path)
                continue
            expected = outcome(getattr(oracle, name), *args)
            got = outcome(getattr(ours, name), *args)
            assert got == expected, (name, args)
        ours.chdir(b"/" + BASE.encode())
        oracles.append(Oracle(plain))
        assert tree_of(ours) == tree_of(oracles[1])
        home.opened.pop().close()
        again = Ours(home.task())
        again.chdir(b"/" + BASE.encode())
        assert tree_of(again) == tree_of(oracles[1])
    finally:
        for each in oracles:
            os.close(each.cwd)
        for mounts in home.opened:
            mounts.close()
        shutil.rmtree(directory)
        os.umask(old)
