"""Capability names as Docker takes them: with or without CAP_, in any case, and `ALL`."""

from __future__ import annotations

from api.engine.errors import InvalidParameter
from kernel.capabilities import NUMBERS


def normalize_capabilities(field: str, names: list[str] | None) -> list[str] | None:
    """Full names (`CAP_NET_ADMIN`, `ALL`) for CapAdd or CapDrop. Raises InvalidParameter."""
    if not names:
        return None
    result = []
    for name in names:
        bare = str(name).upper().removeprefix("CAP_")
        if bare != "ALL" and bare not in NUMBERS:
            raise InvalidParameter(f'invalid {field}: unknown capability: "CAP_{bare}"')
        result.append("ALL" if bare == "ALL" else f"CAP_{bare}")
    return result
