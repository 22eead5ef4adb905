"""The flags of `docker run`, and the create request that they mean."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any

from api.engine.mounts import parse_bind

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtKMGT]?)(?:i?[bB])?")
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def parser() -> argparse.ArgumentParser:
    """A parser that takes what docker takes; `-h` is --hostname."""
    made = argparse.ArgumentParser(
        prog="ddock run",
        usage="ddock run [OPTIONS] IMAGE [COMMAND] [ARG...]",
        add_help=False,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--help", action="help")
    for names in ("-d --detach", "-i --interactive", "-t --tty", "--rm", "--read-only"):
        add(*names.split(), action="store_true")
    for names in ("--privileged", "--init", "-P --publish-all", "-q --quiet"):
        add(*names.split(), action="store_true")
    for name in ("name", "entrypoint", "cpus", "stop-signal", "domainname", "detach-keys"):
        add(f"--{name}")
    for names in ("-w --workdir", "-u --user", "-h --hostname", "-m --memory", "--memory-swap"):
        add(*names.split())
    add("--network", "--net", default="default")
    add("--restart", default="no")
    add("--platform", default="")
    add("--pull", choices=("always", "missing", "never"), default="missing")
    add("--log-driver", default="")
    add("--shm-size", default="")
    add("--pids-limit", type=int, default=0)
    add("--stop-timeout", type=int)
    add("--cidfile", type=Path)
    for names in ("-e --env", "--env-file", "-v --volume", "--mount", "--tmpfs", "--ulimit"):
        add(*names.split(), action="append", default=[])
    for names in ("--cap-add", "--cap-drop", "-l --label", "--label-file", "--add-host", "--dns"):
        add(*names.split(), action="append", default=[])
    for names in ("-p --publish", "--expose", "--security-opt", "--group-add", "--volumes-from"):
        add(*names.split(), action="append", default=[])
    for names in ("-a --attach", "--log-opt", "--dns-search", "--dns-option"):
        add(*names.split(), action="append", default=[])
    add("image")
    add("command", nargs=argparse.REMAINDER)
    return made


def create_request(options: argparse.Namespace) -> dict[str, Any]:
    """The body of POST /containers/create. Raises ValueError for a flag that makes no sense."""
    interactive, detached = options.interactive, options.detach
    if options.tty and not detached and interactive and not sys.stdin.isatty():
        raise ValueError("the input device is not a TTY")
    if detached and options.attach:
        raise ValueError("conflicting options: -a and -d")
    return {
        "Hostname": options.hostname or "",
        "Domainname": options.domainname or "",
        "User": options.user or "",
        "AttachStdin": interactive and not detached,
        "AttachStdout": not detached,
        "AttachStderr": not detached,
        "Tty": options.tty,
        "OpenStdin": interactive,
        "StdinOnce": interactive and not detached,
        "Env": environment(options.env_file, options.env) or None,
        "Cmd": options.command or None,
        "Image": options.image,
        "Volumes": {v: {} for v in options.volume if parse_bind(v).anonymous},
        "WorkingDir": options.workdir or "",
        "Entrypoint": None if options.entrypoint is None else [options.entrypoint],
        "Labels": _pairs(_file_lines(options.label_file) + options.label),
        "ExposedPorts": {_port(port): {} for port in options.expose}
        | {_port(_published(port)[2]): {} for port in options.publish},
        "StopSignal": options.stop_signal or "",
        **({} if options.stop_timeout is None else {"StopTimeout": options.stop_timeout}),
        "HostConfig": _host_config(options),
    }


def environment(files: list[str], words: list[str]) -> list[str]:
    """-e and --env-file; a bare name takes its value from our own environment."""
    result = []
    for word in _file_lines(files) + words:
        if "=" in word:
            result.append(word)
        elif word in os.environ:
            result.append(f"{word}={os.environ[word]}")
    return result


def size(text: str) -> int:
    """`64m` in bytes. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"invalid size: '{text}'")
    return int(float(match[1]) * (1 << _UNITS[match[2].lower()]))


