"""Images: list, inspect, history, tag, remove, prune, search."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from typing import Any

from quart import Blueprint, Response

from api.app import engine
from api.engine.errors import EngineError, InvalidParameter
from api.engine.images import Image, created_text
from api.engine.platforms import parse_platform_json
from api.engine.references import parse_reference, valid_tag
from api.engine.timestamps import parse_time, rfc3339
from api.params import Filters, flag, text
from api.responses import empty, json_response
from api.routes.containers import parse_time_ago

bp = Blueprint("images", __name__)
_FILTERS = ["before", "dangling", "label", "label!", "reference", "since", "until"]


@bp.get("/images/json")
async def list_images() -> Response:
    """ImageList."""
    filters = Filters(_FILTERS)
    images = [image for image in engine().images.all() if _chosen(image, filters)]
    if not flag("all"):
        children = {image.parent for image in engine().images.all()}
        images = [image for image in images if image.references or image.id not in children]
    return json_response([image_summary(image, count=flag("shared-size")) for image in images])


@bp.get("/images/<path:name>/json")
async def inspect(name: str) -> Response:
    """ImageInspect."""
    image = engine().images.resolve_for(name, parse_platform_json(text("platform")))
    config, platform = image.config, image.platform
    return json_response(
        {
            "Id": image.id,
            "RepoTags": image.names(),
            "RepoDigests": image.names(digests=True),
            "Parent": image.parent,
            "Comment": config.get("comment") or _last_comment(config),
            "Created": created_text(image),
            "DockerVersion": config.get("docker_version") or "",
            "Author": config.get("author") or "",
            "Config": image.settings,
            "Architecture": platform.architecture,
            **({"Variant": platform.variant} if platform.variant else {}),
            "Os": platform.os,
            "Size": image.size_bytes,
            "GraphDriver": {"Data": _graph(image), "Name": "ddock"},
            "RootFS": {"Type": "layers", "Layers": image.diff_ids},
            "Metadata": {"LastTagTime": rfc3339(image.tagged_ns)},
        }
    )


@bp.get("/images/<path:name>/history")
async def history(name: str) -> Response:
    """ImageHistory: newest first; only the top entry has an id that exists."""
    image = engine().images.resolve_for(name, parse_platform_json(text("platform")))
    layers = iter(image.diff_ids)
    entries: list[dict[str, Any]] = []
    for step in image.config.get("history") or []:
        diff_id = None if step.get("empty_layer") else next(layers, None)
        layer = engine().images.layers.find(diff_id) if diff_id else None
        entries.append(
            {
                "Comment": step.get("comment") or "",
                "Created": parse_time(step["created"]) // 10**9 if step.get("created") else 0,
                "CreatedBy": step.get("created_by") or "",
                "Id": "<missing>",
                "Size": layer.size_bytes if layer else 0,
                "Tags": None,
            }
        )
    entries.reverse()
    if entries:
        entries[0] |= {"Id": image.id, "Tags": image.names() or None}
    return json_response(entries)


@bp.post("/images/<path:name>/tag")
async def tag(name: str) -> Response:
    """ImageTag: 201."""
    image = engine().images.resolve(name)
    repository, word = text("repo"), text("tag")
    reference = parse_reference(repository)
    if reference.digest:
        raise InvalidParameter("refusing to create a tag with a digest reference")
    if word and not valid_tag(word):
        raise InvalidParameter("invalid tag format")
    target = parse_reference(f"{repository}:{word}") if word else reference.tagged()
    engine().images.tag(image, target)
    return empty(201)


@bp.delete("/images/<path:name>")
async def remove(name: str) -> Response:
    """ImageDelete: what was untagged and deleted."""
    records = engine().image_remover.remove(name, force=flag("force"), prune=not flag("noprune"))
    return json_response(records)


@bp.post("/images/prune")
async def prune() -> Response:
    """ImagePrune: dangling ones, or with dangling=false all that no container uses."""
    filters = Filters(("dangling", "label", "label!", "until"))
    dangling = filters.boolean("dangling", default=True)
    until = [parse_time_ago(value) for value in filters.get("until")]

    def chosen(image: Image) -> bool:
        return (
            not (dangling and image.references)
            and filters.labels_match(image.settings.get("Labels"))
            and all(parse_time(created_text(image)) < moment for moment in until)
        )

    records, freed = engine().image_remover.prune(chosen)
    return json_response({"ImagesDeleted": records or None, "SpaceReclaimed": freed})


@bp.get("/images/search")
async def search() -> Response:
    """ImageSearch: there is no index to search here."""
    raise EngineError("searching Docker Hub is not supported by this engine")


def image_summary(image: Image, *, count: bool = False) -> dict[str, Any]:
    """An entry of `docker images`."""
    created = created_text(image)
    return {
        "Containers": -1,
        "Created": parse_time(created) // 10**9 if not created.startswith("0001-") else 0,
        "Id": image.id,
        "Labels": image.settings.get("Labels"),
        "ParentId": image.parent,
        "RepoDigests": image.names(digests=True),
        "RepoTags": image.names(),
        "SharedSize": 0 if count else -1,
        "Size": image.size_bytes,
    }


def _chosen(image: Image, filters: Filters) -> bool:
    if "dangling" in filters and filters.boolean("dangling", default=False) == bool(image.names()):
        return False
    created = created_text(image)
    for key, later in (("before", False), ("since", True)):
        for name in filters.get(key):
            other = created_text(engine().images.resolve(name))
            if created == other or (created > other) != later:
                return False
    if any(not parse_time(created) < parse_time_ago(value) for value in filters.get("until")):
        return False
    patterns = filters.get("reference")
    if patterns and not any(_refers(image, pattern) for pattern in patterns):
        return False
    return filters.labels_match(image.settings.get("Labels"))


def _refers(image: Image, pattern: str) -> bool:
    for name in image.names() + image.names(digests=True):
        repository = name.partition("@")[0].rpartition(":")[0] or name
        if any(fnmatchcase(text, pattern) for text in (name, repository)):
            return True
    return False


def _graph(image: Image) -> dict[str, str]:
    directories = engine().images.layer_directories(image)
    if not directories:
        return {}
    graph = {"UpperDir": os.path.join(directories[0], "root")}
    if directories[1:]:
        graph["LowerDir"] = ":".join(os.path.join(d, "root") for d in directories[1:])
    return graph


def _last_comment(config: dict[str, Any]) -> str:
    steps = config.get("history") or [{}]
    return str(steps[-1].get("comment") or "")
