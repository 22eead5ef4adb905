"""Images that come and go: pull, import, load, save."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from quart import Blueprint, Response, request

from api.app import engine
from api.engine.errors import EngineError, InvalidParameter
from api.engine.image_archive import save_archive
from api.engine.image_import import import_root, register
from api.engine.image_load import load_archive
from api.engine.platforms import parse_platform, parse_platform_json
from api.engine.references import parse_reference
from api.params import flag, text
from api.responses import complete, in_thread, json_line, json_response, stream

bp = Blueprint("image_transfer", __name__)
_JSON = "application/json"


@bp.post("/images/create")
async def create() -> Response:
    """ImageCreate: pull from a registry, or import a root file system."""
    if text("fromSrc"):
        return await _import()
    if text("fromImage"):
        return await _pull()
    raise InvalidParameter("either fromImage or fromSrc is needed")


@bp.post("/commit")
async def commit() -> Response:
    """ImageCommit: 201 with the id."""
    container = engine().container(text("container"))
    repository, tag = text("repo"), text("tag")
    work = engine().committer.commit(
        container,
        f"{repository}:{tag}" if repository and tag else repository,
        author=text("author"),
        comment=text("comment"),
        changes=request.args.getlist("changes"),
        pause=flag("pause", default=True),
    )
    image = await complete(work)
    own = {"comment": text("comment"), "imageID": image.id, "imageRef": repository}
    engine().events.emit("container", "commit", container.id, container.attributes(), own)
    return json_response({"Id": image.id}, 201)


@bp.post("/images/load")
async def load() -> Response:
    """ImageLoad: what `docker save` wrote."""
    platform = parse_platform_json(text("platform"))
    archive = await spool()
    images = engine().images

    async def progress() -> AsyncIterator[bytes]:
        try:
            try:
                loaded = await asyncio.to_thread(load_archive, images, archive, platform)
            finally:
                archive.unlink(missing_ok=True)
            for line in loaded.register(images):
                yield json_line({"stream": f"{line}\n"})
        except EngineError as error:
            yield error_line(str(error))

    return stream(progress(), _JSON)


@bp.get("/images/get")
async def save_several() -> Response:
    """ImageGetAll."""
    names = [name for value in request.args.getlist("names") for name in value.split(",")]
    if not names:
        raise InvalidParameter("no image names given")
    return _saved(names)


@bp.get("/images/<path:name>/get")
async def save_one(name: str) -> Response:
    """ImageGet."""
    return _saved([name])


def _saved(names: list[str]) -> Response:
    platform = parse_platform_json(text("platform"))
    archive = save_archive(engine().images, names, platform)
    return stream(in_thread(archive), "application/x-tar")


async def _import() -> Response:
    source, repository, tag = text("fromSrc"), text("repo"), text("tag")
    if source != "-":
        raise InvalidParameter("importing from an URL is not supported by this engine")
    name = f"{repository}:{tag}" if tag else repository
    if name:
        parse_reference(name)
    platform = parse_platform(text("platform"))
    archive = await spool()
    images = engine().images
    try:
        config = await asyncio.to_thread(
            import_root,
            images,
            archive,
            comment=text("message") or "Imported from -",
            changes=request.args.getlist("changes"),
            platform=platform,
        )
    finally:
        archive.unlink(missing_ok=True)
    image = register(images, config, name)
    engine().events.emit("image", "import", image.id, name=name or image.id)
    return Response(json_line({"status": image.id}), content_type=_JSON)


async def _pull() -> Response:
    from api.engine.pull import Pull, credentials_from_header  # noqa: PLC0415 - seldom needed

    name = text("fromImage")
    tag = text("tag")
    separator = "@" if tag.startswith("sha256:") else ":"
    reference = parse_reference(f"{name}{separator}{tag}" if tag else name)
    pull = Pull(
        engine().images,
        engine().home,
        reference.tagged(),
        parse_platform(text("platform")),
        credentials_from_header(request.headers.get("X-Registry-Auth", "")),
    )

    async def lines() -> AsyncIterator[bytes]:
        try:
            async for message in pull.progress():
                yield json_line(message)
        except EngineError as error:
            yield error_line(str(error))

    await pull.connect()  # failures before the first byte are an HTTP status
    return stream(lines(), _JSON)


async def spool() -> Path:
    """Store the request's body in scratch space; the caller removes it."""
    directory = engine().home.scratch("upload")
    archive = directory / "body"
    target = engine().home.tmp / f"{directory.name}.tar"
    try:
        with archive.open("wb") as file:
            async for chunk in request.body:
                file.write(chunk)
        archive.rename(target)
    finally:
        archive.unlink(missing_ok=True)
        directory.rmdir()
    return target


def error_line(message: str) -> bytes:
    """An error in a stream of progress messages."""
    detail: dict[str, Any] = {"errorDetail": {"message": message}, "error": message}
    return json_line(detail)
