"""Image names: `busybox`, `localhost:5000/a/b:1`, `debian@sha256:...`, and how they are shown.

The grammar is distribution's: lower-case path components, a domain when the first component has a
dot, a colon or is `localhost`, a tag of at most 128 characters. Names are kept in full
("docker.io/library/busybox:latest") and shown familiar ("busybox:latest").
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from api.engine.errors import InvalidParameter

DEFAULT_DOMAIN = "docker.io"
_OFFICIAL = "library/"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEX_ID = re.compile(r"[0-9a-f]{64}")
_INVALID = "invalid reference format"


@dataclass(frozen=True, slots=True)
class Reference:
    """A repository with a tag, a digest, both or neither."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """The full repository name, "docker.io/library/busybox"."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The repository as users write it, "busybox"."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        return self.path.removeprefix(_OFFICIAL)

    @property
    def familiar(self) -> str:
        """The whole reference as users write it."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.familiar_name}{tag}{digest}"

    @property
    def key(self) -> str:
        """What the reference store is keyed by: the digest wins over the tag."""
        suffix = f"@{self.digest}" if self.digest else f":{self.tag or 'latest'}"
        return self.repository + suffix

    def tagged(self) -> Reference:
        """With the tag `latest` when there is neither tag nor digest."""
        if self.tag or self.digest:
            return self
        return Reference(self.domain, self.path, "latest")


def parse_reference(text: str) -> Reference:
    """Read a name. Raises InvalidParameter in Docker's words."""
    if _HEX_ID.fullmatch(text):
        raise InvalidParameter(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise InvalidParameter(_INVALID)
    head, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        name = head
        if not _TAG.fullmatch(tag):
            raise InvalidParameter(_INVALID)
    else:
        tag = ""
    domain, path = _split_domain(name)
    if not _PATH.fullmatch(path):
        if path.lower() != path:
            raise InvalidParameter(f"{_INVALID}: repository name ({path}) must be lowercase")
        raise InvalidParameter(_INVALID)
    if not _DOMAIN.fullmatch(domain) or len(path) > 255:
        raise InvalidParameter(_INVALID)
    return Reference(domain, path, tag, digest)


def parse_key(key: str) -> Reference:
    """Read back what `Reference.key` made."""
    return parse_reference(key)


def valid_tag(tag: str) -> bool:
    """Whether the text may be a tag."""
    return bool(_TAG.fullmatch(tag))


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    has_domain = slash and (
        "." in first or ":" in first or first == "localhost" or first.lower() != first
    )
    domain, path = (first, rest) if has_domain else (DEFAULT_DOMAIN, name)
    if domain in ("index.docker.io", "registry-1.docker.io"):
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = _OFFICIAL + path
    return domain, path
