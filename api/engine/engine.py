"""The engine: the daemon's parts put together. Routes call this, and nothing here knows HTTP."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from api.engine.addresses import AddressPool
from api.engine.commit import Committer
from api.engine.container import Container
from api.engine.containers import ContainerStore
from api.engine.errors import Conflict, EngineError, NotFound, NotModified
from api.engine.events import EventBus
from api.engine.exec import Exec, ExecConfig
from api.engine.files import FileService
from api.engine.home import Home
from api.engine.image_removal import ImageRemover, ImageUser
from api.engine.images import ImageStore
from api.engine.layers import LayerStore
from api.engine.lifecycle import Lifecycle
from api.engine.networks import NetworkStore
from api.engine.restart import at_daemon_start
from api.engine.runtime import Runtime
from api.engine.timestamps import now_ns
from api.engine.volumes import VolumeStore
from api.versions import DEFAULT_ZYGOTE

_EXEC_MEMORY_NS = 5 * 60 * 10**9
_LOG = logging.getLogger("ddock.engine")


class Engine:
    """Everything the daemon knows. Make it inside a running event loop."""

    def __init__(self, home: Home, zygote: str = DEFAULT_ZYGOTE) -> None:
        home.prepare()
        self.home = home
        self.started_ns = now_ns()
        self.events = EventBus()
        self.images = ImageStore(home, LayerStore(home), self.events)
        self.volumes = VolumeStore(home, self.events)
        self.networks = NetworkStore(self.started_ns)
        self.containers = ContainerStore(home, self.images, self.volumes, self.events)
        self.image_remover = ImageRemover(self.images, self._users_of_image)
        self.runtime = Runtime(home.run, home.cache, zygote)
        self.lifecycle = Lifecycle(
            home,
            self.runtime,
            self.images,
            self.volumes,
            self.events,
            AddressPool(),
            self._remove_after_exit,
        )
        self.files = FileService(self.lifecycle)
        self.committer = Committer(home, self.images, self.lifecycle, self.files)
        self.images.layers_in_use = self.containers.layers_in_use
        self.volumes.users_of = self.containers.users_of_volume
        self._execs: dict[str, Exec] = {}

    async def start(self) -> None:
        """Load what is on disk, start the zygote, bring back what is to run."""
        self.runtime.start()
        self.volumes.load()
        lost = {container.id for container in self.containers.load()}
        self.images.sweep(self.containers.layers_in_use())
        for container in self.containers.all():
            record = container.record
            if record.host["AutoRemove"] and record.state.status in ("exited", "dead"):
                self.containers.discard(container, volumes=True)
            elif at_daemon_start(
                record.host["RestartPolicy"],
                was_running=container.id in lost,
                stopped_by_user=record.stopped_by_user,
            ):
                try:
                    await self.lifecycle.start(container)
                except EngineError as error:
                    _LOG.warning("container %s does not start: %s", container.id[:12], error)

    async def stop(self) -> None:
        """Stop every container as `docker stop` does, all at once, then the zygote."""
        self.lifecycle.stopping = True
        await asyncio.gather(*(self._stop_for_shutdown(c) for c in self.containers.all()))
        await self.lifecycle.settle()
        await self.runtime.stop()

    def container(self, reference: str) -> Container:
        """Find a container. Raises NotFound."""
        return self.containers.resolve(reference)

    async def remove(self, container: Container, *, force: bool, volumes: bool) -> None:
        """`docker rm`. Raises Conflict while it runs, unless forced."""
        state = container.state
        if (state.running or state.restarting) and not force:
            what = "paused" if state.paused else "restarting" if state.restarting else "running"
            hint = (
                "unpause the container before removing or force remove"
                if state.paused
                else "stop the container before removing or force remove"
            )
            raise Conflict(
                f'cannot remove container "{container.name}": container is {what}: {hint}'
            )
        if state.removing:
            raise Conflict(f"removal of container {container.name} is already in progress")
        auto_remove = container.host["AutoRemove"]
        await self.lifecycle.end_now(container)
        async with container.lock:
            self._forget_execs(container)
            self.containers.discard(container, volumes=volumes or auto_remove)

    def exec_create(self, container: Container, request: dict[str, Any]) -> Exec:
        """`docker exec`, first half. Raises Conflict, InvalidParameter."""
        config = ExecConfig.from_request(request)
        if container.state.paused:
            raise Conflict(f"container {container.id} is paused, unpause the container before exec")
        _ = container.active

        def emit(action: str, own: dict[str, str]) -> None:
            self.events.emit("container", action, container.id, container.attributes(), **own)

        self._forget_old_execs()
        process = Exec(container, config, emit)
        self._execs[process.id] = process
        return process

    def exec(self, reference: str) -> Exec:
        """Find an exec by id. Raises NotFound."""
        process = self._execs.get(reference)
        if process is None:
            raise NotFound(f"No such exec instance: {reference}")
        return process

    async def _remove_after_exit(self, container: Container) -> None:
        self._forget_execs(container)
        self.containers.discard(container, volumes=True)

    def _forget_execs(self, container: Container) -> None:
        for exec_id in container.execs:
            self._execs.pop(exec_id, None)
        container.execs.clear()

    def _forget_old_execs(self) -> None:
        """Clients ask for an exit code soon, or never."""
        horizon_ns = now_ns() - _EXEC_MEMORY_NS
        for process in tuple(self._execs.values()):
            if 0 < process.ended_ns < horizon_ns:
                del self._execs[process.id]
                process.container.execs.pop(process.id, None)

    def _users_of_image(self, image_id: str) -> list[ImageUser]:
        users = self.containers.users_of_image(image_id)
        return [ImageUser(container.id, container.state.running) for container in users]

    async def _stop_for_shutdown(self, container: Container) -> None:
        stopped_by_user = container.record.stopped_by_user
        try:
            await self.lifecycle.stop(container)
        except NotModified:
            return
        except EngineError as error:
            _LOG.warning("container %s does not stop: %s", container.id[:12], error)
        container.record.stopped_by_user = stopped_by_user
        if container.directory.is_dir():
            container.save()
