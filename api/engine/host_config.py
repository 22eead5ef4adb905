"""The `HostConfig` of a container: every field present, what we cannot do refused or warned about.

Unsupported values are of two classes: those that would change what the program sees (namespaces of
others, devices) are errors; resource hints that we do not enforce are warnings in the answer.
"""

from __future__ import annotations

import os
import re
from typing import Any

from api.engine.capabilities import normalize_capabilities
from api.engine.errors import InvalidParameter, NotSupported
from api.engine.logs import LogLimits
from api.engine.mounts import parse_bind, parse_mount, parse_tmpfs
from api.engine.ports import check_bindings

Settings = dict[str, Any]

_DEFAULTS: Settings = {
    "Binds": None,
    "ContainerIDFile": "",
    "LogConfig": {"Type": "json-file", "Config": {}},
    "NetworkMode": "bridge",
    "PortBindings": {},
    "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    "AutoRemove": False,
    "VolumeDriver": "",
    "VolumesFrom": None,
    "ConsoleSize": [0, 0],
    "CapAdd": None,
    "CapDrop": None,
    "CgroupnsMode": "private",
    "Dns": [],
    "DnsOptions": [],
    "DnsSearch": [],
    "ExtraHosts": None,
    "GroupAdd": None,
    "IpcMode": "private",
    "Cgroup": "",
    "Links": None,
    "OomScoreAdj": 0,
    "PidMode": "",
    "Privileged": False,
    "PublishAllPorts": False,
    "ReadonlyRootfs": False,
    "SecurityOpt": None,
    "UTSMode": "",
    "UsernsMode": "",
    "ShmSize": 64 << 20,
    "Runtime": "ddock",
    "Isolation": "",
    "CpuShares": 0,
    "Memory": 0,
    "NanoCpus": 0,
    "CgroupParent": "",
    "BlkioWeight": 0,
    "BlkioWeightDevice": [],
    "BlkioDeviceReadBps": [],
    "BlkioDeviceWriteBps": [],
    "BlkioDeviceReadIOps": [],
    "BlkioDeviceWriteIOps": [],
    "CpuPeriod": 0,
    "CpuQuota": 0,
    "CpuRealtimePeriod": 0,
    "CpuRealtimeRuntime": 0,
    "CpusetCpus": "",
    "CpusetMems": "",
    "Devices": [],
    "DeviceCgroupRules": None,
    "DeviceRequests": None,
    "MemoryReservation": 0,
    "MemorySwap": 0,
    "MemorySwappiness": None,
    "OomKillDisable": False,
    "PidsLimit": None,
    "Ulimits": [],
    "CpuCount": 0,
    "CpuPercent": 0,
    "IOMaximumIOps": 0,
    "IOMaximumBandwidth": 0,
    "Mounts": [],
    "Tmpfs": {},
    "Init": None,
    "Sysctls": {},
    "StorageOpt": {},
    "Annotations": {},
    "MaskedPaths": None,
    "ReadonlyPaths": None,
}
_OMITTED_WHEN_EMPTY = ("Mounts", "Tmpfs", "Init", "Sysctls", "StorageOpt", "Annotations")
MASKED_PATHS = [
    *(
        "/proc/" + name
        for name in ["asound", "acpi", "interrupts", "kcore", "keys", "latency_stats"]
    ),
    *("/proc/" + name for name in ["timer_list", "timer_stats", "sched_debug", "scsi"]),
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
]
READONLY_PATHS = ["/proc/" + name for name in ["bus", "fs", "irq", "sys", "sysrq-trigger"]]

