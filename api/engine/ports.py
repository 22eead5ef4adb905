"""Published and exposed ports: checked and recorded. Forwarding them is the network's part."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from api.engine.errors import InvalidParameter

_PORT = re.compile(r"(\d{1,5})/(tcp|udp|sctp)")


def check_bindings(host: dict[str, Any]) -> list[str]:
    """Check HostConfig.PortBindings; returns warnings. Raises InvalidParameter."""
    bindings = host["PortBindings"]
    for port, addresses in bindings.items():
        match = _PORT.fullmatch(port if "/" in port else f"{port}/tcp")
        if match is None or not 0 < int(match[1]) < 65536:
            raise InvalidParameter(f"invalid port specification: {port!r}")
        for address in addresses or []:
            _check_address(address)
    if bindings or host["PublishAllPorts"]:
        return ["Published ports are recorded but not forwarded by this engine yet."]
    return []


def _check_address(address: dict[str, Any]) -> None:
    port, ip = str(address.get("HostPort") or ""), str(address.get("HostIp") or "")
    first, _, last = port.partition("-")
    for number in (first, last):
        if number and not (number.isdigit() and int(number) < 65536):
            raise InvalidParameter(f"invalid port specification: {port!r}")
    if ip:
        try:
            ipaddress.ip_address(ip)
        except ValueError:
            raise InvalidParameter(f"invalid host IP: {ip}") from None


def summary(exposed: dict[str, Any]) -> list[dict[str, Any]]:
    """The Ports of `docker ps`: what is exposed; nothing is published."""
    result = []
    for port in sorted(exposed):
        number, _, protocol = port.partition("/")
        if number.isdigit():
            result.append({"PrivatePort": int(number), "Type": protocol or "tcp"})
    return result
