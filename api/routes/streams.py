"""What flows from and to a container: attach, wait, logs, resize, statistics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

from quart import Blueprint, Response, request

from api.app import api_version, engine
from api.engine.attach import AttachOptions, ClientSink, attach, frame
from api.engine.container import Container
from api.engine.detach import parse_keys
from api.engine.errors import Conflict, InvalidParameter
from api.engine.log_records import LogLine
from api.engine.logs import STDERR, STDOUT, LogQuery
from api.engine.stats import sample_containers
from api.engine.timestamps import parse_time, rfc3339
from api.hijack import EXTENSION, HijackedConnection
from api.params import flag, integer, text
from api.responses import empty, json_line, json_response, json_stream, stream

bp = Blueprint("streams", __name__)
RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
_CONDITIONS = ("not-running", "next-exit", "removed")


@bp.post("/containers/<ref>/attach")
async def attach_container(ref: str) -> Response:
    """ContainerAttach: 101 and a raw stream; may come before the start."""
    container = engine().container(ref)
    if container.state.paused:
        raise Conflict(f"Container {container.id} is paused. Unpause the container before attach.")
    if container.state.restarting:
        raise Conflict(
            f"Container {container.id} is restarting, wait until the container is running"
        )
    options = _attach_options(container)
    terminal = options.terminal
    connection = hijack(terminal=terminal)
    streams = _chosen_streams()
    sink = ClientSink(connection, framed=not terminal, streams=streams)
    sinks, stdin = container.sinks, container.stdin
    if flag("stream"):
        sinks.add(sink)  # before anything is awaited: no byte may pass in between
    engine().events.emit("container", "attach", container.id, container.attributes())
    if flag("logs"):
        await _replay(container, connection, streams)
    if flag("stream") and await attach(connection, sink, sinks, stdin, options):
        engine().events.emit("container", "detach", container.id, container.attributes())
    return empty()


@bp.post("/containers/<ref>/wait")
async def wait(ref: str) -> Response:
    """ContainerWait: send the headers at once, the exit code when there is one."""
    container = engine().container(ref)
    condition = text("condition") or "not-running"
    if condition not in _CONDITIONS:
        raise InvalidParameter(f'invalid condition: "{condition}"')
    state = container.state
    if condition == "removed":
        future = container.wait_removal()
    elif condition == "next-exit" or state.running or state.restarting:
        future = container.wait_exit()
    else:
        return json_response({"StatusCode": state.exit_code})

    async def result() -> AsyncIterator[bytes]:
        try:
            yield json_line({"StatusCode": (await future).code})
        finally:
            future.cancel()

    return stream(result(), "application/json")


@bp.get("/containers/<ref>/logs")
async def logs(ref: str) -> Response:
    """ContainerLogs."""
    container = engine().container(ref)
    if not flag("stdout") and not flag("stderr"):
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    if not container.log.keep:
        raise InvalidParameter("configured logging driver does not support reading")
    tail = text("tail", "all")
    query = LogQuery(
        streams=_chosen_streams(),
        since_ns=parse_time(text("since")) if text("since") not in ("", "0") else 0,
        until_ns=parse_time(text("until")) if text("until") not in ("", "0") else 0,
        tail=int(tail) if tail.isdigit() else -1,
        follow=flag("follow"),
    )
    terminal, timestamps = container.config["Tty"], flag("timestamps")

    async def lines() -> AsyncIterator[bytes]:
        async for line in container.log.read(query):
            yield _log_line(line, framed=not terminal, timestamps=timestamps)

    return stream(lines(), _content_type(terminal=terminal))


@bp.post("/containers/<ref>/resize")
async def resize(ref: str) -> Response:
    """ContainerResize: the terminal's size in characters."""
    run = engine().container(ref).active
    rows, columns = integer("h"), integer("w")
    if rows is None or columns is None:
        raise InvalidParameter("invalid resize parameters: h and w are needed")
    run.stdio.resize(rows, columns)
    return empty(200)


@bp.get("/containers/<ref>/stats")
async def stats(ref: str) -> Response:
    """ContainerStats: one sample a second, or one."""
    container = engine().container(ref)
    samples = sample_containers(container)
    if flag("stream", default=True):
        return json_stream(samples)
    try:
        sample = await anext(samples)
        if not flag("one-shot") and container.state.running:
            sample = await anext(samples)
    finally:
        await samples.aclose()
    return json_response(sample)


def hijack(*, terminal: bool) -> HijackedConnection:
    """Take the connection and answer in the words that the client's request calls for."""
    upgrade = request.headers.get("Upgrade")
    if upgrade:
        head = (
            f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {_content_type(terminal=terminal)}\r\n"
            "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
    else:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n\r\n"
    take = cast(dict[str, Any], request.scope)["extensions"][EXTENSION]
    return cast(HijackedConnection, take(head.encode()))


def _content_type(*, terminal: bool) -> str:
    return RAW if terminal or api_version() < (1, 42) else MULTIPLEXED


def _attach_options(container: Container) -> AttachOptions:
    config = container.config
    return AttachOptions(
        stdin=flag("stdin") and config["OpenStdin"],
        terminal=config["Tty"],
        close_stdin=config["StdinOnce"],
        detach_keys=parse_keys(text("detachKeys")),
    )


def _chosen_streams() -> frozenset[int]:
    wanted = ((STDOUT, flag("stdout")), (STDERR, flag("stderr")))
    return frozenset(number for number, chosen in wanted if chosen)


async def _replay(
    container: Container, connection: HijackedConnection, streams: frozenset[int]
) -> None:
    terminal = container.config["Tty"]
    async for line in container.log.read(LogQuery(streams=streams)):
        pieces = (line.text,) if terminal else (frame(line.stream, line.text), line.text)
        full = connection.write(*pieces)
        if full is not None:
            await asyncio.wait((full,))


def _log_line(line: LogLine, *, framed: bool, timestamps: bool) -> bytes:
    data = line.text
    if timestamps:
        data = rfc3339(line.time_ns, fixed=True).encode() + b" " + data
    return frame(line.stream, data) + data if framed else data
