"""Opening a FIFO without blocking the kernel, without polling and without threads.

A blocking open sleeps until the other end is opened (fifo(7)). Both ends are opened by this
process, so it does the rendezvous itself: a reader opens its end at once (non-blocking opens for
reading always succeed) and then waits; a writer's non-blocking open says ENXIO while there is no
reader. The one thing only the host knows - does some guest still hold a write end? - is what tee(2)
on the read end tells.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from typing import TYPE_CHECKING

from kernel.host.linux_fs import has_writer

if TYPE_CHECKING:
    from kernel.task import Task

_Key = tuple[int, int]
_readers: dict[_Key, list[asyncio.Future[None]]] = {}
_writers: dict[_Key, list[tuple[asyncio.Future[int], bytes, int]]] = {}


async def open_fifo(task: Task, path: bytes, flags: int) -> int:
    """Open the host FIFO `path`; a host descriptor. Sleeps unless O_NONBLOCK or O_RDWR is given."""
    mode = flags & os.O_ACCMODE
    blocking = not flags & os.O_NONBLOCK and mode != os.O_RDWR
    try:
        fd = os.open(path, flags | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO or not blocking:
            raise
        return await _wait_for_reader(task, path, flags)
    status = os.fstat(fd)
    key = (status.st_dev, status.st_ino)
    try:
        met = False
        if mode != os.O_RDONLY:
            _meet_readers(key)
        if mode != os.O_WRONLY:
            met = _meet_writers(key)
        if blocking and mode == os.O_RDONLY and not met and not has_writer(fd):
            await _sleep(task, key)
        if not flags & os.O_NONBLOCK:
            fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_NONBLOCK)
    except BaseException:
        os.close(fd)
        raise
    return fd


async def _sleep(task: Task, key: _Key) -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = _readers.setdefault(key, [])
    waiting.append(future)
    try:
        await task.sleep_on(future)
    finally:
        waiting.remove(future)
        if not waiting:
            _readers.pop(key, None)


async def _wait_for_reader(task: Task, path: bytes, flags: int) -> int:
    status = os.stat(path)
    key = (status.st_dev, status.st_ino)
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    item = (future, path, flags)
    waiting = _writers.setdefault(key, [])
    waiting.append(item)
    try:
        await task.sleep_on(future)
    except BaseException:
        if future.done() and not future.cancelled() and future.exception() is None:
            os.close(future.result())
        raise
    finally:
        waiting.remove(item)
        if not waiting:
            _writers.pop(key, None)
    fd = future.result()
    fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_NONBLOCK)
    return fd


def _meet_readers(key: _Key) -> None:
    for future in _readers.get(key, []):
        if not future.done():
            future.set_result(None)


def _meet_writers(key: _Key) -> bool:
    """A reader is there: open the waiting writers' ends now, before it can go away again."""
    met = False
    for future, path, flags in _writers.get(key, []):
        if future.done():
            continue
        try:
            future.set_result(os.open(path, flags | os.O_NONBLOCK))
            met = True
        except OSError as error:
            future.set_exception(error)
    return met
