"""`docker rmi` and pruning: what may go, and what stands against it, in Docker's words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from api.engine.errors import Conflict
from api.engine.images import Image, ImageStore, short
from api.engine.references import parse_key, parse_reference

Record = dict[str, str]


@dataclass(frozen=True, slots=True)
class ImageUser:
    """A container that was made from an image."""

    container_id: str
    running: bool


class ImageRemover:
    """Removes images from a store; `users_of` tells which containers use one."""

    def __init__(self, store: ImageStore, users_of: Callable[[str], list[ImageUser]]) -> None:
        self._store = store
        self._users_of = users_of

    def remove(self, name: str, *, force: bool = False, prune: bool = True) -> list[Record]:
        """Take the name away; delete the image when that was its last one. Raises Conflict."""
        image = self._store.resolve(name)
        if image.id.removeprefix("sha256:").startswith(name.removeprefix("sha256:")):
            return self._remove_by_id(image, force=force, prune=prune)
        key = parse_reference(name).key
        users = self._users_of(image.id)
        if users and not force and _single_repository(image):
            raise Conflict(
                f'conflict: unable to remove repository reference "{name}" (must force) - container'
                f" {users[0].container_id[:12]} is using its referenced image {short(image.id)}"
            )
        records = [{"Untagged": self._store.untag(image, key)}]
        repository = parse_key(key).repository
        if not any(_is_tag(other, repository) for other in image.references):
            others = _of_repository(image, repository)
            records += [{"Untagged": self._store.untag(image, other)} for other in others]
        if image.references:
            return records
        if self._conflict(image, force=force) is None:
            records += self._delete(image, prune=prune)
        return records

    def prune(self, chosen: Callable[[Image], bool]) -> tuple[list[Record], int]:
        """Remove every chosen image that nothing uses; what went, and the bytes that freed."""
        records: list[Record] = []
        before = self._store.total_bytes()
        for image in self._store.all():
            if chosen(image) and not self._users_of(image.id) and not self._store.children(image):
                keys = sorted(image.references)
                records += [{"Untagged": self._store.untag(image, key)} for key in keys]
                records += self._delete(image, prune=True)
        return records, before - self._store.total_bytes()

    def _remove_by_id(self, image: Image, *, force: bool, prune: bool) -> list[Record]:
        conflict = self._conflict(image, force=force)
        if conflict is None and not force and not _single_repository(image):
            conflict = "(must be forced) - image is referenced in multiple repositories"
        if conflict is not None:
            raise Conflict(f"conflict: unable to delete {short(image.id)} {conflict}")
        keys = sorted(image.references)
        records = [{"Untagged": self._store.untag(image, key)} for key in keys]
        return records + self._delete(image, prune=prune)

    def _conflict(self, image: Image, *, force: bool) -> str | None:
        if self._store.children(image):
            return "(cannot be forced) - image has dependent child images"
        users = self._users_of(image.id)
        for user in users:
            if user.running:
                used = f"image is being used by running container {user.container_id[:12]}"
                return f"(cannot be forced) - {used}"
        if users and not force:
            used = f"image is being used by stopped container {users[0].container_id[:12]}"
            return f"(must be forced) - {used}"
        return None

    def _delete(self, image: Image, *, prune: bool) -> list[Record]:
        chains = self._store.delete(image)
        records = [{"Deleted": image.id}, *({"Deleted": chain} for chain in chains)]
        parent = self._store.get(image.parent)
        dangling = prune and parent is not None and not parent.references
        if dangling and parent is not None and self._conflict(parent, force=False) is None:
            records += self._delete(parent, prune=True)
        return records


def _is_tag(key: str, repository: str) -> bool:
    return "@" not in key and parse_key(key).repository == repository


def _of_repository(image: Image, repository: str) -> list[str]:
    return sorted(key for key in image.references if parse_key(key).repository == repository)


def _single_repository(image: Image) -> bool:
    tags = [key for key in image.references if "@" not in key]
    return len({parse_key(key).repository for key in image.references}) <= 1 and len(tags) <= 1
