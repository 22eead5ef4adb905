"""All containers of the home: making, finding, naming, removing."""

from __future__ import annotations

import logging
import os
from typing import Any

from api.engine.config import merge_config
from api.engine.container import FILE_NAME, Container, Record
from api.engine.errors import Conflict, InvalidParameter, NotFound
from api.engine.events import EventBus
from api.engine.health import check_healthcheck
from api.engine.home import Home, read_json, remove_tree
from api.engine.host_config import complete_host_config
from api.engine.images import Image, ImageStore
from api.engine.mounts import MountPoint, parse_bind, parse_mount, parse_tmpfs
from api.engine.names import check_name, invent_name, new_id
from api.engine.platforms import Platform, host_platform
from api.engine.timestamps import now_ns
from api.engine.volumes import VolumeStore

_LOG = logging.getLogger("ddock.container")
_LOST_CODE = 137


class ContainerStore:
    """Containers by id and name. Only `lifecycle` changes what they do."""

    def __init__(
        self, home: Home, images: ImageStore, volumes: VolumeStore, events: EventBus
    ) -> None:
        self._home = home
        self._images = images
        self._volumes = volumes
        self._events = events
        self._containers: dict[str, Container] = {}
        self._names: dict[str, str] = {}

    def all(self) -> list[Container]:
        """Every container, newest first."""
        return sorted(self._containers.values(), key=lambda c: c.record.created_ns, reverse=True)

    def resolve(self, reference: str) -> Container:
        """By id, name, or unique id prefix, in this order. Raises NotFound, Conflict."""
        name = reference.removeprefix("/")
        if name in self._containers:
            return self._containers[name]
        if name in self._names:
            return self._containers[self._names[name]]
        matching = [key for key in self._containers if name and key.startswith(name)]
        if len(matching) > 1:
            raise InvalidParameter(f"multiple IDs found with provided prefix: {name}")
        if not matching:
            raise NotFound(f"No such container: {reference}")
        return self._containers[matching[0]]

    def users_of_image(self, image_id: str) -> list[Container]:
        """Containers made from an image."""
        return [c for c in self._containers.values() if c.record.image_id == image_id]

    def users_of_volume(self, name: str) -> list[str]:
        """Ids of the containers that mount a volume."""
        return [
            container.id
            for container in self._containers.values()
            if any(point.name == name for point in container.record.mounts)
        ]

    def layers_in_use(self) -> set[str]:
        """The diff ids that containers stand on."""
        return {d for container in self._containers.values() for d in container.record.layers}

    def create(
        self, request: dict[str, Any], name: str = "", platform: Platform | None = None
    ) -> tuple[Container, list[str]]:
        """Make a container and warnings about it. Raises EngineError; nothing is left then."""
        container_id = new_id()
        name = check_name(name) if name else invent_name(self._names)
        image = self._image(str(request.get("Image") or ""), platform)
        warnings = [] if platform else platform_warnings(image)
        config = merge_config(request, image.settings)
        check_healthcheck(config)
        host, more = complete_host_config(request.get("HostConfig") or {})
        self._refuse_taken_name(name)
        record = Record(
            id=container_id,
            name=name,
            created_ns=now_ns(),
            image_id=image.id,
            image_name=config["Image"],
            layers=image.diff_ids,
            platform=str(image.platform),
            config=config,
            host=host,
            mounts=self._mounts(config, host),
            networking=request.get("NetworkingConfig") or {},
        )
        directory = self._home.containers / container_id
        directory.mkdir(mode=0o700)
        self._add(Container(record, directory)).save()
        container = self._containers[container_id]
        self._events.emit("container", "create", container_id, container.attributes())
        return container, warnings + more

    def rename(self, container: Container, name: str) -> None:
        """Give it another name. Raises Conflict, InvalidParameter."""
        if not name:
            raise InvalidParameter("Neither old nor new names may be empty")
        name = check_name(name)
        if name == container.name:
            raise InvalidParameter("Renaming a container with the same name as its current name")
        self._refuse_taken_name(name)
        old = container.name
        del self._names[old]
        self._names[name] = container.id
        container.record.name = name
        container.save()
        attributes = {**container.attributes(), "oldName": f"/{old}"}
        self._events.emit("container", "rename", container.id, attributes)

    def discard(self, container: Container, *, volumes: bool) -> None:
        """Delete a container that is not running, its files, and anonymous volumes if wanted."""
        if container.id not in self._containers:
            return
        container.state.removing = True
        del self._containers[container.id]
        self._names.pop(container.name, None)
        container.renew_streams()
        doomed = self._home.scratch("container")
        os.rename(container.directory, doomed / "c")
        remove_tree(doomed)
        self._events.emit("container", "destroy", container.id, container.attributes())
        if volumes:
            for point in container.record.mounts:
                if point.anonymous and not self.users_of_volume(point.name):
                    self._volumes.remove(point.name, force=True)
        container.tell_removal()

    def load(self) -> list[Container]:
        """Read what is on disk; returns the containers that ran when the daemon died."""
        lost = []
        for directory in self._home.containers.iterdir():
            try:
                record = Record.from_json(read_json(directory / FILE_NAME))
            except (OSError, ValueError, KeyError, TypeError) as error:
                _LOG.warning("dropping the half-made container %s: %r", directory.name, error)
                remove_tree(directory)
                continue
            container = self._add(Container(record, directory))
            if record.state.running or record.state.restarting:
                _mark_lost(container)
                lost.append(container)
        return lost

    def _add(self, container: Container) -> Container:
        self._containers[container.id] = container
        self._names[container.name] = container.id
        return container

    def _refuse_taken_name(self, name: str) -> None:
        if name in self._names:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container'
                f' "{self._names[name]}". You have to remove (or rename) that container to be able'
                " to reuse that name."
            )

    def _image(self, name: str, platform: Platform | None) -> Image:
        if not name:
            raise InvalidParameter("no image specified")
        return self._images.resolve_for(name, platform)

    def _mounts(self, config: dict[str, Any], host: dict[str, Any]) -> list[MountPoint]:
        chosen: dict[str, MountPoint] = {}
        for source in host["VolumesFrom"] or []:
            for point in self._borrowed(source):
                chosen[point.destination] = point
        explicit: set[str] = set()
        points = [parse_bind(text) for text in host["Binds"] or []]
        points += [parse_mount(spec) for spec in host.get("Mounts", [])]
        points += [parse_tmpfs(path, text) for path, text in host.get("Tmpfs", {}).items()]
        for point in points:
            if point.destination in explicit:
                raise InvalidParameter(f"Duplicate mount point: {point.destination}")
            explicit.add(point.destination)
            chosen[point.destination] = point
        for path in config["Volumes"] or {}:
            if not path.startswith("/"):
                raise InvalidParameter(f"invalid volume specification: '{path}'")
            point = parse_bind(path)
            chosen.setdefault(point.destination, point)
        for point in chosen.values():
            if point.type == "volume":
                volume = self._volumes.create(point.name)
                point.name, point.source = volume.name, os.fspath(volume.data)
        return list(chosen.values())

    def _borrowed(self, source: str) -> list[MountPoint]:
        name, _, mode = source.partition(":")
        if mode not in ("", "ro", "rw", "z", "Z"):
            raise InvalidParameter(f"invalid mode: {mode}")
        points = []
        for point in self.resolve(name).record.mounts:
            copy = MountPoint(**point.to_record())
            copy.writable = copy.writable and mode != "ro"
            copy.anonymous = False
            points.append(copy)
        return points


def platform_warnings(image: Image) -> list[str]:
    """What to say when nobody chose a platform and the image is not for the host's."""
    built, host = image.platform, host_platform()
    if host.rank(built) is not None:
        return []
    warning = (
        f"The requested image's platform ({built}) does not match the detected host platform"
        f" ({host}) and no specific platform was requested"
    )
    return [warning]


def _mark_lost(container: Container) -> None:
    state = container.state
    state.running = state.paused = state.restarting = False
    state.pid, state.exit_code = 0, _LOST_CODE
    state.finished_ns = now_ns()
    container.save()
