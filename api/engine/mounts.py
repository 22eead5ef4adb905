"""Where a container's mounts come from: -v, --mount, --tmpfs, VOLUME of the image."""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import asdict, dataclass, field
from typing import Any

from api.engine.errors import InvalidParameter
from api.engine.names import check_volume_name

_MODES = {"ro", "rw", "z", "Z", "nocopy", "consistent", "cached", "delegated", "default"}
_PROPAGATIONS = {"private", "rprivate", "shared", "rshared", "slave", "rslave"}
_TMPFS_SIZE = re.compile(r"(\d+)([kKmMgG]?)[bB]?|\d+%")
_TMPFS_WORDS = (
    "ro rw exec noexec suid nosuid dev nodev sync async dirsync atime noatime diratime nodiratime"
    " relatime norelatime strictatime nostrictatime remount bind rbind"
)
_TMPFS_FLAGS = {*_TMPFS_WORDS.split(), *_PROPAGATIONS}


@dataclass(slots=True)
class MountPoint:
    """One mount of a container. A volume's `source` is filled in when the volume exists."""

    type: str
    destination: str
    source: str = ""
    name: str = ""
    mode: str = ""
    writable: bool = True
    propagation: str = ""
    copy: bool = True  # a new volume receives what the image holds at the destination
    anonymous: bool = False
    options: list[str] = field(default_factory=list)  # tmpfs
    must_exist: bool = False  # --mount type=bind: never create the host path

    def to_inspect(self) -> dict[str, Any]:
        """An entry of `Mounts` in `docker inspect`."""
        entry: dict[str, Any] = {"Type": self.type}
        if self.type == "volume":
            entry["Name"] = self.name
        entry |= {"Source": self.source, "Destination": self.destination}
        if self.type == "volume":
            entry["Driver"] = "local"
        entry |= {"Mode": self.mode, "RW": self.writable, "Propagation": self.propagation}
        return entry

    def to_record(self) -> dict[str, Any]:
        """For the container's file."""
        return asdict(self)


def parse_bind(text: str) -> MountPoint:
    """Read `-v`'s `[source:]destination[:modes]`. Raises InvalidParameter."""
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise InvalidParameter(f"invalid volume specification: '{text}'")
    if len(parts) == 1:
        return MountPoint("volume", _destination(parts[0], text), anonymous=True)
    source, target = parts[0], parts[1]
    point = MountPoint("bind", _destination(target, text), mode=parts[2] if parts[2:] else "")
    for word in point.mode.split(",") if point.mode else []:
        if word in _PROPAGATIONS:
            point.propagation = word
        elif word not in _MODES:
            raise InvalidParameter(f"invalid mode: {point.mode}")
        point.writable = point.writable and word != "ro"
        point.copy = point.copy and word != "nocopy"
    if source.startswith("/"):
        point.source = posixpath.normpath(source)
        point.propagation = point.propagation or "rprivate"
        return point
    if source.startswith((".", "~")):
        check_volume_name(source)
    point.type, point.name = "volume", check_volume_name(source)
    point.mode = point.mode or "z"
    return point


def parse_mount(spec: dict[str, Any]) -> MountPoint:
    """Read an object of HostConfig.Mounts (`--mount`). Raises InvalidParameter."""
    kind = str(spec.get("Type") or "")
    source, target = str(spec.get("Source") or ""), str(spec.get("Target") or "")
    wrong = f'invalid mount config for type "{kind}":'
    if not target:
        raise InvalidParameter(f"{wrong} field Target must not be empty")
    point = MountPoint(kind, _destination(target, target), writable=not spec.get("ReadOnly"))
    if kind == "bind":
        options = spec.get("BindOptions") or {}
        if not source.startswith("/"):
            raise InvalidParameter(
                f"{wrong} invalid mount path: '{source}' mount path must be absolute"
                if source
                else f"{wrong} field Source must not be empty"
            )
        if not os.path.lexists(source) and not options.get("CreateMountpoint"):
            raise InvalidParameter(f"{wrong} bind source path does not exist: {source}")
        point.source = posixpath.normpath(source)
        point.propagation = str(options.get("Propagation") or "rprivate")
        point.must_exist = not options.get("CreateMountpoint")
    elif kind == "volume":
        options = spec.get("VolumeOptions") or {}
        driver = (options.get("DriverConfig") or {}).get("Name") or "local"
        if driver != "local":
            raise InvalidParameter(
                f'error looking up volume plugin {driver}: plugin "{driver}" not found'
            )
        point.name = check_volume_name(source) if source else ""
        point.anonymous = not source
        point.copy = not options.get("NoCopy")
        point.mode = "z"
    elif kind == "tmpfs":
        if source:
            raise InvalidParameter(f"{wrong} field Source must not be specified")
        options = spec.get("TmpfsOptions") or {}
        point.options = ["nosuid", "nodev", "noexec"]
        if options.get("SizeBytes"):
            point.options.append(f"size={int(options['SizeBytes'])}")
        if options.get("Mode"):
            point.options.append(f"mode={int(options['Mode']):o}")
    else:
        raise InvalidParameter(f"mount type unknown: {kind!r}" if kind else "mount type required")
    return point


def parse_tmpfs(destination: str, options: str) -> MountPoint:
    """Read `--tmpfs`'s `destination:options`. Raises InvalidParameter."""
    words = [word for word in options.split(",") if word]
    for word in words:
        key, _, value = word.partition("=")
        good = {
            "size": bool(_TMPFS_SIZE.fullmatch(value)),
            "mode": bool(re.fullmatch(r"[0-7]{1,5}", value)),
            "uid": value.isdigit(),
            "gid": value.isdigit(),
            "nr_inodes": bool(_TMPFS_SIZE.fullmatch(value)),
            "nr_blocks": bool(_TMPFS_SIZE.fullmatch(value)),
            "mpol": bool(value),
        }.get(key, word in _TMPFS_FLAGS)
        if not good:
            raise InvalidParameter(f'Invalid tmpfs option ["{word}"]')
    defaults = [
        word for word in ("noexec", "nosuid", "nodev") if word.removeprefix("no") not in words
    ]
    point = MountPoint("tmpfs", _destination(destination, destination), options=defaults + words)
    point.writable = "ro" not in words
    return point


def _destination(path: str, whole: str) -> str:
    if not path.startswith("/"):
        raise InvalidParameter(
            f"invalid volume specification: '{whole}': invalid mount config for type \"volume\":"
            f" invalid mount path: '{path}' mount path must be absolute"
        )
    clean = posixpath.normpath(path)
    if clean in ("/", "//"):
        raise InvalidParameter(
            f"invalid volume specification: '{whole}': invalid mount config for type \"bind\":"
            " invalid specification: destination can't be '/'"
        )
    return clean
