"""What the daemon tells a kernel about the container it is to run.

The daemon builds a `ContainerSpec`, packs `to_dict()` with msgpack and sends it through the zygote;
the kernel rebuilds it with `from_dict()` and trusts it: every value was validated on Docker's side.
Nothing here knows HTTP or JSON spelling, and nothing here touches the host.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypedDict


class MountEntry(TypedDict):
    """One mount below the container's root, in the order in which to apply them.

    `type` "bind" mounts the host path `source`; "tmpfs" has an empty `source`.
    `options` are mount(8) words: `size=64m`, `mode=1777`, `noexec`, `nosuid`, `nodev`, `ro`,
    `rprivate`; and for binds of volumes the two words `volume` and, when the volume is new and is
    to receive what the image holds at `target`, `copy`.
    """

    type: Literal["bind", "tmpfs"]
    source: str
    target: str
    readonly: bool
    options: list[str]


class UlimitEntry(TypedDict):
    """A resource limit by its short name (`nofile`, `nproc`, ...); -1 means unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(slots=True)
class ContainerSpec:
    """Everything the kernel must know to run one container.

    Paths are host paths as text with surrogate escapes, sizes are bytes, 0 means "no limit".
    """

    id: str
    hostname: str
    layers: list[str]  # layer directories, topmost first
    upper: str
    argv: list[str]
    env: list[str]
    cwd: str
    cache: str  # translation cache shared by all containers
    runtime: str  # directory for this container's run-time files
    address: str  # this container's private loopback address, 127.x.y.z
    domainname: str = ""
    user: str = ""  # "", "uid", "uid:gid", "name", "name:group"
    groups: list[str] = field(default_factory=list)  # --group-add
    terminal: bool = False
    mounts: list[MountEntry] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)  # "address<TAB>name" lines for /etc/hosts
    dns: list[str] = field(default_factory=list)
    dns_search: list[str] = field(default_factory=list)
    dns_options: list[str] = field(default_factory=list)
    network: Literal["bridge", "none", "host"] = "bridge"
    readonly_rootfs: bool = False
    pids_limit: int = 0
    memory_bytes: int = 0
    nofile: list[int] | None = None  # [soft, hard]
    ulimits: list[UlimitEntry] = field(default_factory=list)
    cap_add: list[str] = field(default_factory=list)
    cap_drop: list[str] = field(default_factory=list)
    privileged: bool = False
    shm_size_bytes: int = 64 << 20
    stop_signal: int = 15
    init: bool = False
    no_new_privileges: bool = False
    isa: str = "x86_64"  # whose instructions the guests run, a name in tables

    def to_dict(self) -> dict[str, Any]:
        """A plain dictionary that msgpack can pack; `from_dict` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ContainerSpec:
        """Rebuild a spec. Raises ValueError when a required field is missing.

        Unknown keys are ignored, so that a newer daemon can talk to an older kernel.
        """
        known = {item.name for item in fields(cls)}
        try:
            return cls(**{key: value for key, value in data.items() if key in known})
        except TypeError as error:
            raise ValueError(f"incomplete container spec: {error}") from None
