"""The image store: configs by digest, names that point at them, and what Docker says about them.

`images/index.json` is the only mutable file; it is replaced whole. A config blob or layer without
an entry there is garbage from a crash and is swept at the next start.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from api.engine.errors import Conflict, InvalidParameter, NotFound
from api.engine.events import EventBus
from api.engine.home import Home, read_json, write_atomically, write_json
from api.engine.layers import LayerStore
from api.engine.platforms import Platform
from api.engine.references import Reference, parse_key, parse_reference
from api.engine.timestamps import now_ns


@dataclass(slots=True)
class Image:
    """An image: its config as stored, and what the daemon knows beside it."""

    id: str
    config: dict[str, Any]
    size_bytes: int
    parent: str = ""
    tagged_ns: int = 0
    references: set[str] = field(default_factory=set)

    @property
    def diff_ids(self) -> list[str]:
        """The layers' diff ids, lowest first."""
        return list(self.config.get("rootfs", {}).get("diff_ids") or [])

    @property
    def settings(self) -> dict[str, Any]:
        """The `config` object inside the config: Env, Cmd, ..."""
        return self.config.get("config") or {}

    @property
    def platform(self) -> Platform:
        """What it was built for."""
        return Platform.of(self.config)

    def names(self, *, digests: bool = False) -> list[str]:
        """Familiar tags (or digests) that point at this image, sorted."""
        wanted = (key for key in self.references if ("@" in key) == digests)
        return sorted(parse_key(key).familiar for key in wanted)


