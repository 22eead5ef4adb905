"""Dockerfile instructions that change an image's config, as `docker import --change` takes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

from api.engine.errors import InvalidParameter

Settings = dict[str, Any]


def apply_changes(settings: Settings, changes: list[str]) -> None:
    """Apply each instruction to the config in place. Raises InvalidParameter."""
    for change in changes:
        if not change.strip():
            continue
        name, _, rest = change.strip().partition(" ")
        instruction = _INSTRUCTIONS.get(name.upper())
        if instruction is None:
            known = name.upper() in ("ADD", "ARG", "COPY", "FROM", "RUN", "SHELL", "MAINTAINER")
            text = (
                f"{name.lower()} is not a valid change command"
                if known
                else (f"unknown instruction: {name.upper()}")
            )
            raise InvalidParameter(text)
        instruction(settings, rest.strip())


def _command(rest: str) -> list[str]:
    if rest.startswith("["):
        try:
            words = json.loads(rest)
        except ValueError:
            words = None
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return words
    return ["/bin/sh", "-c", rest]


def _pairs(instruction: str, rest: str) -> list[tuple[str, str]]:
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise InvalidParameter(f"{instruction}: {error}") from None
    if words and "=" not in words[0]:
        key, _, value = rest.partition(" ")
        if not value:
            raise InvalidParameter(f"{instruction} must have two arguments")
        return [(key, value.strip())]
    pairs = [word.partition("=") for word in words]
    if not pairs or not all(equals and key for key, equals, _ in pairs):
        raise InvalidParameter(f"{instruction} names can not be blank")
    return [(key, value) for key, _, value in pairs]


def _env(settings: Settings, rest: str) -> None:
    current: list[str] = settings.setdefault("Env", None) or []
    for key, value in _pairs("ENV", rest):
        current = [item for item in current if item.partition("=")[0] != key]
        current.append(f"{key}={value}")
    settings["Env"] = current


def _label(settings: Settings, rest: str) -> None:
    settings["Labels"] = {**(settings.get("Labels") or {}), **dict(_pairs("LABEL", rest))}


def _expose(settings: Settings, rest: str) -> None:
    ports = settings.get("ExposedPorts") or {}
    for word in rest.split():
        number, _, protocol = word.partition("/")
        if not number.replace("-", "").isdigit() or protocol not in ("", "tcp", "udp", "sctp"):
            raise InvalidParameter(f"invalid containerPort: {word}")
        ports[f"{number}/{protocol or 'tcp'}"] = {}
    settings["ExposedPorts"] = ports


def _volume(settings: Settings, rest: str) -> None:
    paths = _command(rest) if rest.startswith("[") else rest.split()
    settings["Volumes"] = {**(settings.get("Volumes") or {}), **{path: {} for path in paths}}


def _workdir(settings: Settings, rest: str) -> None:
    base = "" if rest.startswith("/") else (settings.get("WorkingDir") or "/")
    settings["WorkingDir"] = f"{base.rstrip('/')}/{rest}" if base else rest


def _onbuild(settings: Settings, rest: str) -> None:
    settings["OnBuild"] = [*(settings.get("OnBuild") or []), rest]


def _healthcheck(settings: Settings, rest: str) -> None:
    kind, _, command = rest.partition(" ")
    if kind.upper() == "NONE":
        settings["Healthcheck"] = {"Test": ["NONE"]}
    elif kind.upper() == "CMD":
        exec_form = command.strip().startswith("[")
        test = ["CMD", *_command(command.strip())] if exec_form else ["CMD-SHELL", command.strip()]
        settings["Healthcheck"] = {"Test": test}
    else:
        raise InvalidParameter(f"unknown type {kind!r} in HEALTHCHECK (try CMD)")


def _set(field: str, convert: Callable[[str], Any] = str) -> Callable[[Settings, str], None]:
    def change(settings: Settings, rest: str) -> None:
        settings[field] = convert(rest)

    return change


_INSTRUCTIONS: dict[str, Callable[[Settings, str], None]] = {
    "CMD": _set("Cmd", _command),
    "ENTRYPOINT": _set("Entrypoint", _command),
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _set("StopSignal"),
    "USER": _set("User"),
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
