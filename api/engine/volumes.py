"""Local volumes: directories under `<home>/volumes/<name>/_data`, with a JSON file beside."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from api.engine.errors import Conflict, InvalidParameter, NotFound
from api.engine.events import EventBus
from api.engine.home import Home, read_json, remove_tree, write_json
from api.engine.names import check_volume_name, new_id
from api.engine.timestamps import now_ns, rfc3339

ANONYMOUS_LABEL = "com.docker.volume.anonymous"


@dataclass(slots=True)
class Volume:
    """A named directory that outlives containers."""

    name: str
    data: Path
    created_ns: int
    labels: dict[str, str] | None = None
    options: dict[str, str] | None = None

    @property
    def anonymous(self) -> bool:
        """Made for one container, not named by the user."""
        return ANONYMOUS_LABEL in (self.labels or {})

    def size_bytes(self) -> int:
        """Bytes of the regular files in it."""
        return sum(
            os.lstat(os.path.join(directory, name)).st_size
            for directory, _, files in os.walk(self.data)
            for name in files
        )

    def to_json(self) -> dict[str, Any]:
        """Docker's volume object."""
        return {
            "CreatedAt": rfc3339(self.created_ns // 10**9 * 10**9),
            "Driver": "local",
            "Labels": self.labels,
            "Mountpoint": os.fspath(self.data),
            "Name": self.name,
            "Options": self.options,
            "Scope": "local",
        }


@dataclass(slots=True)
class VolumeStore:
    """All volumes of the home; `users_of` gives the ids of the containers that have one."""

    home: Home
    events: EventBus
    users_of: Callable[[str], list[str]] = field(default=lambda _: [])
    _volumes: dict[str, Volume] = field(default_factory=dict)

    def load(self) -> None:
        """Read what is on disk."""
        for directory in self.home.volumes.iterdir():
            try:
                facts = read_json(directory / "volume.json")
            except (OSError, ValueError):
                continue
            self._volumes[directory.name] = Volume(
                directory.name,
                directory / "_data",
                facts["created_ns"],
                facts["labels"],
                facts["options"],
            )

    def all(self) -> list[Volume]:
        """Every volume, by name."""
        return sorted(self._volumes.values(), key=lambda volume: volume.name)

    def get(self, name: str) -> Volume:
        """By name. Raises NotFound."""
        try:
            return self._volumes[name]
        except KeyError:
            raise NotFound(f"get {name}: no such volume") from None

    def create(
        self,
        name: str = "",
        labels: dict[str, str] | None = None,
        driver: str = "local",
        options: dict[str, str] | None = None,
    ) -> Volume:
        """Make a volume, or return the one that has this name already."""
        if driver not in ("", "local"):
            raise NotFound(f'error looking up volume plugin {driver}: plugin "{driver}" not found')
        if options:
            raise InvalidParameter(
                f'create {name}: invalid option: "{next(iter(options))}" (this engine\'s local'
                " driver takes no options)"
            )
        if not name:
            name, labels = new_id(), {**(labels or {}), ANONYMOUS_LABEL: ""}
        known = self._volumes.get(check_volume_name(name))
        if known is not None:
            return known
        directory = self.home.volumes / name
        data = directory / "_data"
        data.mkdir(parents=True)
        volume = Volume(name, data, now_ns(), labels, options)
        write_json(
            directory / "volume.json",
            {"created_ns": volume.created_ns, "labels": labels, "options": options},
        )
        self._volumes[name] = volume
        self.events.emit("volume", "create", name, driver="local")
        return volume

    def remove(self, name: str, *, force: bool = False) -> None:
        """Delete a volume. Raises Conflict while a container has it, NotFound unless forced."""
        if force and name not in self._volumes:
            return
        volume = self.get(name)
        users = self.users_of(name)
        if users:
            raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
        doomed = self.home.scratch("volume")
        os.rename(volume.data.parent, doomed / "volume")
        del self._volumes[name]
        remove_tree(doomed)
        self.events.emit("volume", "destroy", name, driver="local")

    def prune(self, chosen: Callable[[Volume], bool]) -> tuple[list[str], int]:
        """Delete every chosen volume that no container has: names, and the bytes freed."""
        names, freed = [], 0
        for volume in self.all():
            if chosen(volume) and not self.users_of(volume.name):
                freed += volume.size_bytes()
                self.remove(volume.name)
                names.append(volume.name)
        return names, freed