class ImageStore:
    """All images of the home. Methods do not block for long; layers are the layer store's."""

    def __init__(self, home: Home, layers: LayerStore, events: EventBus) -> None:
        self.layers = layers
        self.layers_in_use: Callable[[], set[str]] = (
            set  # the containers' layers, set by the engine
        )
        self._home = home
        self._events = events
        self._images: dict[str, Image] = {}
        self._references: dict[str, str] = {}
        self._load()

    def all(self) -> list[Image]:
        """Every image, newest first."""
        return sorted(self._images.values(), key=created_text, reverse=True)

    def get(self, image_id: str) -> Image | None:
        """The image with exactly this id."""
        return self._images.get(image_id)

    def resolve(self, name: str) -> Image:
        """Find by id, unique id prefix, tag or digest. Raises NotFound, InvalidParameter."""
        if name in self._images:
            return self._images[name]
        bare = name.removeprefix("sha256:")
        if bare and all(letter in "0123456789abcdef" for letter in bare):
            named = name == bare and len(name) < 64  # 64 digits are an id, never a name
            by_name = self._by_reference(name) if named else None
            if by_name is not None:
                return by_name
            matching = [key for key in self._images if key.startswith(f"sha256:{bare}")]
            if len(matching) == 1:
                return self._images[matching[0]]
            if len(matching) > 1:
                raise Conflict(f"ambiguous image ID prefix: {name}")
        if name != bare or len(bare) == 64:
            raise NotFound(f"No such image: {name}")
        found = self._by_reference(name)
        if found is None:
            raise NotFound(f"No such image: {parse_reference(name).tagged().familiar}")
        return found

    def resolve_for(self, name: str, platform: Platform | None) -> Image:
        """As `resolve`; NotFound also when the image is not for a platform that is asked for."""
        image = self.resolve(name)
        if platform is not None and platform.rank(image.platform) is None:
            is_id = image.id.removeprefix("sha256:").startswith(name.removeprefix("sha256:"))
            shown = name if is_id else parse_reference(name).tagged().familiar
            raise not_provided(shown, platform)
        return image

    def add(self, config: bytes, *, parent: str = "") -> Image:
        """Register an image whose layers are stored. The id is the digest of `config`."""
        digest = hashlib.sha256(config).hexdigest()
        image_id = f"sha256:{digest}"
        known = self._images.get(image_id)
        if known is not None:
            return known
        image = Image(image_id, _parse_config(config), 0, parent)
        image.size_bytes = self._size(image)
        write_atomically(self._home.blobs / digest, config)
        self._images[image_id] = image
        self._save()
        return image

    def tag(self, image: Image, reference: Reference) -> None:
        """Let a name point at an image; a tag moves, a digest never does."""
        key = reference.key
        previous = self._references.get(key)
        if previous == image.id:
            return
        if previous is not None:
            self._images[previous].references.discard(key)
        self._references[key] = image.id
        image.references.add(key)
        image.tagged_ns = now_ns()
        self._save()
        self._events.emit("image", "tag", image.id, name=reference.familiar)

    def untag(self, image: Image, key: str) -> str:
        """Take a name away; returns it as users write it."""
        image.references.discard(key)
        del self._references[key]
        self._save()
        self._events.emit("image", "untag", image.id, name=image.id)
        return parse_key(key).familiar

    def delete(self, image: Image) -> list[str]:
        """Forget an image without names and its layers that nothing else uses; their chain ids."""
        del self._images[image.id]
        self._save()
        (self._home.blobs / image.id.removeprefix("sha256:")).unlink(missing_ok=True)
        self._events.emit("image", "delete", image.id, name=image.id)
        used = self.layers_in_use()
        used |= {diff_id for other in self._images.values() for diff_id in other.diff_ids}
        chains = chain_ids(image.diff_ids)
        removed: list[str] = []
        for diff_id, chain in zip(reversed(image.diff_ids), reversed(chains), strict=True):
            if diff_id not in used:
                self.layers.remove(diff_id)
                removed.append(chain)
        return removed

    def total_bytes(self) -> int:
        """The bytes of all layers, each counted once."""
        diff_ids = {diff_id for image in self._images.values() for diff_id in image.diff_ids}
        return sum(layer.size_bytes for layer in map(self.layers.find, diff_ids) if layer)

    def layer_directories(self, image: Image) -> list[str]:
        """The image's layer directories, topmost first, as the kernel wants them."""
        return [os.fspath(self.layers.directory(diff_id)) for diff_id in reversed(image.diff_ids)]

    def config_bytes(self, image: Image) -> bytes:
        """The config exactly as its digest was taken."""
        return (self._home.blobs / image.id.removeprefix("sha256:")).read_bytes()

    def children(self, image: Image) -> list[Image]:
        """Images built on this one."""
        return [other for other in self._images.values() if other.parent == image.id]

    def sweep(self, kept_layers: set[str]) -> None:
        """Remove layers and configs that no image and no container uses: a crash left them."""
        used = kept_layers | {d for image in self._images.values() for d in image.diff_ids}
        for diff_id in self.layers.stored():
            if diff_id not in used:
                self.layers.remove(diff_id)
        for name in os.listdir(self._home.blobs):
            if f"sha256:{name}" not in self._images:
                (self._home.blobs / name).unlink()

    def _by_reference(self, name: str) -> Image | None:
        reference = parse_reference(name)
        image_id = self._references.get(reference.key)
        return None if image_id is None else self._images[image_id]

    def _size(self, image: Image) -> int:
        layers = (self.layers.find(diff_id) for diff_id in image.diff_ids)
        return sum(layer.size_bytes for layer in layers if layer)

    def _load(self) -> None:
        try:
            index = read_json(self._home.images / "index.json")
        except FileNotFoundError:
            return
        for image_id, facts in index["images"].items():
            blob = self._home.blobs / image_id.removeprefix("sha256:")
            image = Image(
                image_id,
                _parse_config(blob.read_bytes()),
                facts["size"],
                facts["parent"],
                facts["tagged_ns"],
            )
            self._images[image_id] = image
        for key, image_id in index["references"].items():
            self._references[key] = image_id
            self._images[image_id].references.add(key)

    def _save(self) -> None:
        images = {
            image.id: {
                "size": image.size_bytes,
                "parent": image.parent,
                "tagged_ns": image.tagged_ns,
            }
            for image in self._images.values()
        }
        write_json(
            self._home.images / "index.json", {"images": images, "references": self._references}
        )


def not_provided(name: str, platform: Platform) -> NotFound:
    """The error for an image that is there, but not for this platform."""
    return NotFound(
        f"image with reference {name} was found but does not provide the specified platform"
        f" ({platform})"
    )


def short(image_id: str) -> str:
    """The twelve digits users see."""
    return image_id.removeprefix("sha256:")[:12]


def created_text(image: Image) -> str:
    """When it was created, as its config says; Go's zero time when it does not."""
    return str(image.config.get("created") or "0001-01-01T00:00:00Z")


def chain_ids(diff_ids: list[str]) -> list[str]:
    """The chain id of each layer on top of those below it (OCI image-spec, config.md)."""
    chains: list[str] = []
    for diff_id in diff_ids:
        text = f"{chains[-1]} {diff_id}" if chains else diff_id
        chains.append(f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" if chains else diff_id)
    return chains


def _parse_config(config: bytes) -> dict[str, Any]:
    try:
        value = json.loads(config)
    except ValueError as error:
        raise InvalidParameter(f"invalid image config: {error}") from None
    rootfs = value.get("rootfs") if isinstance(value, dict) else None
    if not isinstance(rootfs, dict) or not isinstance(rootfs.get("diff_ids", []), list | None):
        raise InvalidParameter("invalid image JSON, no RootFS key")
    return dict(value)
