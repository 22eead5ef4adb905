"""`docker save` and `docker load`: an OCI layout with Docker's manifest.json beside it."""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from api.engine.compression import decompressed
from api.engine.errors import EngineError, InvalidParameter
from api.engine.images import Image, ImageStore
from api.engine.layers import CorruptLayer
from api.engine.references import Reference, parse_reference

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_BLOCK = 512


@dataclass(slots=True)
class Loaded:
    """Images whose layers are stored; `register` makes them known."""

    images: list[tuple[bytes, list[Reference]]] = field(default_factory=list)

    def register(self, store: ImageStore) -> Iterator[str]:
        """Add the images and their tags; yields what `docker load` prints."""
        for config, references in self.images:
            image = store.add(config)
            for reference in references:
                store.tag(image, reference)
                yield f"Loaded image: {reference.familiar}"
            if not references:
                yield f"Loaded image ID: {image.id}"


def load_archive(store: ImageStore, archive: Path) -> Loaded:
    """Read a saved archive and store its layers. Blocks. Raises EngineError."""
    plain = _plain_copy(archive)
    try:
        with tarfile.open(plain, "r:") as tar:
            return _Loader(store, tar).load()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InvalidParameter(f"Error processing tar file(exit status 1): {error}") from None
    finally:
        if plain != archive:
            plain.unlink(missing_ok=True)


class _Loader:
    def __init__(self, store: ImageStore, tar: tarfile.TarFile) -> None:
        self._store = store
        self._tar = tar
        self._members = {posixpath.normpath(member.name): member for member in tar}

    def load(self) -> Loaded:
        if "manifest.json" in self._members:
            entries = self._json("manifest.json")
        elif "index.json" in self._members:
            entries = list(self._oci_entries())
        else:
            raise InvalidParameter("open manifest.json: no such file or directory")
        if not isinstance(entries, list):
            raise InvalidParameter("invalid manifest.json")
        loaded = Loaded()
        for entry in entries:
            loaded.images.append(self._image(entry))
        return loaded

    def _image(self, entry: dict[str, Any]) -> tuple[bytes, list[Reference]]:
        try:
            config_path, layer_paths = str(entry["Config"]), list(entry.get("Layers") or [])
            names = list(entry.get("RepoTags") or [])
        except (KeyError, TypeError, AttributeError):
            raise InvalidParameter("invalid manifest.json") from None
        config = self._bytes(config_path)
        _check_digest(config_path, config)
        try:
            diff_ids = list(json.loads(config)["rootfs"]["diff_ids"] or [])
        except (ValueError, KeyError, TypeError):
            raise InvalidParameter("invalid image JSON, no RootFS key") from None
        if len(diff_ids) != len(layer_paths):
            raise InvalidParameter(
                f"invalid manifest, layers length mismatch: expected {len(layer_paths)}, got"
                f" {len(diff_ids)}"
            )
        references = [parse_reference(name) for name in names]
        for path, diff_id in zip(layer_paths, diff_ids, strict=True):
            if self._store.layers.find(diff_id) is None:
                self._store.layers.add(cast(BinaryIO, self._open(path)), diff_id)
        return config, references

    def _oci_entries(self) -> Iterator[dict[str, Any]]:
        for descriptor in self._json("index.json").get("manifests") or []:
            manifest = json.loads(self._blob(descriptor["digest"]))
            if "manifests" in manifest:
                manifest = json.loads(self._blob(_native(manifest["manifests"])["digest"]))
            annotations = descriptor.get("annotations") or {}
            name = annotations.get("io.containerd.image.name") or ""
            tag = annotations.get("org.opencontainers.image.ref.name") or ""
            name = name or (tag if ":" in tag else "")
            yield {
                "Config": _blob_path(manifest["config"]["digest"]),
                "Layers": [_blob_path(layer["digest"]) for layer in manifest["layers"]],
                "RepoTags": [name] if name else [],
            }

    def _open(self, path: str) -> IO[bytes]:
        member = self._members.get(posixpath.normpath(path))
        file = None
        if member is not None:
            try:
                file = self._tar.extractfile(member)
            except KeyError:
                file = None
        if file is None:
            raise InvalidParameter(f"open {path}: no such file or directory")
        return file

    def _bytes(self, path: str) -> bytes:
        with self._open(path) as file:
            return file.read()

    def _blob(self, digest: str) -> bytes:
        path = _blob_path(digest)
        data = self._bytes(path)
        _check_digest(path, data)
        return data

    def _json(self, path: str) -> Any:
        try:
            return json.loads(self._bytes(path))
        except ValueError as error:
            raise InvalidParameter(f"invalid {path}: {error}") from None


def save_archive(store: ImageStore, names: list[str]) -> Iterator[bytes]:
    """The archive of `docker save`, in chunks. Raises NotFound before the first one."""
    chosen: dict[str, tuple[Image, list[Reference]]] = {}
    for name in names:
        image = store.resolve(name)
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
                    "Config": _blob_path(image.id),
                    "RepoTags": [reference.familiar for reference in references] or None,
                    "Layers": [_blob_path(diff_id) for diff_id in image.diff_ids],
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
            yield _file(_blob_path(digest), data)

    def _layer(self, diff_id: str, size: int) -> Iterator[bytes]:
        if diff_id in self._written:
            return
        self._written.add(diff_id)
        yield _header(_blob_path(diff_id), size)
        yield from self._store.layers.tar_chunks(diff_id)
        if size % _BLOCK:
            yield b"\0" * (-size % _BLOCK)


def _plain_copy(archive: Path) -> Path:
    """The archive itself, or a decompressed copy: members are read in any order."""
    with archive.open("rb") as file:
        stream = decompressed(file)
        if isinstance(stream, io.BufferedReader):
            return archive
        plain = archive.with_suffix(".plain")
        try:
            with plain.open("wb") as copy:
                while chunk := stream.read(1 << 20):
                    copy.write(chunk)
        except Exception as error:  # noqa: BLE001 - each codec has errors of its own
            plain.unlink(missing_ok=True)
            raise CorruptLayer(f"Error processing tar file(exit status 1): {error}") from None
        return plain


def _check_digest(path: str, data: bytes) -> None:
    name = posixpath.basename(path).removesuffix(".json")
    if len(name) == 64 and hashlib.sha256(data).hexdigest() != name:
        raise InvalidParameter(f"invalid image config or manifest: digest mismatch for {path}")


def _native(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    for entry in manifests:
        platform = entry.get("platform") or {}
        if platform.get("architecture") == "amd64" and platform.get("os") == "linux":
            return entry
    return manifests[0]


def _blob_path(digest: str) -> str:
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
