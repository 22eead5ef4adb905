"""Exec: a process more in a running container."""

from __future__ import annotations

from quart import Blueprint, Response

from api.app import engine
from api.engine.attach import frame
from api.engine.detach import parse_keys
from api.engine.errors import EngineError, InvalidParameter
from api.engine.logs import STDOUT
from api.params import integer, json_body
from api.responses import complete, empty, json_response
from api.routes.streams import hijack

bp = Blueprint("exec", __name__)


@bp.post("/containers/<ref>/exec")
async def create(ref: str) -> Response:
    """ContainerExec: 201 with the id; nothing runs yet."""
    container = engine().container(ref)
    process = engine().exec_create(container, await json_body())
    return json_response({"Id": process.id}, 201)


@bp.post("/exec/<ref>/start")
async def start(ref: str) -> Response:
    """ExecStart: detached 200, else 101 and a raw stream. Failures after the 101 are text in it."""
    process = engine().exec(ref)
    request = await json_body()
    process.check_startable()
    console = request.get("ConsoleSize") or [0, 0]
    rows, columns = int(console[0]), int(console[1])
    if request.get("Detach"):
        await complete(process.start((rows, columns)))
        return empty(200)
    config = process.config
    keys = parse_keys(config.detach_keys)
    connection = hijack(terminal=config.terminal)
    sink = process.client_sink(connection)
    try:
        await complete(process.start((rows, columns), stdin=config.attach_stdin))
    except EngineError as error:
        text = f"{error}\r\n".encode()
        pieces = (text,) if config.terminal else (frame(STDOUT, text), text)
        connection.write(*pieces)
        return empty()
    await process.serve(connection, sink, keys)
    return empty()


@bp.post("/exec/<ref>/resize")
async def resize(ref: str) -> Response:
    """ExecResize."""
    rows, columns = integer("h"), integer("w")
    if rows is None or columns is None:
        raise InvalidParameter("invalid resize parameters: h and w are needed")
    await engine().exec(ref).resize(rows, columns)
    return empty(200)


@bp.get("/exec/<ref>/json")
async def inspect(ref: str) -> Response:
    """ExecInspect."""
    return json_response(engine().exec(ref).to_inspect())
