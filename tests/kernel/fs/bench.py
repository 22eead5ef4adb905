"""What the hot calls cost in Python, without the ring: `python -m tests.kernel.fs.bench`."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import time
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kernel.fs import naming
from kernel.fs.bind import BindFs
from kernel.fs.resolver import resolve
from kernel.host.linux_fs import fstat_raw
from kernel.reply import DescriptorReply
from kernel.syscalls import files, stat

from .conftest import FakeTask, Home, run

_CALLS = 50_000


def microseconds(call: Callable[[], Any]) -> float:
    """The best of five means, in processor time: the machine may be busy."""
    times = timeit.repeat(call, timer=time.process_time, number=_CALLS, repeat=5)
    return min(times) / _CALLS * 1e6


def opened(task: FakeTask, path: bytes, flags: int) -> None:
    answer: Any = files.openat(task, -100, path, flags, 0o666)  # type: ignore[arg-type]
    if not isinstance(answer, DescriptorReply):
        answer = run(answer)
    assert isinstance(answer, DescriptorReply)
    os.close(answer.host_fd)


def main() -> None:
    home = Home(Path(tempfile.mkdtemp(prefix="bench-")))

    def show(title: str, call: Callable[[], Any]) -> None:
        print(f"{title:<26}{microseconds(call):6.2f} us")

    try:
        home.layer(
            {"usr/lib/x86_64-linux-gnu/libc.so.6": b"x", "lib": "usr/lib", "etc/passwd": b""}
        )
        home.layer({"usr/bin/tool": b""})
        task = home.container()
        task.write(b"/etc/upper", b"x")
        naming.make_symlink(task, b"passwd", task.fs.cwd, b"/etc/link")
        lower = b"/usr/lib/x86_64-linux-gnu/libc.so.6"
        native = os.fsencode(home.path) + b"/layer0/root" + lower
        show("native os.stat", lambda: os.stat(native))
        show("native os.open+close", lambda: os.close(os.open(native, 0)))
        for title, path in (
            ("stat lower file", lower),
            ("stat through a link", b"/lib/x86_64-linux-gnu/libc.so.6"),
            ("stat upper, being written", b"/etc/upper"),
            ("stat missing", b"/usr/lib/none"),
            ("stat /proc/self/stat", b"/proc/self/stat"),
        ):
            show(title, functools.partial(stat.stat, task, path, 0x1000))
        show("newfstatat lower file", lambda: stat.newfstatat(task, -100, lower, 0x1000, 0))
        show("readlink", lambda: stat.readlink(task, b"/etc/link", 1, 99))
        show("access", lambda: stat.access(task, lower, 4))
        show("open+close lower file", lambda: opened(task, lower, 0))
        show("open+close upper write", lambda: opened(task, b"/etc/upper", 1))
        memory = task.fs.memory

        def cold() -> None:
            memory.clear()
            stat.stat(task, lower, 0x1000)

        def create() -> None:
            opened(task, b"/etc/new", os.O_CREAT | os.O_WRONLY)
            naming.remove_name(task, task.fs.cwd, b"/etc/new")

        def native_create() -> None:
            os.close(os.open(native + b"x", os.O_CREAT | os.O_WRONLY))
            os.unlink(native + b"x")

        show("stat, walk forgotten", cold)
        show("native creat+unlink", native_create)
        show("creat+close+unlink", create)
        bound = home.path / "bound/a/b/c/d"
        bound.mkdir(parents=True)
        (bound / "f").write_bytes(b"")
        mounts = task.process.container.mounts
        point = resolve(task, task.fs.cwd, b"/usr/bin")
        mounts.mount(BindFs(os.fsencode(home.path / "bound")), point)
        show("stat bind, 5 levels deep", lambda: stat.stat(task, b"/usr/bin/a/b/c/d/f", 0x1000))
        task.fs.change_directory(resolve(task, task.fs.cwd, b"/usr/bin/a/b/c/d"))
        show("stat bind, by its name", lambda: stat.stat(task, b"f", 0x1000))
        fd = task.open(lower)
        raw = fstat_raw(fd)
        task.slot.q[2] = fd
        show("fstat", lambda: stat.fstat(task, raw, 0x1000))
    finally:
        for mounts in home.opened:
            mounts.close()
        shutil.rmtree(home.path)


if __name__ == "__main__":
    main()
