"""Networks: the three built-in ones."""

from __future__ import annotations

from quart import Blueprint, Response

from api.app import engine
from api.engine.errors import NotSupported
from api.engine.networks import network_id
from api.params import Filters, json_body
from api.responses import empty, json_response

bp = Blueprint("networks", __name__)
_FILTERS = ["dangling", "driver", "id", "label", "name", "scope", "type"]


@bp.get("/networks")
async def list_networks() -> Response:
    """NetworkList."""
    filters = Filters(_FILTERS)
    described = [engine().networks.describe(name) for name in engine().networks.names()]
    return json_response(
        [
            network
            for network in described
            if ("name" not in filters or any(n in network["Name"] for n in filters.get("name")))
            and ("id" not in filters or any(network["Id"].startswith(i) for i in filters.get("id")))
            and ("driver" not in filters or network["Driver"] in filters.get("driver"))
            and ("scope" not in filters or "local" in filters.get("scope"))
            and ("type" not in filters or "builtin" in filters.get("type"))
            and filters.labels_match(network["Labels"])
        ]
    )


@bp.get("/networks/<ref>")
async def inspect(ref: str) -> Response:
    """NetworkInspect, with the running containers."""
    networks = engine().networks
    return json_response(networks.describe(networks.resolve(ref), engine().containers.all()))


@bp.post("/networks/create")
async def create() -> Response:
    """NetworkCreate."""
    request = await json_body()
    engine().networks.create(str(request.get("Name") or ""))
    return json_response({"Id": network_id(request["Name"]), "Warning": ""}, 201)


@bp.delete("/networks/<ref>")
async def remove(ref: str) -> Response:
    """NetworkDelete."""
    engine().networks.remove(ref)
    return empty()


@bp.post("/networks/<ref>/connect")
@bp.post("/networks/<ref>/disconnect")
async def connect(ref: str) -> Response:
    """NetworkConnect, NetworkDisconnect."""
    engine().networks.resolve(ref)
    raise NotSupported("changing a container's networks is not supported by this engine yet")


@bp.post("/networks/prune")
async def prune() -> Response:
    """NetworkPrune: built-in networks stay."""
    return json_response({"NetworksDeleted": None})
