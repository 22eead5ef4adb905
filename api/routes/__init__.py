"""HTTP routes, a module for each group of Docker's API: parse, one engine call, render."""

from __future__ import annotations

from quart import Blueprint

from api.routes import (
    archive,
    containers,
    exec_routes,
    image_transfer,
    images,
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