_LOG_DRIVERS = ("json-file", "local", "none")
_LOG_OPTIONS = ("max-size", "max-file")
_LOG_SIZE = re.compile(r"(\d+)([kmg]?)b?")
_POLICIES = ("no", "always", "on-failure", "unless-stopped")
_NOT_ENFORCED = {
    "CpuShares": "CPU shares",
    "NanoCpus": "CPU limits",
    "CpuQuota": "CPU limits",
    "CpuPeriod": "CPU limits",
    "CpusetCpus": "CPU sets",
    "CpusetMems": "CPU sets",
    "BlkioWeight": "block I/O weights",
    "BlkioWeightDevice": "block I/O weights",
    "BlkioDeviceReadBps": "block I/O limits",
    "BlkioDeviceWriteBps": "block I/O limits",
    "BlkioDeviceReadIOps": "block I/O limits",
    "BlkioDeviceWriteIOps": "block I/O limits",
    "CpuRealtimePeriod": "real-time scheduling",
    "CpuRealtimeRuntime": "real-time scheduling",
    "OomScoreAdj": "OOM score adjustment",
    "MemoryReservation": "memory reservations",
}
_UNSUPPORTED = {
    "Devices": "--device",
    "DeviceRequests": "--gpus",
    "DeviceCgroupRules": "--device-cgroup-rule",
    "Links": "--link",
    "Sysctls": "--sysctl",
    "StorageOpt": "--storage-opt",
    "CgroupParent": "--cgroup-parent",
    "Isolation": "--isolation",
}
_ULIMITS = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
]


def complete_host_config(request: Settings) -> tuple[Settings, list[str]]:
    """The whole HostConfig, checked, and warnings. Raises InvalidParameter, NotSupported."""
    host = {
        field: default if request.get(field) in (None, "", 0, [], {}) else request[field]
        for field, default in _DEFAULTS.items()
    }
    if host["Privileged"]:
        host["MaskedPaths"], host["ReadonlyPaths"] = None, None
    else:
        host["MaskedPaths"] = request.get("MaskedPaths") or MASKED_PATHS
        host["ReadonlyPaths"] = request.get("ReadonlyPaths") or READONLY_PATHS
    _check_log(host)
    _check_restart(host)
    _check_namespaces(host)
    _normalize_resources(host)
    for field in ("CapAdd", "CapDrop"):
        host[field] = normalize_capabilities(field, host[field])
    for field, flag in _UNSUPPORTED.items():
        if host[field]:
            raise NotSupported(f"{flag} is not supported by this engine")
    check_mounts(host)
    ignored = dict.fromkeys(text for field, text in _NOT_ENFORCED.items() if host[field])
    warnings = [f"Recorded but not enforced by this engine: {text}." for text in ignored]
    warnings += check_bindings(host)
    for field in _OMITTED_WHEN_EMPTY:
        if not host[field]:
            del host[field]
    return host, warnings


def check_mounts(host: Settings) -> None:
    """Read every mount once, so that a bad one fails at creation."""
    for text in host["Binds"] or []:
        parse_bind(text)
    for spec in host["Mounts"]:
        parse_mount(spec)
    for destination, options in host["Tmpfs"].items():
        parse_tmpfs(destination, options)


