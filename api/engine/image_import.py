"""`docker import`: a root file system becomes an image of one layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from api.engine.changes import apply_changes
from api.engine.images import Image, ImageStore
from api.engine.platforms import Platform, host_platform
from api.engine.references import parse_reference
from api.engine.timestamps import now_ns, rfc3339

DOCKER_VERSION = "28.2.2"


def import_root(
    store: ImageStore,
    archive: Path,
    *,
    comment: str,
    changes: list[str],
    platform: Platform | None = None,
) -> bytes:
    """Store the tar as a layer and return the config of its image. Blocks: call it in a thread.

    Raises CorruptLayer for a bad archive, InvalidParameter for a bad change.
    """
    settings: dict[str, Any] = {}
    apply_changes(settings, changes)
    with archive.open("rb") as file:
        layer = store.layers.add(file)
    created = rfc3339(now_ns())
    built = platform or Platform("linux", host_platform().architecture)
    config = {
        "architecture": built.architecture,
        "comment": comment,
        "config": settings,
        "container_config": {},
        "created": created,
        "docker_version": DOCKER_VERSION,
        "history": [{"created": created, "comment": comment}],
        "os": built.os,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        **({"variant": built.variant} if built.variant else {}),
    }
    return json.dumps(config, separators=(",", ":")).encode()


def register(store: ImageStore, config: bytes, name: str) -> Image:
    """Add an image and, unless `name` is empty, let that name point at it."""
    reference = parse_reference(name).tagged() if name else None
    image = store.add(config)
    if reference is not None:
        store.tag(image, reference)
    return image
