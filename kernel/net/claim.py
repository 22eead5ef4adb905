"""Claiming a container's address for one daemon: others of this host must choose another."""

from __future__ import annotations

import socket


def claim(loopback: str) -> socket.socket | None:
    """Hold `loopback` until the returned socket is closed; None if somebody else holds it.

    An abstract name: it is visible to every user of the host and cannot be left behind.
    """
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        holder.bind(f"\0ddock-address-{loopback}")
    except OSError:
        holder.close()
        return None
    return holder
