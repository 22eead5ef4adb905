"""The `Config` of a container: the request merged with its image, every field present."""

from __future__ import annotations

import posixpath
import re
import signal
from typing import Any

from api.engine.errors import InvalidParameter

Settings = dict[str, Any]

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENV_KEY = re.compile(r"[^=]+")
_PORT = re.compile(r"\d{1,5}(-\d{1,5})?/(tcp|udp|sctp)")


def merge_config(request: Settings, image: Settings) -> Settings:
    """Docker's rules for what the request leaves to the image. Raises InvalidParameter."""
    config: Settings = {
        "Hostname": _text(request, "Hostname"),
        "Domainname": _text(request, "Domainname"),
        "User": _text(request, "User") or image.get("User") or "",
        "AttachStdin": bool(request.get("AttachStdin")),
        "AttachStdout": bool(request.get("AttachStdout")),
        "AttachStderr": bool(request.get("AttachStderr")),
        "ExposedPorts": {
            **(image.get("ExposedPorts") or {}),
            **(request.get("ExposedPorts") or {}),
        },
        "Tty": bool(request.get("Tty")),
        "OpenStdin": bool(request.get("OpenStdin")),
        "StdinOnce": bool(request.get("StdinOnce")),
        "Env": _merge_env(_words(request, "Env") or [], image.get("Env") or []),
        "Cmd": _words(request, "Cmd"),
        "Healthcheck": _merge_health(request.get("Healthcheck"), image.get("Healthcheck")),
        "Image": _text(request, "Image"),
        "Volumes": {**(image.get("Volumes") or {}), **(request.get("Volumes") or {})} or None,
        "WorkingDir": _text(request, "WorkingDir") or image.get("WorkingDir") or "",
        "Entrypoint": _words(request, "Entrypoint"),
        "OnBuild": None,
        "Labels": {**(image.get("Labels") or {}), **(request.get("Labels") or {})},
    }
    if not config["Entrypoint"]:
        if not config["Cmd"]:
            config["Cmd"] = image.get("Cmd")
        if config["Entrypoint"] is None:
            config["Entrypoint"] = image.get("Entrypoint")
    if config["Entrypoint"] in ([""], []):
        config["Entrypoint"] = None
    if not config["Entrypoint"] and not config["Cmd"]:
        raise InvalidParameter("no command specified")
    config["StopSignal"] = _text(request, "StopSignal") or image.get("StopSignal") or ""
    if config["StopSignal"]:
        parse_signal(config["StopSignal"])
    config["StopTimeout"] = request.get("StopTimeout")
    for field in ("ExposedPorts", "Healthcheck", "StopSignal", "StopTimeout"):
        if config[field] in (None, "", {}):
            del config[field]
    _check(config)
    return config


def argv_of(config: Settings) -> list[str]:
    """The words to execute."""
    return [*(config["Entrypoint"] or []), *(config["Cmd"] or [])]


def environment_of(config: Settings, hostname: str) -> list[str]:
    """The guest's environment: defaults, then the container's; the last of a key wins."""
    defaults = [DEFAULT_PATH, f"HOSTNAME={hostname}"]
    if config["Tty"]:
        defaults.append("TERM=xterm")
    return override_env(defaults, config["Env"] or [])


def override_env(base: list[str], changes: list[str]) -> list[str]:
    """`base` with keys replaced or added; a change without `=` takes its key away."""
    result = {item.partition("=")[0]: item for item in base}
    for item in changes:
        key, equals, _ = item.partition("=")
        if equals:
            result[key] = item
        else:
            result.pop(key, None)
    return list(result.values())


def parse_signal(text: str | int) -> int:
    """A signal's number from `9`, `KILL`, `SIGKILL`, `SIGRTMIN+3`. Raises InvalidParameter."""
    word = str(text).upper().removeprefix("SIG")
    if word.isdigit() and 0 < int(word) <= 64:
        return int(word)
    offset = re.fullmatch(r"RTMIN(?:\+(\d{1,2}))?|RTMAX(?:-(\d{1,2}))?", word)
    if offset is not None:
        number = 64 - int(offset[2] or 0) if word.startswith("RTMAX") else 34 + int(offset[1] or 0)
        if 34 <= number <= 64:
            return number
    elif f"SIG{word}" in signal.Signals.__members__ and not word.startswith("_"):
        return int(signal.Signals[f"SIG{word}"])
    raise InvalidParameter(f"invalid signal: {text}")


def _check(config: Settings) -> None:
    for item in config["Env"] or []:
        if not _ENV_KEY.match(item):
            raise InvalidParameter(f"invalid environment variable: {item}")
        if "\0" in item:
            raise InvalidParameter("invalid environment variable: contains a NUL byte")
    if any("\0" in word for word in argv_of(config)):
        raise InvalidParameter("invalid command: contains a NUL byte")
    working = config["WorkingDir"]
    if working:
        if not working.startswith("/"):
            raise InvalidParameter(
                f"the working directory '{working}' is invalid, it needs to be an absolute path"
            )
        config["WorkingDir"] = posixpath.normpath(working)
    hostname = config["Hostname"]
    if len(hostname) > 63:
        raise InvalidParameter(f"invalid hostname: {hostname}: must be at most 63 characters")
    for port in config.get("ExposedPorts", {}):
        if not _PORT.fullmatch(port if "/" in port else f"{port}/tcp"):
            raise InvalidParameter(f"invalid port specification: {port!r}")
    timeout = config.get("StopTimeout")
    if timeout is not None and not isinstance(timeout, int):
        raise InvalidParameter("invalid StopTimeout: must be a number of seconds")


def _merge_env(chosen: list[str], image: list[str]) -> list[str] | None:
    keys = {item.partition("=")[0] for item in chosen}
    return [*chosen, *(item for item in image if item.partition("=")[0] not in keys)] or None


def _merge_health(request: Settings | None, image: Settings | None) -> Settings | None:
    """Each value that the request leaves out is the image's."""
    if not request or not image:
        return request or image
    chosen = {field: value for field, value in request.items() if value}
    return {**image, **chosen}


def _text(request: Settings, field: str) -> str:
    value = request.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidParameter(f"invalid JSON: {field} must be a string")
    return value


def _words(request: Settings, field: str) -> list[str] | None:
    value = request.get(field)
    if isinstance(value, str):  # Docker takes a lone string for a list of one
        return [value]
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise InvalidParameter(f"invalid JSON: {field} must be a list of strings")
    return value
