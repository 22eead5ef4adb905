"""Which containers `docker ps` shows: its filters."""

from __future__ import annotations

import re
from typing import Protocol

from api.engine.container import Container
from api.engine.containers import ContainerStore
from api.engine.errors import InvalidParameter, NotFound
from api.engine.images import ImageStore

FILTERS = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
]
_STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")


class FilterValues(Protocol):
    """What `api.params.Filters` gives."""

    def __contains__(self, key: str) -> bool:
        """Whether the filter is given."""

    def get(self, key: str) -> list[str]:
        """Its values."""

    def labels_match(self, labels: dict[str, str] | None) -> bool:
        """The label filters."""


def select(
    containers: ContainerStore, images: ImageStore, filters: FilterValues, *, everything: bool
) -> list[Container]:
    """The containers that pass, newest first. Raises InvalidParameter."""
    for status in filters.get("status"):
        if status not in _STATES:
            raise InvalidParameter(f"invalid filter 'status={status}'")
    if any(not code.lstrip("-").isdigit() for code in filters.get("exited")):
        raise InvalidParameter(f"invalid filter 'exited={filters.get('exited')}'")
    ancestors = _ancestors(images, filters.get("ancestor"))
    before = [containers.resolve(ref).record.created_ns for ref in filters.get("before")]
    since = [containers.resolve(ref).record.created_ns for ref in filters.get("since")]
    return [
        container
        for container in containers.all()
        if (everything or container.state.running or container.state.restarting)
        and _matches(container, filters)
        and ("ancestor" not in filters or container.record.image_id in ancestors)
        and all(container.record.created_ns < moment for moment in before)
        and all(container.record.created_ns > moment for moment in since)
    ]


def _matches(container: Container, filters: FilterValues) -> bool:
    record, state = container.record, container.state
    exposed = record.config.get("ExposedPorts") or {}
    checks = (
        ("id", record.id.startswith),
        ("name", lambda value: _name_matches(value, record.name)),
        ("status", lambda value: state.status == value),
        (
            "exited",
            lambda value: (
                not state.running and state.exit_code == int(value) and state.status != "created"
            ),
        ),
        ("network", lambda value: record.host["NetworkMode"] == value),
        (
            "volume",
            lambda value: any(value in (m.name, m.destination, m.source) for m in record.mounts),
        ),
        ("expose", lambda value: value in exposed or f"{value}/tcp" in exposed),
        ("publish", lambda _: False),
        ("health", lambda value: value == (state.health.status if state.health else "none")),
        ("is-task", lambda value: value.lower() in ("false", "0")),
    )
    return filters.labels_match(record.config["Labels"]) and all(
        key not in filters or any(check(value) for value in filters.get(key))
        for key, check in checks
    )


def _name_matches(pattern: str, name: str) -> bool:
    try:
        return bool(re.search(pattern, name) or re.search(pattern, f"/{name}"))
    except re.error:
        return pattern in name


def _ancestors(images: ImageStore, names: list[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        try:
            image = images.resolve(name)
        except (NotFound, InvalidParameter):
            continue
        below = image.diff_ids
        found |= {other.id for other in images.all() if other.diff_ids[: len(below)] == below}
    return found
