"""Sleeping until a host descriptor is ready, without blocking the loop."""

from __future__ import annotations

import asyncio
import select
import struct
from typing import TYPE_CHECKING

from kernel.net import hostsock

if TYPE_CHECKING:
    from kernel.task import Task

_TIMEVAL = struct.Struct("<qq")
SOL_SOCKET = 1
SO_RCVTIMEO = 20
SO_SNDTIMEO = 21


def timeout_of(fd: int, option: int) -> float | None:
    """SO_SNDTIMEO or SO_RCVTIMEO in seconds, None when there is no limit."""
    value = hostsock.getsockopt(fd, SOL_SOCKET, option, 16)
    if isinstance(value, int) or len(value) < 16:
        return None
    seconds, microseconds = _TIMEVAL.unpack(value)
    return seconds + microseconds / 1e6 or None


async def until_writable(task: Task, fd: int, timeout: float | None = None) -> bool:
    """Sleep until `fd` (ours) is writable or in error; False when the time is up.

    Interrupted when a signal comes. `fd` stays open: the caller closes it afterwards.
    """
    return await _until(task, fd, select.EPOLLOUT, timeout)


async def until_readable(task: Task, fd: int, timeout: float | None = None) -> bool:
    """Sleep until `fd` (ours) is readable; False when the time is up."""
    return await _until(task, fd, select.EPOLLIN, timeout)


async def _until(task: Task, fd: int, events: int, timeout: float | None) -> bool:
    # libuv makes every descriptor it watches non-blocking, and that would be the guest's socket
    # too. So the loop watches an epoll descriptor which watches `fd`.
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()
    with select.epoll() as poller:
        poller.register(fd, events)
        loop.add_reader(poller.fileno(), _settle, future, True)
        handle = None
        if timeout is not None:
            handle = loop.call_later(timeout, _settle, future, False)
        try:
            return bool(await task.sleep_on(future))
        finally:
            loop.remove_reader(poller.fileno())
            if handle is not None:
                handle.cancel()


async def pause(task: Task, seconds: float) -> None:
    """Sleep for a time; Interrupted when a signal comes first."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()
    handle = loop.call_later(seconds, _settle, future, False)
    try:
        await task.sleep_on(future)
    finally:
        handle.cancel()


def _settle(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():
        future.set_result(value)
