"""A container's files: archive, export, changes."""

from __future__ import annotations

import base64
import json
from typing import Any

from quart import Blueprint, Response, request

from api.app import engine
from api.engine.errors import InvalidParameter
from api.engine.files import go_file_mode
from api.engine.timestamps import rfc3339
from api.params import flag, text
from api.responses import empty, json_response, stream

bp = Blueprint("archive", __name__)
_TAR = "application/x-tar"
_STAT_HEADER = "X-Docker-Container-Path-Stat"


@bp.route("/containers/<ref>/archive", methods=["HEAD"])
async def archive_info(ref: str) -> Response:
    """ContainerArchiveInfo: the stat in a header."""
    stat = await engine().files.stat(engine().container(ref), _path())
    return Response(b"", content_type="text/plain", headers={_STAT_HEADER: _encoded(stat)})


@bp.get("/containers/<ref>/archive")
async def archive_get(ref: str) -> Response:
    """ContainerArchive: a path as tar."""
    container = engine().container(ref)
    stat, chunks = await engine().files.get(container, _path())
    engine().events.emit("container", "archive-path", container.id, container.attributes())
    response = stream(chunks, _TAR)
    response.headers[_STAT_HEADER] = _encoded(stat)
    return response


@bp.put("/containers/<ref>/archive")
async def archive_put(ref: str) -> Response:
    """PutContainerArchive: unpack a tar into a directory of the container."""
    container = engine().container(ref)
    await engine().files.put(
        container,
        _path(),
        request.body,
        keep_kind=flag("noOverwriteDirNonDir"),
        copy_ids=flag("copyUIDGID"),
    )
    engine().events.emit("container", "extract-to-dir", container.id, container.attributes())
    return empty(200)


@bp.get("/containers/<ref>/export")
async def export(ref: str) -> Response:
    """ContainerExport: the whole root file system as tar."""
    container = engine().container(ref)
    engine().events.emit("container", "export", container.id, container.attributes())
    return stream(engine().files.export(container), "application/octet-stream")


@bp.get("/containers/<ref>/changes")
async def changes(ref: str) -> Response:
    """ContainerChanges: what differs from the image."""
    found = await engine().files.changes(engine().container(ref))
    return json_response([{"Path": c["path"], "Kind": c["kind"]} for c in found] or None)


def _path() -> str:
    path = text("path")
    if not path:
        raise InvalidParameter("missing required parameter: path")
    return path


def _encoded(stat: dict[str, Any]) -> str:
    value = {
        "name": stat["name"],
        "size": stat["size"],
        "mode": go_file_mode(stat["mode"]),
        "mtime": rfc3339(stat["mtime_ns"]) if stat["mtime_ns"] else "1970-01-01T00:00:00Z",
        "linkTarget": stat.get("link_target", ""),
    }
    return base64.b64encode(json.dumps(value, ensure_ascii=False).encode()).decode()
