"""Volumes."""

from __future__ import annotations

from quart import Blueprint, Response

from api.app import engine
from api.engine.volumes import Volume
from api.params import Filters, flag, json_body
from api.responses import empty, json_response

bp = Blueprint("volumes", __name__)
_FILTERS = ["dangling", "driver", "label", "label!", "name"]


@bp.get("/volumes")
async def list_volumes() -> Response:
    """VolumeList."""
    filters = Filters(_FILTERS)
    users_of = engine().volumes.users_of

    def chosen(volume: Volume) -> bool:
        dangling = "dangling" not in filters or (
            filters.boolean("dangling", default=False) != bool(users_of(volume.name))
        )
        return (
            dangling
            and ("name" not in filters or any(n in volume.name for n in filters.get("name")))
            and ("driver" not in filters or "local" in filters.get("driver"))
            and filters.labels_match(volume.labels)
        )

    volumes = [volume.to_json() for volume in engine().volumes.all() if chosen(volume)]
    return json_response({"Volumes": volumes, "Warnings": None})


@bp.post("/volumes/create")
async def create() -> Response:
    """VolumeCreate: 201; the same name gives the same volume."""
    request = await json_body()
    volume = engine().volumes.create(
        str(request.get("Name") or ""),
        request.get("Labels"),
        str(request.get("Driver") or "local"),
        request.get("DriverOpts"),
    )
    return json_response(volume.to_json(), 201)


@bp.get("/volumes/<name>")
async def inspect(name: str) -> Response:
    """VolumeInspect."""
    return json_response(engine().volumes.get(name).to_json())


@bp.delete("/volumes/<name>")
async def remove(name: str) -> Response:
    """VolumeDelete."""
    engine().volumes.remove(name, force=flag("force"))
    return empty()


@bp.post("/volumes/prune")
async def prune() -> Response:
    """VolumePrune: anonymous ones nobody has, with all=true named ones too."""
    filters = Filters(("all", "label", "label!"))
    everything = filters.boolean("all", default=False)
    names, freed = engine().volumes.prune(
        lambda volume: (everything or volume.anonymous) and filters.labels_match(volume.labels)
    )
    return json_response({"VolumesDeleted": names, "SpaceReclaimed": freed})
