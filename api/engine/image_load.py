"""`docker load`: archives of `docker save` and OCI layouts, any of them with several platforms."""

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
from api.engine.errors import InvalidParameter
from api.engine.image_archive import blob_path
from api.engine.images import ImageStore, not_provided
from api.engine.layers import CorruptLayer
from api.engine.platforms import Platform, choose, host_platform
from api.engine.references import Reference, parse_reference


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


def load_archive(store: ImageStore, archive: Path, platform: Platform | None = None) -> Loaded:
    """Read a saved archive and store its layers. Blocks. Raises EngineError.

    Of an image for several platforms the wanted one is loaded, else the host's, else the first.
    """
    plain = _plain_copy(archive)
    try:
        with tarfile.open(plain, "r:") as tar:
            return _Loader(store, tar, platform).load()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InvalidParameter(f"Error processing tar file(exit status 1): {error}") from None
    finally:
        if plain != archive:
            plain.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Archived:
    """An image in an archive."""

    config: bytes
    platform: Platform
    layers: list[tuple[str, str]]  # diff id and path in the archive, lowest first
    names: list[str]
    group: str  # the same for the platforms of one image; "" for an image alone

    @property
    def shown(self) -> str:
        """What users call it."""
        if self.names:
            return parse_reference(self.names[0]).familiar
        return f"sha256:{hashlib.sha256(self.config).hexdigest()}"


class _Loader:
    def __init__(self, store: ImageStore, tar: tarfile.TarFile, platform: Platform | None) -> None:
        self._store = store
        self._tar = tar
        self._platform = platform
        self._members = {posixpath.normpath(member.name): member for member in tar}

    def load(self) -> Loaded:
        if "manifest.json" in self._members:
            entries = self._json("manifest.json")
        elif "index.json" in self._members:
            try:
                entries = list(self._oci_entries())
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise InvalidParameter("invalid index.json or manifest") from None
        else:
            raise InvalidParameter("open manifest.json: no such file or directory")
        if not isinstance(entries, list):
            raise InvalidParameter("invalid manifest.json")
        chosen = self._choose([self._parsed(entry) for entry in entries])
        return Loaded([(image.config, self._with_layers(image)) for image in chosen])

    def _choose(self, images: list[_Archived]) -> list[_Archived]:
        """All images, but of those that share a name only the ones for the best platform."""
        groups: dict[object, list[_Archived]] = {}
        for number, image in enumerate(images):
            groups.setdefault(image.group or number, []).append(image)
        chosen = []
        for group in groups.values():
            platforms = [image.platform for image in group]
            best = choose(zip(platforms, platforms, strict=True), self._platform or host_platform())
            if best is None and self._platform is None:
                best = platforms[0]
            chosen += [image for image in group if image.platform == best]
        if images and not chosen and self._platform is not None:
            raise not_provided(images[0].shown, self._platform)
        return chosen

    def _parsed(self, entry: dict[str, Any]) -> _Archived:
        try:
            path, layers = str(entry["Config"]), list(entry.get("Layers") or [])
            names = list(entry.get("RepoTags") or [])
            group = str(entry.get("Group") or " ".join(names))
        except (KeyError, TypeError, AttributeError):
            raise InvalidParameter("invalid manifest.json") from None
        data = self._bytes(path)
        _check_digest(path, data)
        try:
            config = json.loads(data)
            diff_ids = list(config["rootfs"]["diff_ids"] or [])
        except (ValueError, KeyError, TypeError):
            raise InvalidParameter("invalid image JSON, no RootFS key") from None
        if len(diff_ids) != len(layers):
            raise InvalidParameter(
                f"invalid manifest, layers length mismatch: expected {len(layers)}, got"
                f" {len(diff_ids)}"
            )
        return _Archived(
            data, Platform.of(config), list(zip(diff_ids, layers, strict=True)), names, group
        )

    def _with_layers(self, image: _Archived) -> list[Reference]:
        """Store the layers; the image's names."""
        references = [parse_reference(name) for name in image.names]
        for diff_id, path in image.layers:
            if self._store.layers.find(diff_id) is None:
                self._store.layers.add(cast(BinaryIO, self._open(path)), diff_id)
        return references

    def _oci_entries(self) -> Iterator[dict[str, Any]]:
        for descriptor in self._json("index.json").get("manifests") or []:
            annotations = descriptor.get("annotations") or {}
            name = annotations.get("io.containerd.image.name") or ""
            tag = annotations.get("org.opencontainers.image.ref.name") or ""
            name = name or (tag if ":" in tag else "")
            for manifest in self._oci_manifests(descriptor):
                yield {
                    "Config": blob_path(manifest["config"]["digest"]),
                    "Layers": [blob_path(layer["digest"]) for layer in manifest["layers"]],
                    "RepoTags": [name] if name else [],
                    "Group": name or descriptor["digest"],
                }

    def _oci_manifests(self, descriptor: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The manifest, or those of an index which the archive has: often it has only some."""
        content = json.loads(self._blob(descriptor["digest"]))
        if "manifests" not in content:
            yield content
            return
        images = [entry for entry in content["manifests"] if not _is_attestation(entry)]
        present = [entry for entry in images if blob_path(entry["digest"]) in self._members]
        for entry in present or images:
            yield from self._oci_manifests(entry)

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
        path = blob_path(digest)
        data = self._bytes(path)
        _check_digest(path, data)
        return data

    def _json(self, path: str) -> Any:
        try:
            return json.loads(self._bytes(path))
        except ValueError as error:
            raise InvalidParameter(f"invalid {path}: {error}") from None


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


def _is_attestation(entry: dict[str, Any]) -> bool:
    annotations = entry.get("annotations") or {}
    return (entry.get("platform") or {}).get("os") == "unknown" or (
        annotations.get("vnd.docker.reference.type") == "attestation-manifest"
    )
