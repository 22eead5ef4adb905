"""`docker pull`: from a registry's manifest to layers on disk, with Docker's progress messages."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

from api.engine.errors import EngineError, InvalidParameter, NotFound
from api.engine.home import Home, read_json, remove_tree
from api.engine.images import Image, ImageStore, not_provided
from api.engine.platforms import Platform, choose_manifest, host_platform
from api.engine.references import Reference
from api.engine.registry import DOCKER_LIST, OCI_INDEX, Credentials, Manifest, Registry
from api.engine.timestamps import now_ns

_PARALLEL = 3
_PROGRESS_NS = 100_000_000

Message = dict[str, Any]


def credentials_from_header(header: str) -> Credentials:
    """Read X-Registry-Auth: base64url of JSON. Raises InvalidParameter."""
    if not header:
        return Credentials()
    try:
        value = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
        return Credentials(
            str(value.get("username") or ""),
            str(value.get("password") or ""),
            str(value.get("identitytoken") or ""),
        )
    except (ValueError, binascii.Error, AttributeError):
        raise InvalidParameter("invalid X-Registry-Auth header: invalid JSON") from None


def mirrors_of(home: Home) -> list[str]:
    """`registry-mirrors` of `<home>/config.json`: asked before Docker Hub."""
    try:
        return [str(mirror) for mirror in read_json(home.root / "config.json")["registry-mirrors"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


class Pull:
    """One pull. `connect` first, then iterate over `progress` to its end."""

    def __init__(
        self,
        store: ImageStore,
        home: Home,
        reference: Reference,
        platform: Platform | None,
        credentials: Credentials,
    ) -> None:
        self._store = store
        self._home = home
        self._reference = reference
        self._platform = platform
        self._registry = Registry(reference, credentials, mirrors_of(home))
        self._stack = AsyncExitStack()
        self._top: Manifest | None = None
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue()

    async def connect(self) -> None:
        """Find the image in the registry. Raises EngineError."""
        try:
            await self._stack.enter_async_context(self._registry.session())
            await self._registry.probe()
            name = self._reference.digest or self._reference.tag
            self._top = await self._registry.manifest(name)
        except BaseException:
            await self._stack.aclose()
            raise

    async def progress(self) -> AsyncIterator[Message]:
        """What to show, while it happens. Raises EngineError in the middle when it fails."""
        work = asyncio.ensure_future(self._work())
        work.add_done_callback(lambda _: self._messages.put_nowait(None))
        try:
            while (message := await self._messages.get()) is not None:
                yield message
            await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await self._stack.aclose()

    async def _work(self) -> None:
        reference, top = self._reference, self._top
        if top is None:
            raise EngineError("not connected")
        path = reference.path if reference.domain == "docker.io" else reference.familiar_name
        self._say(f"Pulling from {path}", reference.tag or reference.digest)
        manifest = await self._choose(top)
        config, diff_ids = await self._config(manifest)
        layers = manifest.content.get("layers") or []
        if len(layers) != len(diff_ids):
            raise EngineError(
                f"invalid manifest: {len(layers)} layers, but the config names {len(diff_ids)}"
            )
        await self._fetch(layers, diff_ids)
        known = {image.id for image in self._store.all()}
        image = self._store.add(config)
        self._tag(image, top.digest)
        self._messages.put_nowait({"status": f"Digest: {top.digest}"})
        fresh = image.id not in known
        verb = "Downloaded newer image" if fresh else "Image is up to date"
        self._messages.put_nowait({"status": f"Status: {verb} for {reference.familiar}"})
        if self._platform is not None and self._platform.rank(image.platform) is None:
            warning = f"WARNING: {not_provided(reference.familiar, self._platform)}"
            self._messages.put_nowait({"status": warning})

    async def _choose(self, top: Manifest) -> Manifest:
        manifest = top
        for _ in range(3):  # an index may name an index
            if manifest.media_type not in (OCI_INDEX, DOCKER_LIST):
                break
            wanted = self._platform or host_platform()
            entry = choose_manifest(manifest.content.get("manifests") or [], wanted)
            if entry is None:
                raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")
            manifest = await self._registry.manifest(str(entry["digest"]))
        if manifest.content.get("schemaVersion") != 2 or "config" not in manifest.content:
            raise EngineError(f"unsupported manifest format: {manifest.media_type}")
        return manifest

    async def _config(self, manifest: Manifest) -> tuple[bytes, list[str]]:
        config = await self._registry.small_blob(str(manifest.content["config"]["digest"]))
        try:
            return config, [str(diff_id) for diff_id in json.loads(config)["rootfs"]["diff_ids"]]
        except (ValueError, KeyError, TypeError):
            raise EngineError("invalid image config: no rootfs") from None

    async def _fetch(self, layers: list[dict[str, Any]], diff_ids: list[str]) -> None:
        scratch = self._home.scratch("pull")
        turns = asyncio.Semaphore(_PARALLEL)
        previous: asyncio.Future[None] | None = None
        tasks: list[asyncio.Future[None]] = []

        async def one(
            layer: dict[str, Any], diff_id: str, before: asyncio.Future[None] | None
        ) -> None:
            digest = str(layer["digest"])
            short = digest.removeprefix("sha256:")[:12]
            if self._store.layers.find(diff_id) is not None:
                self._say("Already exists", short)
                return
            self._say("Pulling fs layer", short)
            target = scratch / digest.removeprefix("sha256:")
            async with turns:
                await self._download(digest, int(layer.get("size") or 0), short, target)
            if before is not None:
                await before  # layers are unpacked lowest first, as they are shown
            self._say("Extracting", short)
            with target.open("rb") as file:
                await asyncio.to_thread(self._store.layers.add, file, diff_id)
            target.unlink()
            self._say("Pull complete", short)

        try:
            for layer, diff_id in zip(layers, diff_ids, strict=True):
                previous = asyncio.ensure_future(one(layer, diff_id, previous))
                tasks.append(previous)
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            remove_tree(scratch)

    async def _download(self, digest: str, total: int, short: str, target: Any) -> None:
        shown_ns = 0

        def show(current: int) -> None:
            nonlocal shown_ns
            if now_ns() - shown_ns > _PROGRESS_NS:
                shown_ns = now_ns()
                self._say("Downloading", short, {"current": current, "total": total})

        await self._registry.download(digest, target, show)
        self._say("Verifying Checksum", short)
        self._say("Download complete", short)

    def _tag(self, image: Image, digest: str) -> None:
        reference = self._reference
        self._store.tag(image, Reference(reference.domain, reference.path, "", digest))
        if not reference.digest:
            self._store.tag(image, reference)

    def _say(self, status: str, name: str, detail: Message | None = None) -> None:
        message: Message = {"status": status, "id": name}
        if status.startswith("Pulling from"):
            self._messages.put_nowait(message)
        else:
            self._messages.put_nowait({**message, "progressDetail": detail or {}})