def _host_config(options: argparse.Namespace) -> dict[str, Any]:
    policy, _, retries = options.restart.partition(":")
    bindings: dict[str, list[dict[str, str]]] = {}
    for published in options.publish:
        ip, host_port, port = _published(published)
        bindings.setdefault(_port(port), []).append({"HostIp": ip, "HostPort": host_port})
    return {
        "Binds": [v for v in options.volume if not parse_bind(v).anonymous] or None,
        "Mounts": [_mount(text) for text in options.mount],
        "Tmpfs": {path: rest for path, _, rest in (t.partition(":") for t in options.tmpfs)},
        "LogConfig": {"Type": options.log_driver, "Config": _pairs(options.log_opt)},
        "NetworkMode": options.network,
        "PortBindings": bindings,
        "PublishAllPorts": options.publish_all,
        "RestartPolicy": {"Name": policy, "MaximumRetryCount": int(retries or 0)},
        "AutoRemove": options.rm,
        "VolumesFrom": options.volumes_from or None,
        "ConsoleSize": [0, 0],
        "CapAdd": options.cap_add or None,
        "CapDrop": options.cap_drop or None,
        "Dns": options.dns,
        "DnsSearch": options.dns_search,
        "DnsOptions": options.dns_option,
        "ExtraHosts": [host.replace("=", ":", 1) for host in options.add_host] or None,
        "GroupAdd": options.group_add or None,
        "Privileged": options.privileged,
        "ReadonlyRootfs": options.read_only,
        "SecurityOpt": options.security_opt or None,
        "ShmSize": size(options.shm_size) if options.shm_size else 0,
        "Memory": size(options.memory) if options.memory else 0,
        "MemorySwap": _swap(options.memory_swap),
        "NanoCpus": int(float(options.cpus) * 1e9) if options.cpus else 0,
        "PidsLimit": options.pids_limit,
        "Ulimits": [_ulimit(text) for text in options.ulimit],
        "Init": options.init or None,
    }


def _swap(text: str | None) -> int:
    if not text:
        return 0
    return -1 if text == "-1" else size(text)


def _ulimit(text: str) -> dict[str, Any]:
    name, _, values = text.partition("=")
    soft, _, hard = values.partition(":")
    try:
        return {"Name": name, "Soft": int(soft), "Hard": int(hard or soft)}
    except ValueError:
        raise ValueError(f"invalid ulimit argument: {text}") from None


def _mount(text: str) -> dict[str, Any]:
    spec: dict[str, Any] = {"Type": "volume"}
    names = {"type": "Type", "source": "Source", "src": "Source"}
    names |= {"target": "Target", "destination": "Target", "dst": "Target"}
    for word in text.split(","):
        key, _, value = word.partition("=")
        if key in names:
            spec[names[key]] = value
        elif key in ("readonly", "ro"):
            spec["ReadOnly"] = value in ("", "1", "true")
        elif key == "bind-propagation":
            spec["BindOptions"] = {"Propagation": value}
        elif key == "volume-nocopy":
            spec["VolumeOptions"] = {"NoCopy": value in ("", "1", "true")}
        elif key == "tmpfs-size":
            spec.setdefault("TmpfsOptions", {})["SizeBytes"] = size(value)
        elif key == "tmpfs-mode":
            spec.setdefault("TmpfsOptions", {})["Mode"] = int(value, 8)
        else:
            raise ValueError(f"unexpected key '{key}' in '{text}'")
    return spec


def _published(text: str) -> tuple[str, str, str]:
    *front, port = text.rsplit(":", 2) if not text.startswith("[") else _bracketed(text)
    if len(front) == 2:
        return front[0].strip("[]"), front[1], port
    return "", front[0] if front else "", port


def _bracketed(text: str) -> list[str]:
    address, _, rest = text.partition("]:")
    return [address + "]", *rest.split(":", 1)]


def _port(text: str) -> str:
    return text if "/" in text else f"{text}/tcp"


def _pairs(words: list[str]) -> dict[str, str]:
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def _file_lines(files: list[str]) -> list[str]:
    lines = (line for name in files for line in Path(name).read_text().splitlines())
    return [line.lstrip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
