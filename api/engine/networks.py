"""The three built-in networks. Networks of the user's own come with the network part."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from api.engine.container import Container
from api.engine.errors import Forbidden, InvalidParameter, NotFound, NotSupported
from api.engine.timestamps import rfc3339
from kernel.net.plan import container_address

_DRIVERS = {"bridge": "bridge", "host": "host", "none": "null"}
SUBNET = "172.17.0.0/16"  # as kernel.net.plan has it
GATEWAY = "172.17.0.1"
PREFIX_BITS = 16


@dataclass(frozen=True, slots=True)
class NetworkStore:
    """What `docker network` can do here."""

    created_ns: int

    def names(self) -> list[str]:
        """The networks' names."""
        return list(_DRIVERS)

    def resolve(self, reference: str) -> str:
        """The name, from a name, id or id prefix. Raises NotFound."""
        if reference in _DRIVERS:
            return reference
        matching = [name for name in _DRIVERS if network_id(name).startswith(reference)]
        if len(matching) != 1 or not reference:
            raise NotFound(f"network {reference} not found")
        return matching[0]

    def remove(self, reference: str) -> None:
        """Built-in networks stay. Raises Forbidden."""
        name = self.resolve(reference)
        raise Forbidden(f"{name} is a pre-defined network and cannot be removed")

    def create(self, name: str) -> None:
        """Not yet. Raises Forbidden for a built-in name."""
        if name in _DRIVERS:
            raise Forbidden(f"operation is not permitted on predefined {name} network ")
        if not name:
            raise InvalidParameter("invalid network name: name is empty")
        raise NotSupported("user-defined networks are not supported by this engine yet")

    def describe(self, name: str, containers: Iterable[Container] = ()) -> dict[str, Any]:
        """Docker's network object, with its running containers."""
        bridge = name == "bridge"
        attached = {
            container.id: {
                "Name": container.name,
                "EndpointID": endpoint_id(container),
                "MacAddress": "",
                "IPv4Address": f"{bridge_address(container)}/{PREFIX_BITS}"
                if container.address
                else "",
                "IPv6Address": "",
            }
            for container in containers
            if container.state.running and container.host["NetworkMode"] == name
        }
        return {
            "Name": name,
            "Id": network_id(name),
            "Created": rfc3339(self.created_ns),
            "Scope": "local",
            "Driver": _DRIVERS[name],
            "EnableIPv4": True,
            "EnableIPv6": False,
            "IPAM": {
                "Driver": "default",
                "Options": None,
                "Config": [{"Subnet": SUBNET, "Gateway": GATEWAY}] if bridge else [],
            },
            "Internal": False,
            "Attachable": False,
            "Ingress": False,
            "ConfigFrom": {"Network": ""},
            "ConfigOnly": False,
            "Containers": attached,
            "Options": {"com.docker.network.bridge.default_bridge": "true"} if bridge else {},
            "Labels": {},
        }


def network_id(name: str) -> str:
    """A built-in network's id: the same on every machine."""
    return hashlib.sha256(f"ddock network {name}".encode()).hexdigest()


def bridge_address(container: Container) -> str:
    """The address other containers reach it by."""
    return container_address(container.address)


def endpoint_id(container: Container) -> str:
    """The id of a container's place on its network; empty when it is not running."""
    if not container.address:
        return ""
    return hashlib.sha256(f"endpoint {container.id} {container.address}".encode()).hexdigest()


def endpoint_settings(container: Container) -> dict[str, Any]:
    """The entry of NetworkSettings.Networks."""
    on_bridge = bool(container.address) and container.host["NetworkMode"] == "bridge"
    mode = container.host["NetworkMode"]
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": None,
        "MacAddress": "",
        "DriverOpts": None,
        "GwPriority": 0,
        "NetworkID": network_id(mode) if mode in _DRIVERS else "",
        "EndpointID": endpoint_id(container),
        "Gateway": GATEWAY if on_bridge else "",
        "IPAddress": bridge_address(container) if on_bridge else "",
        "IPPrefixLen": PREFIX_BITS if on_bridge else 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": None,
    }
