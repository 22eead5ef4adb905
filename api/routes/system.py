"""Ping, version, info, events, disk usage, registry login."""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from quart import Blueprint, Response

from api.app import engine
from api.engine.container import Container
from api.engine.inspect import list_entry, size_of_upper
from api.engine.platforms import host_platform
from api.engine.timestamps import now_ns, parse_time, rfc3339
from api.params import Filters, text
from api.responses import json_response, json_stream
from api.routes.images import image_summary
from api.versions import API_VERSION, ENGINE_VERSION, MIN_API_VERSION

bp = Blueprint("system", __name__)
_EVENT_FILTERS = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
]
_LOG_DRIVERS = ["json-file", "local", "none"]


@bp.route("/_ping", methods=["GET", "HEAD"])
async def ping() -> Response:
    """SystemPing: the client learns the API version from the headers."""
    return Response(
        "OK",
        content_type="text/plain; charset=utf-8",
        headers={
            "Builder-Version": "1",
            "Swarm": "inactive",
            "Cache-Control": "no-cache, no-store, must-revalidate",
            "Pragma": "no-cache",
        },
    )


@bp.get("/version")
async def version() -> Response:
    """SystemVersion."""
    kernel = platform.release()
    common = {
        "GitCommit": "ddock",
        "GoVersion": f"python{platform.python_version()}",
        "Os": "linux",
        "Arch": host_platform().architecture,
        "KernelVersion": kernel,
        "BuildTime": "1970-01-01T00:00:00.000000000+00:00",
    }
    details = {
        **common,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "Experimental": "false",
    }
    return json_response(
        {
            "Platform": {"Name": "ddock"},
            "Components": [{"Name": "Engine", "Version": ENGINE_VERSION, "Details": details}],
            "Version": ENGINE_VERSION,
            "ApiVersion": API_VERSION,
            "MinAPIVersion": MIN_API_VERSION,
            **common,
        }
    )


@bp.get("/info")
async def info() -> Response:
    """SystemInfo."""
    states = [container.state.status for container in engine().containers.all()]
    running = states.count("running") + states.count("restarting")
    paused = states.count("paused")
    return json_response(
        {
            "ID": machine_id(),
            "Containers": len(states),
            "ContainersRunning": running,
            "ContainersPaused": paused,
            "ContainersStopped": len(states) - running - paused,
            "Images": len(engine().images.all()),
            "Driver": "ddock",
            "DriverStatus": [["Root Dir", os.fspath(engine().home.layers)]],
            "Plugins": {
                "Volume": ["local"],
                "Network": ["bridge", "host", "null"],
                "Authorization": None,
                "Log": _LOG_DRIVERS,
            },
            "MemoryLimit": True,
            "SwapLimit": False,
            "CpuCfsPeriod": False,
            "CpuCfsQuota": False,
            "CPUShares": False,
            "CPUSet": False,
            "PidsLimit": True,
            "IPv4Forwarding": True,
            "Debug": False,
            "NFd": len(os.listdir("/proc/self/fd")),
            "OomKillDisable": False,
            "NGoroutines": 0,
            "SystemTime": rfc3339(now_ns()),
            "LoggingDriver": "json-file",
            "CgroupDriver": "none",
            "CgroupVersion": "2",
            "NEventsListener": engine().events.listeners,
            "KernelVersion": platform.release(),
            "OperatingSystem": _operating_system(),
            "OSVersion": "",
            "OSType": "linux",
            "Architecture": platform.machine(),
            "IndexServerAddress": "https://index.docker.io/v1/",
            "RegistryConfig": {
                "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
                "IndexConfigs": {
                    "docker.io": {
                        "Name": "docker.io",
                        "Mirrors": [],
                        "Secure": True,
                        "Official": True,
                    }
                },
                "Mirrors": [],
            },
            "NCPU": os.cpu_count() or 1,
            "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "GenericResources": None,
            "DockerRootDir": os.fspath(engine().home.root),
            "HttpProxy": "",
            "HttpsProxy": "",
            "NoProxy": "",
            "Name": platform.node(),
            "Labels": [],
            "ExperimentalBuild": False,
            "ServerVersion": ENGINE_VERSION,
            "Runtimes": {"ddock": {"path": "ddock"}},
            "DefaultRuntime": "ddock",
            "Swarm": {
                "NodeID": "",
                "NodeAddr": "",
                "LocalNodeState": "inactive",
                "ControlAvailable": False,
                "Error": "",
                "RemoteManagers": None,
            },
            "LiveRestoreEnabled": False,
            "Isolation": "",
            "InitBinary": "ddock",
            "ContainerdCommit": {"ID": ""},
            "RuncCommit": {"ID": ""},
            "InitCommit": {"ID": ""},
            "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"],
            "CDISpecDirs": [],
            "Warnings": None,
        }
    )


@bp.get("/events")
async def events() -> Response:
    """SystemEvents: past ones since `since`, then new ones until `until`."""
    since, until = text("since"), text("until")
    filters = Filters(_EVENT_FILTERS)

    async def chosen() -> AsyncIterator[dict[str, Any]]:
        source = engine_.events.stream(
            parse_time(since) if since else 0, parse_time(until) if until else 0
        )
        async for event in source:
            attributes = event.attributes
            base = event.action.partition(":")[0]
            fits = (
                ("type" not in filters or event.type in filters.get("type"))
                and ("event" not in filters or {base, event.action} & set(filters.get("event")))
                and filters.labels_match(dict(attributes))
                and all(
                    kind not in filters
                    or (
                        event.type == kind
                        and any(
                            event.id.startswith(wanted)
                            or wanted in (attributes.get("name"), attributes.get("image"))
                            for wanted in filters.get(kind)
                        )
                    )
                    for kind in ("container", "image", "volume", "network")
                )
            )
            if fits:
                yield event.to_json()

    engine_ = engine()
    return json_stream(chosen())


@bp.get("/system/df")
async def disk_usage() -> Response:
    """SystemDataUsage."""
    images, containers = engine().images, engine().containers
    return json_response(
        {
            "LayersSize": images.total_bytes(),
            "Images": [
                {
                    **image_summary(image),
                    "Containers": len(containers.users_of_image(image.id)),
                    "SharedSize": 0,
                }
                for image in images.all()
            ],
            "Containers": [_with_sizes(container) for container in containers.all()],
            "Volumes": [
                {
                    **volume.to_json(),
                    "UsageData": {
                        "RefCount": len(containers.users_of_volume(volume.name)),
                        "Size": volume.size_bytes(),
                    },
                }
                for volume in engine().volumes.all()
            ],
            "BuildCache": None,
        }
    )


def _with_sizes(container: Container) -> dict[str, Any]:
    image = engine().images.get(container.record.image_id)
    upper = size_of_upper(container)
    sizes = {"SizeRw": upper, "SizeRootFs": upper + (image.size_bytes if image else 0)}
    return {**list_entry(container, engine().images), **sizes}


def machine_id() -> str:
    """A stable id of this daemon."""
    path = engine().home.root / "engine-id"
    if not path.exists():
        path.write_text(str(uuid.uuid4()))
    return path.read_text()


def _operating_system() -> str:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return "Linux"
    names = [line.partition("=")[2].strip('"') for line in lines if line.startswith("PRETTY_NAME=")]
    return names[0] if names else "Linux"
