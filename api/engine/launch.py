"""From a container's settings to the spec its kernel gets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from api.engine.config import argv_of, environment_of, parse_signal
from api.engine.errors import EngineError, InvalidParameter
from api.engine.host_config import parse_security_option
from api.engine.mounts import MountPoint
from api.engine.platforms import parse_platform
from api.engine.start_errors import start_failure
from kernel.host import engines
from kernel.spec import ContainerSpec, MountEntry, UlimitEntry

DEFAULT_STOP_SIGNAL = 15


def build_spec(
    *,
    container_id: str,
    hostname: str,
    config: dict[str, Any],
    host: dict[str, Any],
    layers: list[str],
    directory: Path,
    mounts: list[MountPoint],
    cache: Path,
    address: str,
    isa: str,
) -> ContainerSpec:
    """Everything the kernel must know. Raises InvalidParameter for a bind source that is gone."""
    options = [parse_security_option(option) for option in host["SecurityOpt"] or []]
    return ContainerSpec(
        id=container_id,
        hostname=hostname,
        domainname=config["Domainname"],
        layers=layers,
        upper=os.fspath(directory / "upper"),
        argv=argv_of(config),
        env=environment_of(config, hostname),
        cwd=config["WorkingDir"] or "/",
        user=config["User"],
        groups=[str(group) for group in host["GroupAdd"] or []],
        terminal=config["Tty"],
        mounts=[mount_entry(point) for point in sorted(mounts, key=_depth)],
        hosts=[_host_line(entry, address) for entry in host["ExtraHosts"] or []],
        dns=list(host["Dns"] or []),
        dns_search=list(host["DnsSearch"] or []),
        dns_options=list(host["DnsOptions"] or []),
        network=host["NetworkMode"] if host["NetworkMode"] in ("none", "host") else "bridge",
        readonly_rootfs=bool(host["ReadonlyRootfs"]),
        pids_limit=max(0, host["PidsLimit"] or 0),
        memory_bytes=host["Memory"],
        nofile=_nofile(host),
        ulimits=[
            UlimitEntry(name=limit["Name"], soft=limit.get("Soft", 0), hard=limit.get("Hard", 0))
            for limit in host["Ulimits"]
        ],
        cap_add=list(host["CapAdd"] or []),
        cap_drop=list(host["CapDrop"] or []),
        privileged=bool(host["Privileged"]),
        shm_size_bytes=host["ShmSize"],
        stop_signal=stop_signal_of(config),
        init=bool(host.get("Init")),
        cache=os.fspath(cache),
        runtime=os.fspath(directory / "run"),
        no_new_privileges=any(options),
        address=address,
        isa=isa,
    )


def isa_to_run(platform: str, program: str) -> str:
    """The ISA of a platform's programs, for which this host has an engine. Raises StartFailed."""
    isa = _isa(platform)
    if isa is None:
        why = "only linux/amd64 and linux/arm64 containers can run"
    elif has_engine(isa):
        return isa
    elif isa == "arm64" and engines.host_isa() == "x86_64":
        why = "this host has no engine for it, installing qemu-user-static provides one"
    else:
        why = "this host has no engine for it"
    raise start_failure(f'exec: "{program}": exec format error: {platform}: {why}', 126)


def isa_for_files(platform: str) -> str:
    """The ISA of a kernel that only serves files: that needs no engine, so anything goes."""
    isa = _isa(platform)
    return isa if isa is not None and has_engine(isa) else engines.host_isa()


def has_engine(isa: str) -> bool:
    """Whether guests of an ISA can run here."""
    return engines.find(isa) is not None


def stop_signal_of(config: dict[str, Any]) -> int:
    """The signal that asks the container to end."""
    chosen = config.get("StopSignal")
    return parse_signal(chosen) if chosen else DEFAULT_STOP_SIGNAL


def mount_entry(point: MountPoint) -> MountEntry:
    """One mount as the kernel takes it; a missing `-v` directory is made, as Docker does."""
    options = list(point.options)
    if point.type == "bind":
        if not os.path.lexists(point.source):
            if point.must_exist:
                raise InvalidParameter(
                    f'invalid mount config for type "bind": bind source path does not exist:'
                    f" {point.source}"
                )
            try:
                os.makedirs(point.source)
            except OSError as error:
                raise EngineError(
                    f"error while creating mount source path '{point.source}':"
                    f" mkdir {error.filename}: {(error.strerror or '').lower()}"
                ) from None
        options.append(point.propagation or "rprivate")
    elif point.type == "volume":
        options.append("volume")
        if point.copy and not os.listdir(point.source):
            options.append("copy")
    return MountEntry(
        type="tmpfs" if point.type == "tmpfs" else "bind",
        source=point.source,
        target=point.destination,
        readonly=not point.writable,
        options=options,
    )


def _isa(platform: str) -> str | None:
    parsed = parse_platform(platform)
    return parsed.isa if parsed is not None else None


def _depth(point: MountPoint) -> int:
    return point.destination.count("/")


def _host_line(entry: str, address: str) -> str:
    name, _, target = entry.partition(":")
    return f"{address if target == 'host-gateway' else target.strip('[]')}\t{name}"


def _nofile(host: dict[str, Any]) -> list[int] | None:
    for limit in host["Ulimits"]:
        if limit["Name"] == "nofile":
            return [limit.get("Soft", 0), limit.get("Hard", 0)]
    return None
