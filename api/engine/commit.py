"""`docker commit`: what a container changed becomes a layer on its image's."""

from __future__ import annotations

import asyncio
import copy
import json
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from api.engine.changes import apply_changes
from api.engine.config import argv_of
from api.engine.container import Container
from api.engine.errors import EngineError
from api.engine.files import FileService
from api.engine.home import Home
from api.engine.image_import import DOCKER_VERSION
from api.engine.images import Image, ImageStore
from api.engine.lifecycle import Lifecycle
from api.engine.platforms import host_platform, parse_platform
from api.engine.references import parse_reference
from api.engine.timestamps import now_ns, rfc3339

_EMPTY_TAR = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"
_INHERITED = ("architecture", "os", "variant", "os.version")


class Committer:
    """Makes images of containers."""

    def __init__(
        self, home: Home, images: ImageStore, lifecycle: Lifecycle, files: FileService
    ) -> None:
        self._home = home
        self._images = images
        self._lifecycle = lifecycle
        self._files = files

    async def commit(
        self,
        container: Container,
        name: str,
        *,
        author: str = "",
        comment: str = "",
        changes: list[str],
        pause: bool = True,
    ) -> Image:
        """Store the new layer and image. Raises InvalidParameter; nothing is left then."""
        reference = parse_reference(name).tagged() if name else None
        settings = copy.deepcopy(container.config)
        apply_changes(settings, changes)
        async with AsyncExitStack() as stack:
            if pause and container.state.running and not container.state.paused:
                await self._lifecycle.pause(container)
                stack.push_async_callback(self._resume, container)
            diff_id = await self._layer(container)
        config = self._config(container, settings, diff_id, author, comment)
        image = self._images.add(config, parent=container.record.image_id)
        if reference is not None:
            self._images.tag(image, reference)
        return image

    async def _resume(self, container: Container) -> None:
        with suppress(EngineError):
            await self._lifecycle.unpause(container)

    async def _layer(self, container: Container) -> str:
        archive = self._home.tmp / f"commit-{container.id}-{now_ns()}.tar"
        try:
            with archive.open("wb") as file:
                async for chunk in self._files.layer(container):
                    file.write(chunk)
            return await asyncio.to_thread(self._store, archive)
        finally:
            archive.unlink(missing_ok=True)

    def _store(self, archive: Path) -> str:
        with archive.open("rb") as file:
            return self._images.layers.add(file).diff_id

    def _config(
        self,
        container: Container,
        settings: dict[str, Any],
        diff_id: str,
        author: str,
        comment: str,
    ) -> bytes:
        image = self._images.get(container.record.image_id)
        parent: dict[str, Any] = image.config if image is not None else {}
        created = rfc3339(now_ns())
        step: dict[str, Any] = {
            "created": created,
            "created_by": " ".join(argv_of(container.config)),
        }
        step |= {k: v for k, v in (("author", author), ("comment", comment)) if v}
        layers = list(container.record.layers)
        if diff_id == _EMPTY_TAR:
            step["empty_layer"] = True
        else:
            layers.append(diff_id)
        config = {
            **{key: parent[key] for key in _INHERITED if key in parent},
            "author": author,
            "comment": comment,
            "config": {key: value for key, value in settings.items() if value not in (None, "")},
            "container": container.id,
            "created": created,
            "docker_version": DOCKER_VERSION,
            "history": [*(parent.get("history") or []), step],
            "rootfs": {"type": "layers", "diff_ids": layers},
        }
        built = parse_platform(container.record.platform) or host_platform()
        config.setdefault("architecture", built.architecture)
        config.setdefault("os", built.os)
        return json.dumps(config, separators=(",", ":")).encode()