def check_resources(host: Settings) -> None:
    """Limits that make sense. Raises InvalidParameter in Docker's words."""
    memory, swap = host["Memory"], host["MemorySwap"]
    for field in ("Memory", "MemorySwap", "ShmSize", "NanoCpus", "MemoryReservation"):
        if not isinstance(host[field], int):
            raise InvalidParameter(f"invalid JSON: {field} must be a number")
    if memory < 0 or 0 < memory < 6 << 20:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if 0 < swap < memory:
        raise InvalidParameter(
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    if memory == 0 and swap > 0:
        raise InvalidParameter(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if memory and host["MemoryReservation"] > memory:
        raise InvalidParameter(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )
    if host["ShmSize"] < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    count = os.cpu_count() or 1
    if host["NanoCpus"] < 0 or host["NanoCpus"] > count * 1_000_000_000:
        raise InvalidParameter(
            f"range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
        )
    for limit in host["Ulimits"] or []:
        name, soft, hard = limit.get("Name"), limit.get("Soft", 0), limit.get("Hard", 0)
        if name not in _ULIMITS:
            raise InvalidParameter(f"invalid ulimit type: {name}")
        if hard != -1 and (soft == -1 or soft > hard):
            raise InvalidParameter(
                f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
            )


def _normalize_resources(host: Settings) -> None:
    if host["PidsLimit"] is not None and host["PidsLimit"] <= 0:
        host["PidsLimit"] = None
    if host["MemorySwappiness"] == -1:
        host["MemorySwappiness"] = None
    host["Ulimits"] = host["Ulimits"] or []
    check_resources(host)


def _check_log(host: Settings) -> None:
    log = host["LogConfig"]
    kind = log.get("Type") or "json-file"
    if kind not in _LOG_DRIVERS:
        raise InvalidParameter(f"logger: no log driver named '{kind}' is registered")
    options = log.get("Config") or {}
    log_limits(kind, options)
    host["LogConfig"] = {"Type": kind, "Config": options}


def log_limits(kind: str, options: dict[str, str]) -> LogLimits:
    """What `--log-opt` asks for. Raises InvalidParameter for what we do not know."""
    for name in options:
        if kind == "none" or name not in _LOG_OPTIONS:
            raise InvalidParameter(f"unknown log opt '{name}' for {kind} log driver")
    match = _LOG_SIZE.fullmatch(options.get("max-size", "").lower())
    if "max-size" in options and match is None:
        raise InvalidParameter(f"invalid size: '{options['max-size']}'")
    files = options.get("max-file", "1")
    if not files.isdigit() or int(files) < 1:
        raise InvalidParameter("max-file cannot be less than 1")
    if int(files) > 1 and match is None:
        raise InvalidParameter("max-file cannot be set without max-size")
    size = int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2]] if match else 0
    return LogLimits(size, int(files))


def _check_restart(host: Settings) -> None:
    policy = host["RestartPolicy"]
    name, retries = policy.get("Name") or "no", policy.get("MaximumRetryCount") or 0
    if name not in _POLICIES:
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{name}'; use one of 'no', 'always',"
            " 'on-failure', or 'unless-stopped'"
        )
    if retries and name != "on-failure":
        raise InvalidParameter(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    if retries < 0:
        raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
    if name != "no" and host["AutoRemove"]:
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")
    host["RestartPolicy"] = {"Name": name, "MaximumRetryCount": retries}


def _check_namespaces(host: Settings) -> None:
    if host["NetworkMode"] == "default":
        host["NetworkMode"] = "bridge"
    if host["NetworkMode"].startswith("container:"):
        raise NotSupported("--network container: is not supported by this engine")
    for field, flag, fine in (
        ("PidMode", "--pid", ("", "private")),
        ("IpcMode", "--ipc", ("", "private", "shareable", "none")),
        ("UTSMode", "--uts", ("", "private")),
        ("UsernsMode", "--userns", ("", "host")),
        ("CgroupnsMode", "--cgroupns", ("", "private", "host")),
        ("Runtime", "--runtime", ("ddock", "runc", "io.containerd.runc.v2")),
        ("VolumeDriver", "--volume-driver", ("", "local")),
    ):
        if host[field] not in fine:
            raise NotSupported(f"{flag} {host[field]} is not supported by this engine")
    for option in host["SecurityOpt"] or []:
        parse_security_option(option)


def parse_security_option(option: str) -> bool:
    """True for no-new-privileges; what weakens protections we do not have is accepted."""
    key, separator, value = option.replace(":", "=", 1).partition("=")
    if key == "no-new-privileges" and value in ("", "true", "false"):
        return value != "false"
    if separator and key in ("seccomp", "apparmor", "label", "systempaths"):
        if key in ("label", "systempaths") or value in ("unconfined", "builtin"):
            return False
        raise NotSupported(f"--security-opt {key}=<profile> is not supported by this engine")
    raise InvalidParameter(f'invalid --security-opt 1: "{option}"')
