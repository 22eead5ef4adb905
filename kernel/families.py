"""Which modules declare system calls. Importing them fills the registry."""

from __future__ import annotations

import importlib
import pkgutil

import kernel.syscalls


def load() -> None:
    """Import every family once."""
    for module in pkgutil.iter_modules(kernel.syscalls.__path__):
        importlib.import_module(f"kernel.syscalls.{module.name}")
