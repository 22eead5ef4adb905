"""What we say we are. Clients choose features by these."""

from __future__ import annotations

API_VERSION = "1.50"
MIN_API_VERSION = "1.24"
ENGINE_VERSION = "28.2.2"  # the dockerd whose behaviour the API has
DEFAULT_ZYGOTE = "kernel.zygote"  # the module that forks kernels
SERVER_HEADER = f"Docker/{ENGINE_VERSION} (linux)"


def parse_version(text: str) -> tuple[int, int]:
    """`1.50` as a pair that compares rightly."""
    major, _, minor = text.partition(".")
    return int(major), int(minor)
