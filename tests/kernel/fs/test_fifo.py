"""FIFOs: an open sleeps until the other end is there."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from kernel.errors import LinuxError
from kernel.fs import naming
from kernel.fs.metadata import FIFO
from kernel.fs.opening import open_path

from .conftest import FakeTask, Home


async def opened(task: FakeTask, flags: int) -> int:
    fd, file = await open_path(task, task.fs.cwd, b"/fifo", flags, 0)
    assert file is None
    return fd


async def settle() -> None:
    """Let everything that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def task(home: Home) -> FakeTask:
    home.layer({"etc": None})
    task = home.task()
    naming.make_node(task, task.fs.cwd, b"/fifo", FIFO | 0o666, 0)
    return task


@pytest.mark.parametrize("first", [os.O_RDONLY, os.O_WRONLY])
async def test_an_open_waits_for_the_other_end(task: FakeTask, first: int) -> None:
    second = os.O_WRONLY if first == os.O_RDONLY else os.O_RDONLY
    waiting = asyncio.ensure_future(opened(task, first))
    await settle()
    assert not waiting.done()
    other = await opened(task, second)
    mine = await asyncio.wait_for(waiting, 5)
    writer, reader = (other, mine) if first == os.O_RDONLY else (mine, other)
    assert os.get_blocking(reader)
    assert os.get_blocking(writer)
    os.write(writer, b"x")
    assert os.read(reader, 9) == b"x"
    os.close(writer)
    assert os.read(reader, 9) == b""
    os.close(reader)


async def test_a_reader_finds_a_writer_that_was_there_before(task: FakeTask) -> None:
    both = await opened(task, os.O_RDWR)
    writer = await opened(task, os.O_WRONLY)
    os.close(both)
    # No read end is left; the writer stays. Nothing was written, so only tee(2) can tell.
    reader = await asyncio.wait_for(opened(task, os.O_RDONLY), 5)
    os.write(writer, b"1")
    assert os.read(reader, 9) == b"1"
    os.close(reader)
    os.close(writer)


async def test_non_blocking_opens_do_not_wait(task: FakeTask) -> None:
    with pytest.raises(LinuxError) as caught:
        await opened(task, os.O_WRONLY | os.O_NONBLOCK)
    assert caught.value.errno == errno.ENXIO
    reader = await opened(task, os.O_RDONLY | os.O_NONBLOCK)
    assert not os.get_blocking(reader)
    writer = await opened(task, os.O_WRONLY)
    os.close(writer)
    os.close(reader)


async def test_a_given_up_open_leaves_nothing(task: FakeTask) -> None:
    for flags in (os.O_RDONLY, os.O_WRONLY):
        waiting = asyncio.ensure_future(opened(task, flags))
        await settle()
        waiting.cancel()
        await settle()
        assert waiting.cancelled()
    with pytest.raises(LinuxError):  # no reader
        await opened(task, os.O_WRONLY | os.O_NONBLOCK)
    reader = await opened(task, os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(reader, 1) == b""  # and no writer
    os.close(reader)


async def test_containers_do_not_meet_in_a_layers_fifo(home: Home) -> None:
    home.layer({"etc": None})
    os.mkfifo(home.path / "layer0/root/fifo")
    one = home.task()
    waiting = asyncio.ensure_future(opened(one, os.O_RDONLY))
    await settle()
    with pytest.raises(OSError, match="No such device"):
        os.open(home.path / "layer0/root/fifo", os.O_WRONLY | os.O_NONBLOCK)
    waiting.cancel()
    await settle()
