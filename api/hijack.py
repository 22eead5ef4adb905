"""Hijacking: a request that turns its connection into a raw two-way stream.

`docker attach`, `run`, `exec` need it; ASGI has no words for it. This module is all that depends on
uvicorn's h11 class: `HijackProtocol` adds an ASGI extension, `hijack(scope, head)`, which takes the
connection away from HTTP, sends `head` and returns a `HijackedConnection`. When the ASGI
application returns, our side is shut down for writing, and the client's leaving closes it.
A client that half-closed (no more input) is not a client that left: only EPOLLHUP, both directions
closed, completes `hangup`. See epoll_ctl(2), unix(7).
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

EXTENSION = "ddock.hijack"
_HIGH_WATER_BYTES = 256 << 10
_LINGER_SECONDS = 10.0

Scope = MutableMapping[str, Any]
AsgiApp = Callable[[Scope, Callable[..., Any], Callable[..., Any]], Awaitable[None]]


class HangupWatcher:
    """Completes a future when both directions of a descriptor's connection are closed."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._ready)

    def watch(self, descriptor: int, hangup: asyncio.Future[None]) -> None:
        """Complete `hangup` at EPOLLHUP or EPOLLERR; no other event is asked for."""
        self._waiting[descriptor] = hangup
        self._epoll.register(descriptor, 0)

    def forget(self, descriptor: int) -> None:
        """Stop watching: call it before the descriptor is closed."""
        if self._waiting.pop(descriptor, None) is not None:
            with suppress(OSError):
                self._epoll.unregister(descriptor)

    def close(self) -> None:
        """Release the epoll descriptor."""
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _ready(self) -> None:
        for descriptor, _ in self._epoll.poll(0):
            hangup = self._waiting.get(descriptor)
            self.forget(descriptor)
            if hangup is not None and not hangup.done():
                hangup.set_result(None)


class HijackedConnection:
    """A raw stream to the client; satisfies `api.engine.attach.Connection`."""

    def __init__(self, transport: asyncio.Transport, early: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.hangup: asyncio.Future[None] = loop.create_future()
        self._transport = transport
        self._received = bytearray(early)
        self._arrived = asyncio.Event()
        self._ended = False
        self._discard = False
        self._writable: asyncio.Future[None] | None = None
        if early:
            self._arrived.set()

    async def read(self) -> bytes:
        """What has arrived, at least one byte; b"" at the end of the client's input."""
        while not self._received and not self._ended:
            self._arrived.clear()
            await self._arrived.wait()
        data = bytes(self._received)
        self._received.clear()
        if not self._ended:
            self._transport.resume_reading()
        return data

    def write(self, *pieces: bytes) -> asyncio.Future[None] | None:
        """Send; the future, if any, completes when there is room again or the client has gone."""
        if not self._transport.is_closing():
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        return self._writable

    def finish(self) -> None:
        """Everything is sent: end our direction, and close when the client has left."""
        if self._transport.is_closing():
            return
        if self._ended or self.hangup.done():
            self._transport.close()
            return
        self._discard = True
        self._transport.write_eof()
        self._transport.resume_reading()
        asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._transport.close)

    def data_received(self, data: bytes) -> None:
        """From the protocol."""
        if self._discard:
            return
        self._received += data
        self._arrived.set()
        if len(self._received) > _HIGH_WATER_BYTES:
            self._transport.pause_reading()

    def eof_received(self) -> None:
        """From the protocol: the client sends no more, but may still be reading."""
        self._ended = True
        self._arrived.set()
        if self._discard:
            self._transport.close()

    def pause_writing(self) -> None:
        """From the transport: its buffer is full."""
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """From the transport: there is room again, or no client any more."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def connection_lost(self) -> None:
        """From the protocol: nobody is there any more."""
        self._ended = True
        self._arrived.set()
        self.resume_writing()
        if not self.hangup.done():
            self.hangup.set_result(None)


class HijackProtocol(H11Protocol):
    """uvicorn's h11 protocol with the hijack extension."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        watcher: HangupWatcher,
        app_state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state or {})
        self._watcher = watcher
        self._hijacked: HijackedConnection | None = None
        self._http_app = cast(AsgiApp, config.loaded_app)
        self.app = cast(Any, self._serve)

    async def _serve(self, scope: Scope, receive: Any, send: Any) -> None:
        async def send_unless_hijacked(message: Any) -> None:
            if self._hijacked is None:
                await send(message)

        scope["extensions"] = {EXTENSION: self._hijack}
        try:
            await self._http_app(scope, receive, send_unless_hijacked)
        finally:
            if self._hijacked is not None:
                self.cycle.response_started = self.cycle.response_complete = True
                self._hijacked.finish()

    def _hijack(self, head: bytes) -> HijackedConnection:
        """Leave HTTP: what arrived behind the request is the stream's; `head` goes out first."""
        early, _ = self.conn.trailing_data
        connection = self._hijacked = HijackedConnection(self.transport, early)
        self._unset_keepalive_if_required()
        descriptor = self.transport.get_extra_info("socket").fileno()
        self._watcher.watch(descriptor, connection.hangup)
        connection.hangup.add_done_callback(lambda _: self._watcher.forget(descriptor))
        self.transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self.transport.write(head)
        self.transport.resume_reading()
        return connection

    def data_received(self, data: bytes) -> None:
        """To the stream, or to HTTP."""
        if self._hijacked is not None:
            self._hijacked.data_received(data)
        else:
            super().data_received(data)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """True keeps our direction open: the half close of a hijacked connection."""
        if self._hijacked is not None:
            self._hijacked.eof_received()
            return not self.transport.is_closing()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """End the stream; a cancelled HTTP request is uvicorn's to tell the application."""
        if self._hijacked is not None:
            self._hijacked.connection_lost()
            self.connections.discard(self)
            return
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Back pressure, for whoever has the connection."""
        super().pause_writing()
        if self._hijacked is not None:
            self._hijacked.pause_writing()

    def resume_writing(self) -> None:
        """The opposite of `pause_writing`."""
        super().resume_writing()
        if self._hijacked is not None:
            self._hijacked.resume_writing()

    def _should_upgrade(self) -> bool:
        return False  # `Upgrade: tcp` is answered by the application; websockets are not served


class HttpServer:
    """Serves an ASGI application on a listening unix socket; idle costs nothing (no ticks)."""

    def __init__(self, app: AsgiApp, incomplete_bytes: int = 1 << 20) -> None:
        self._config = Config(
            cast(Any, app),
            http=HijackProtocol,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=1 << 24,  # dockerd has no idle timeout: Go clients pool connections
            h11_max_incomplete_event_size=incomplete_bytes,
        )
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._watcher: HangupWatcher | None = None

    async def start(self, path: str, mode: int = 0o600) -> None:
        """Listen at `path`, which must not exist."""
        self._config.load()
        watcher = self._watcher = HangupWatcher()
        old_mask = os.umask(0o777 & ~mode)
        try:
            self._server = await asyncio.get_running_loop().create_unix_server(
                lambda: HijackProtocol(self._config, self._state, watcher), path, backlog=512
            )
        finally:
            os.umask(old_mask)

    def stop_listening(self) -> None:
        """Accept no more connections; those that stand go on."""
        if self._server is not None:
            self._server.close()

    async def stop(self, seconds: float = 1.0) -> None:
        """Let requests in flight finish for so long, then drop every connection."""
        self.stop_listening()
        tasks = tuple(self._state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for protocol in tuple(self._state.connections):
            transport = cast(H11Protocol, protocol).transport
            transport.close()
        if self._watcher is not None:
            self._watcher.close()
