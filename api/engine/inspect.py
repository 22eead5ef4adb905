"""How containers are shown by `docker inspect` and `docker ps`: with every field, always."""

from __future__ import annotations

import os
import shlex
from typing import Any

from api.engine.config import argv_of
from api.engine.container import Container
from api.engine.images import ImageStore
from api.engine.networks import endpoint_settings
from api.engine.ports import summary
from api.engine.timestamps import rfc3339

_DRIVER = "ddock"


def inspect_container(container: Container, images: ImageStore) -> dict[str, Any]:
    """`docker inspect` of a container."""
    record = container.record
    argv = argv_of(record.config)
    directory = os.fspath(container.directory)
    live = [process.id for process in container.execs.values() if process.running]
    return {
        "Id": record.id,
        "Created": rfc3339(record.created_ns),
        "Path": argv[0],
        "Args": argv[1:],
        "State": record.state.to_inspect(),
        "Image": record.image_id,
        "ResolvConfPath": f"{directory}/run/resolv.conf",
        "HostnamePath": f"{directory}/run/hostname",
        "HostsPath": f"{directory}/run/hosts",
        "LogPath": os.fspath(container.log.path),
        "Name": f"/{record.name}",
        "RestartCount": record.restart_count,
        "Driver": _DRIVER,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": live or None,
        "HostConfig": record.host,
        "GraphDriver": {
            "Data": {
                "LowerDir": ":".join(
                    os.fspath(images.layers.directory(d)) for d in reversed(record.layers)
                ),
                "UpperDir": f"{directory}/upper",
            },
            "Name": _DRIVER,
        },
        "Mounts": [point.to_inspect() for point in record.mounts],
        "Config": {**record.config, "Hostname": container.hostname},
        "NetworkSettings": network_settings(container),
    }


def network_settings(container: Container) -> dict[str, Any]:
    """The NetworkSettings object."""
    mode = container.host["NetworkMode"]
    endpoint = endpoint_settings(container)
    exposed = container.config.get("ExposedPorts") or {}
    return {
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": "",
        "Ports": dict.fromkeys(exposed) if container.state.running else {},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": endpoint["EndpointID"],
        "Gateway": endpoint["Gateway"],
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": endpoint["IPAddress"],
        "IPPrefixLen": endpoint["IPPrefixLen"],
        "IPv6Gateway": "",
        "MacAddress": "",
        "Networks": {mode: endpoint},
    }


def list_entry(container: Container, images: ImageStore) -> dict[str, Any]:
    """One container of `docker ps`."""
    record = container.record
    argv = argv_of(record.config)
    image = images.get(record.image_id)
    renamed = image is None or record.image_name not in (*image.names(), *_bare(image.names()))
    by_id = image is not None and image.id.removeprefix("sha256:").startswith(
        record.image_name.removeprefix("sha256:")
    )
    return {
        "Id": record.id,
        "Names": [f"/{record.name}"],
        "Image": record.image_name if by_id or not renamed else record.image_id,
        "ImageID": record.image_id,
        "Command": " ".join([argv[0], *map(quoted, argv[1:])]),
        "Created": record.created_ns // 10**9,
        "Ports": summary(record.config.get("ExposedPorts") or {}) if record.state.running else [],
        "Labels": record.config["Labels"],
        "State": record.state.status,
        "Status": record.state.describe(),
        "HostConfig": {"NetworkMode": record.host["NetworkMode"]},
        "NetworkSettings": {"Networks": {record.host["NetworkMode"]: endpoint_settings(container)}},
        "Mounts": [point.to_inspect() for point in record.mounts],
    }


def size_of_upper(container: Container) -> int:
    """Bytes of the regular files that the container has written or copied up."""
    root = container.directory / "upper" / "root"
    total = 0
    for directory, _, files in os.walk(root):
        total += sum(os.lstat(os.path.join(directory, name)).st_size for name in files)
    return total


def quoted(word: str) -> str:
    """A word as Docker shows it in a command: quoted when a space or a quote is in it."""
    return shlex.quote(word) if any(letter in word for letter in " '\"") else word


def _bare(names: list[str]) -> list[str]:
    return [name.removesuffix(":latest") for name in names]
