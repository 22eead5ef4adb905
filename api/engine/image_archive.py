"""`docker save`: an OCI layout with Docker's manifest.json beside it."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator
from typing import Any

from api.engine.errors import EngineError
from api.engine.images import Image, ImageStore
from api.engine.platforms import Platform
from api.engine.references import Reference, parse_reference

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_BLOCK = 512


def save_archive(
    store: ImageStore, names: list[str], platform: Platform | None = None
) -> Iterator[bytes]:
    """The archive of `docker save`, in chunks. Raises NotFound before the first one."""
    chosen: dict[str, tuple[Image, list[Reference]]] = {}
    for name in names:
        image = store.resolve_for(name, platform)
        references = chosen.setdefault(image.id, (image, []))[1]
        if not image.id.removeprefix("sha256:").startswith(name.removeprefix("sha256:")):
            reference = parse_reference(name)
            references += [reference.tagged()] if not reference.digest else []
    return _Saver(store).chunks(list(chosen.values()))


class _Saver:
    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._written: set[str] = set()

    def chunks(self, chosen: list[tuple[Image, list[Reference]]]) -> Iterator[bytes]:
        yield _directory("blobs/") + _directory("blobs/sha256/")
        docker_manifest, oci_manifests = [], []
        for image, references in chosen:
            layers = []
            for diff_id in image.diff_ids:
                layer = self._store.layers.find(diff_id)
                if layer is None:
                    raise EngineError(f"layer {diff_id} of image {image.id} is missing")
                layers.append(_descriptor(_LAYER, diff_id, layer.tar_bytes))
                yield from self._layer(diff_id, layer.tar_bytes)
            config = self._store.config_bytes(image)
            yield from self._blob(config)
            manifest = _compact(
                {
                    "schemaVersion": 2,
                    "mediaType": _MANIFEST,
                    "config": _descriptor(_CONFIG, image.id, len(config)),
                    "layers": layers,
                }
            )
            yield from self._blob(manifest)
            entry = _descriptor(_MANIFEST, _sha256(manifest), len(manifest))
            entry["platform"] = image.platform.to_json()
            for reference in references:
                annotations = {
                    "io.containerd.image.name": f"{reference.repository}:{reference.tag}",
                    "org.opencontainers.image.ref.name": reference.tag,
                }
                oci_manifests.append({**entry, "annotations": annotations})
            if not references:
                oci_manifests.append(entry)
            docker_manifest.append(
                {
                    "Config": blob_path(image.id),
                    "RepoTags": [reference.familiar for reference in references] or None,
                    "Layers": [blob_path(diff_id) for diff_id in image.diff_ids],
                }
            )
        index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": oci_manifests}
        yield _file("index.json", _compact(index))
        yield _file("manifest.json", _compact(docker_manifest))
        yield _file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        yield b"\0" * (2 * _BLOCK)

    def _blob(self, data: bytes) -> Iterator[bytes]:
        digest = _sha256(data)
        if digest not in self._written:
            self._written.add(digest)
            yield _file(blob_path(digest), data)

    def _layer(self, diff_id: str, size: int) -> Iterator[bytes]:
        if diff_id in self._written:
            return
        self._written.add(diff_id)
        yield _header(blob_path(diff_id), size)
        yield from self._store.layers.tar_chunks(diff_id)
        if size % _BLOCK:
            yield b"\0" * (-size % _BLOCK)


def blob_path(digest: str) -> str:
    """Where an OCI layout keeps a blob."""
    return f"blobs/{digest.replace(':', '/', 1)}"


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE, mode: int = 0o644) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.mode = size, kind, mode
    return info.tobuf(tarfile.GNU_FORMAT)


def _directory(name: str) -> bytes:
    return _header(name, 0, tarfile.DIRTYPE, 0o755)


def _file(name: str, data: bytes) -> bytes:
    return _header(name, len(data)) + data + b"\0" * (-len(data) % _BLOCK)
