"""Containers: create, list, inspect, start, stop, and the rest of their life."""

from __future__ import annotations

import asyncio
from typing import Any

from quart import Blueprint, Response

from api.app import engine
from api.engine.config import parse_signal
from api.engine.container import Container
from api.engine.errors import InvalidParameter
from api.engine.host_config import check_resources, complete_host_config
from api.engine.inspect import inspect_container, list_entry, size_of_upper
from api.engine.listing import FILTERS, select
from api.engine.platforms import parse_platform
from api.engine.timestamps import now_ns, parse_time
from api.params import Filters, flag, integer, json_body, text
from api.responses import complete, empty, json_response

bp = Blueprint("containers", __name__)


@bp.get("/containers/json")
async def list_containers() -> Response:
    """ContainerList."""
    filters = Filters(FILTERS)
    everything = flag("all") or bool(integer("limit")) or "status" in filters
    chosen = select(engine().containers, engine().images, filters, everything=everything)
    limit = integer("limit")
    if limit and limit > 0:
        chosen = chosen[:limit]
    return json_response([_listed(container, sizes=flag("size")) for container in chosen])


@bp.post("/containers/create")
async def create_container() -> Response:
    """ContainerCreate: 201 with the id; 404 for an unknown image makes the CLI pull it."""
    request = await json_body()
    if not request:
        raise InvalidParameter("config cannot be empty in order to create a container")
    platform = parse_platform(text("platform"))
    container, warnings = engine().containers.create(request, text("name"), platform)
    return json_response({"Id": container.id, "Warnings": warnings}, 201)


@bp.get("/containers/<ref>/json")
async def inspect(ref: str) -> Response:
    """ContainerInspect."""
    container = engine().container(ref)
    result = inspect_container(container, engine().images)
    if flag("size"):
        result |= _sizes(container)
    return json_response(result)


@bp.post("/containers/<ref>/start")
async def start(ref: str) -> Response:
    """ContainerStart: 204, or 304 when it runs already."""
    await complete(engine().lifecycle.start(engine().container(ref)))
    return empty()


@bp.post("/containers/<ref>/stop")
async def stop(ref: str) -> Response:
    """ContainerStop: 204, or 304 when it does not run."""
    seconds, chosen = integer("t"), text("signal")
    number = parse_signal(chosen) if chosen else None
    await complete(engine().lifecycle.stop(engine().container(ref), seconds, number))
    return empty()


@bp.post("/containers/<ref>/restart")
async def restart(ref: str) -> Response:
    """ContainerRestart."""
    seconds = integer("t")
    await complete(engine().lifecycle.restart(engine().container(ref), seconds))
    return empty()


@bp.post("/containers/<ref>/kill")
async def kill(ref: str) -> Response:
    """ContainerKill: SIGKILL unless told otherwise."""
    number = parse_signal(text("signal") or "KILL")
    await complete(engine().lifecycle.kill(engine().container(ref), number))
    return empty()


@bp.post("/containers/<ref>/pause")
async def pause(ref: str) -> Response:
    """ContainerPause."""
    await complete(engine().lifecycle.pause(engine().container(ref)))
    return empty()


@bp.post("/containers/<ref>/unpause")
async def unpause(ref: str) -> Response:
    """ContainerUnpause."""
    await complete(engine().lifecycle.unpause(engine().container(ref)))
    return empty()


@bp.post("/containers/<ref>/rename")
async def rename(ref: str) -> Response:
    """ContainerRename."""
    engine().containers.rename(engine().container(ref), text("name"))
    return empty()


@bp.delete("/containers/<ref>")
async def remove(ref: str) -> Response:
    """ContainerDelete."""
    if flag("link"):
        raise InvalidParameter("links are not supported by this engine")
    container = engine().container(ref)
    await complete(engine().remove(container, force=flag("force"), volumes=flag("v")))
    return empty()


@bp.get("/containers/<ref>/top")
async def top(ref: str) -> Response:
    """ContainerTop."""
    answer = await engine().container(ref).active.call("top", args=text("ps_args"))
    return json_response({"Titles": answer["titles"], "Processes": answer["processes"]})


@bp.post("/containers/<ref>/update")
async def update(ref: str) -> Response:
    """ContainerUpdate: limits and restart policy."""
    request = await json_body()
    warnings = await update_container(engine().container(ref), request)
    return json_response({"Warnings": warnings or None})


@bp.post("/containers/prune")
async def prune() -> Response:
    """ContainerPrune: remove what does not run."""
    filters = Filters(("label", "label!", "until"))
    until = [parse_time_ago(value) for value in filters.get("until")]
    removed, freed = [], 0
    for container in engine().containers.all():
        state = container.state
        old = all(container.record.created_ns < moment for moment in until)
        if state.running or state.restarting or not old:
            continue
        if filters.labels_match(container.config["Labels"]):
            freed += await asyncio.to_thread(size_of_upper, container)
            await engine().remove(container, force=False, volumes=False)
            removed.append(container.id)
    return json_response({"ContainersDeleted": removed or None, "SpaceReclaimed": freed})


_UPDATABLE = [
    "CpuShares",
    "Memory",
    "NanoCpus",
    "CpuPeriod",
    "CpuQuota",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CpusetCpus",
    "CpusetMems",
    "MemoryReservation",
    "MemorySwap",
    "PidsLimit",
    "BlkioWeight",
    "RestartPolicy",
]


async def update_container(container: Container, request: dict[str, Any]) -> list[str]:
    """Change limits; a running kernel is told. Raises InvalidParameter; then nothing changed."""
    changes = {name: request[name] for name in _UPDATABLE if request.get(name)}
    if not (changes.get("RestartPolicy") or {"Name": "-"}).get("Name"):
        del changes["RestartPolicy"]
    if changes.get("RestartPolicy") and container.host["AutoRemove"]:
        raise InvalidParameter(
            f"Cannot update container {container.id}: Restart policy cannot be updated because"
            " AutoRemove is enabled for the container"
        )
    host, warnings = complete_host_config({**container.host, **changes})
    check_resources(host)
    async with container.lock:
        limits = ("Memory", "PidsLimit")
        if container.run is not None and any(host[x] != container.host[x] for x in limits):
            await container.run.call(
                "update",
                pids_limit=max(0, host["PidsLimit"] or 0),
                memory_bytes=host["Memory"],
            )
        container.record.host = host
        container.save()
    engine().events.emit("container", "update", container.id, container.attributes())
    return warnings


def parse_time_ago(value: str) -> int:
    """A prune filter's `until`: a duration like 24h counts back from now."""
    units = {"s": 1, "m": 60, "h": 3600}
    if value[-1:] in units and value[:-1].replace(".", "", 1).isdigit():
        return now_ns() - int(float(value[:-1]) * units[value[-1]] * 1e9)
    return parse_time(value)


def _listed(container: Container, *, sizes: bool) -> dict[str, Any]:
    entry = list_entry(container, engine().images)
    return entry | _sizes(container) if sizes else entry


def _sizes(container: Container) -> dict[str, int]:
    image = engine().images.get(container.record.image_id)
    upper = size_of_upper(container)
    return {"SizeRw": upper, "SizeRootFs": upper + (image.size_bytes if image else 0)}
