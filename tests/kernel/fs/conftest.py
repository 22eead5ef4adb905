"""A container's file system without a container: fake tasks over real layers."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from kernel import isa
from kernel.credentials import Credentials
from kernel.errors import LinuxError
from kernel.fs.context import FsContext
from kernel.fs.filetable import FileTable
from kernel.fs.mounts import MountTable
from kernel.fs.namespace import build, open_root
from kernel.fs.openfile import OpenFile
from kernel.fs.opening import open_path
from kernel.fs.tmpfs import discard
from kernel.host.engines import Engine
from kernel.limits import Limits
from kernel.net.network import Network
from kernel.patching import Texts
from kernel.signals.state import Signals
from kernel.spec import ContainerSpec
from tables import load

T = TypeVar("T")


class FakeTask:
    """What the file system asks of a task; descriptors are this process's own."""

    def __init__(self, mounts: MountTable, credentials: Credentials | None = None) -> None:
        self.tid = 1
        self.credentials = credentials or Credentials(effective=(1 << 41) - 1)
        self.fs: FsContext = mounts.context()
        self.abi = load("x86_64")
        self.isa = isa.of("x86_64")
        self.slot = SimpleNamespace(q=[0] * 64)
        self.in_kernel = False
        self.comm = b"fake"
        self.host_tid = os.getpid()
        self.blocked = 0
        self.pending = None
        self.process: Any = SimpleNamespace(
            pid=1,
            host_pid=os.getpid(),
            files=FileTable(),
            tasks={1: self},
            parent=None,
            children=[],
            argv=[b"init", b"-x"],
            environ=[b"A=1"],
            exe=None,
            group=1,
            session=1,
            leader=self,
            comm=b"fake",
            zombie=False,
            stopped=False,
            status=None,
            patchable=False,
            oom_score_adj=0,
            auxv=bytes(16),
            stack_at=0,
            texts=Texts(),
            limits=Limits(),
            signals=Signals(),
        )
        self.process.container = SimpleNamespace(
            page_size=4096,
            larger_pages=False,
            mounts=mounts,
            pids={1: self.process},
            by_host_pid={os.getpid(): self.process},
            hostname=b"box",
            domainname=b"(none)",
            network=Network("127.77.0.5", "c0ffee", "bridge"),
            engine=Engine("x86_64", "native"),
            spec=SimpleNamespace(cache="/nowhere", memory_bytes=1 << 30, pids_limit=0),
        )

    async def sleep_on(self, future: asyncio.Future[Any]) -> Any:
        return await future

    async def take_fd(self, fd: int) -> int:
        return os.dup(fd)

    def open(self, path: bytes, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
        """open(2): the descriptor, entered in the table if it is a flagged one."""
        fd, file = run(open_path(self, self.fs.cwd, path, flags, mode))  # type: ignore[arg-type]
        if file is not None:
            self.process.files.set(fd, file)
        return fd

    def file(self, fd: int) -> OpenFile:
        found = self.process.files.get(fd)
        assert found is not None
        return found

    def close(self, fd: int) -> None:
        self.process.files.drop(fd)
        os.close(fd)

    def read(self, path: bytes) -> bytes:
        """The whole content of a file."""
        fd = self.open(path)
        try:
            file = self.process.files.get(fd)
            if file is not None:
                return file.read(self, 1 << 20, None)  # type: ignore[arg-type]
            return b"".join(iter(lambda: os.read(fd, 1 << 16), b""))
        finally:
            self.close(fd)

    def write(self, path: bytes, data: bytes, flags: int = os.O_CREAT | os.O_TRUNC) -> None:
        fd = self.open(path, os.O_WRONLY | flags)
        os.write(fd, data)
        os.close(fd)

    def names(self, path: bytes) -> list[bytes]:
        """The sorted names in a directory, without the dots."""
        fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return sorted(n for n, _, _ in dirents(self, fd) if n not in (b".", b".."))
        finally:
            self.close(fd)


def dirents(task: FakeTask, fd: int, size: int = 1 << 15) -> list[tuple[bytes, int, int]]:
    """(name, inode, type) of all entries that getdents64 gives."""
    found = []
    file = task.file(fd)
    while data := file.getdents(task, size, wide=True):  # type: ignore[arg-type]
        at = 0
        while at < len(data):
            length = int.from_bytes(data[at + 16 : at + 18], "little")
            name = data[at + 19 : at + length].split(b"\0")[0]
            found.append((name, int.from_bytes(data[at : at + 8], "little"), data[at + 18]))
            at += length
    return found


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Step a coroutine that must not sleep."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coroutine.close()
    raise AssertionError("it sleeps")


def fails(number: int, call: Callable[..., Any], *args: Any) -> None:
    """`call` raises LinuxError with this errno."""
    with pytest.raises(LinuxError) as caught:
        call(*args)
    assert caught.value.errno == number, os.strerror(caught.value.errno)


class Home:
    """A directory of layers and uppers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.layers: list[bytes] = []
        self.opened: list[MountTable] = []
        self.specs: list[ContainerSpec] = []

    def layer(self, files: dict[str, bytes | str | None]) -> None:
        """Put a layer on top: bytes are file contents, str a link's target, None a directory."""
        directory = self.path / f"layer{len(self.layers)}"
        root = directory / "root"
        old = os.umask(0o022)
        root.mkdir(parents=True)
        for name, content in files.items():
            place = root / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                place.mkdir(exist_ok=True)
            elif isinstance(content, str):
                place.symlink_to(content)
            else:
                place.write_bytes(content)
        os.umask(old)
        self.layers.insert(0, os.fsencode(directory))

    def mount(self) -> MountTable:
        """Mount the layers with the (kept) upper directory."""
        mounts = MountTable(open_root(self.layers, os.fsencode(self.path / "upper")), bytes)
        self.opened.append(mounts)
        return mounts

    def task(self) -> FakeTask:
        return FakeTask(self.mount())

    def container(self, **fields: Any) -> FakeTask:
        """A task in a container with all its standard mounts."""
        spec = ContainerSpec(
            id=f"test{self.path.name}-{len(self.specs)}",
            hostname="box",
            layers=[os.fsdecode(layer) for layer in self.layers],
            upper=os.fspath(self.path / "upper"),
            argv=[],
            env=[],
            cwd="/",
            cache="/nowhere",
            runtime=os.fspath(self.path),
            address="127.77.0.5",
            **fields,
        )
        mounts = build(spec)
        self.opened.append(mounts)
        self.specs.append(spec)
        return FakeTask(mounts)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    old = os.umask(0)
    home = Home(tmp_path)
    yield home
    for mounts in home.opened:
        mounts.close()
    for spec in home.specs:
        discard(spec.id, spec.runtime, os.getpid())
    shutil.rmtree(tmp_path)
    os.umask(old)
