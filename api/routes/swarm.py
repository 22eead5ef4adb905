"""What we are not: a swarm, a plugin host, a builder. Clients probe these paths and expect this."""

from __future__ import annotations

from quart import Blueprint, Response

from api.engine.errors import NotFound, NotSupported, Unavailable
from api.responses import json_response

bp = Blueprint("swarm", __name__)
_NO_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect'
    " this node to swarm and try again."
)


@bp.route("/swarm", methods=["GET"])
@bp.route("/services", methods=["GET"])
@bp.route("/services/<path:rest>", methods=["GET"])
@bp.route("/nodes", methods=["GET"])
@bp.route("/nodes/<path:rest>", methods=["GET"])
@bp.route("/tasks", methods=["GET"])
@bp.route("/tasks/<path:rest>", methods=["GET"])
@bp.route("/secrets", methods=["GET"])
@bp.route("/secrets/<path:rest>", methods=["GET"])
@bp.route("/configs", methods=["GET"])
@bp.route("/configs/<path:rest>", methods=["GET"])
async def no_manager(rest: str = "") -> Response:  # noqa: ARG001 - the rule has it
    """Reads of swarm objects: 503."""
    raise Unavailable(_NO_MANAGER)


@bp.post("/swarm/init")
@bp.post("/swarm/join")
async def no_swarm() -> Response:
    """SwarmInit, SwarmJoin."""
    raise NotSupported("swarm mode is not supported by this engine")


@bp.get("/plugins")
async def plugins() -> Response:
    """PluginList: none."""
    return json_response([])


@bp.get("/plugins/<path:name>/json")
async def plugin(name: str) -> Response:
    """PluginInspect."""
    raise NotFound(f'plugin "{name}" not found')


@bp.post("/build")
async def build() -> Response:
    """ImageBuild."""
    raise NotSupported("building images is not supported by this engine yet")


@bp.post("/build/prune")
async def build_prune() -> Response:
    """BuildPrune: there is no build cache."""
    return json_response({"CachesDeleted": None, "SpaceReclaimed": 0})
