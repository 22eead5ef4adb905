"""HTTP routes, one module a group of Docker's API reference. Route = parse, one engine call, render."""

from __future__ import annotations

from quart import Blueprint

from api.routes import (
    archive,
    containers,
    exec_routes,
    images,
    image_transfer,
    networks,
    private,
    streams,
    swarm,
    system,
    volumes,
)

BLUEPRINTS: tuple[Blueprint, ...] = (
    system.bp,
    containers.bp,
    streams.bp,
    archive.bp,
    exec_routes.bp,
    images.bp,
    image_transfer.bp,
    networks.bp,
    volumes.bp,
    private.bp,
    swarm.bp,
)
