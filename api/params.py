"""Reading requests as clients in Go and in Python write them: booleans, filters, JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from quart import request

from api.engine.errors import InvalidParameter

_FALSE = ("", "0", "no", "false", "none")


def flag(name: str, *, default: bool = False) -> bool:
    """A boolean query parameter: everything is true but the empty word, 0, no, false, none."""
    value = request.args.get(name)
    return default if value is None else value.strip().lower() not in _FALSE


def text(name: str, default: str = "") -> str:
    """A query parameter."""
    return request.args.get(name, default)


def integer(name: str) -> int | None:
    """A number, or None when absent. Raises InvalidParameter."""
    value = request.args.get(name, "")
    if not value:
        return None
    try:
        return int(value)
    except ValueError:
        raise InvalidParameter(f'strconv.Atoi: parsing "{value}": invalid syntax') from None


async def json_body() -> dict[str, Any]:
    """The request's JSON object; {} for an empty body. Raises InvalidParameter."""
    data = await request.get_data()
    if not data.strip():
        return {}
    kind = (request.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
    if kind not in ("application/json", ""):
        raise InvalidParameter(
            f"unsupported Content-Type header ({kind}): must be 'application/json'"
        )
    try:
        value: Any = json.loads(data)
    except ValueError as error:
        raise InvalidParameter(f"invalid JSON: {error}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidParameter("invalid JSON: got something else than an object")
    if b"\\ud" in data.lower():  # lone surrogates are not text; Go replaces them too
        plain = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass")
        value = json.loads(plain.decode("utf-16", "replace"))
    return dict(value)


class Filters:
    """The `filters` parameter: {"label": {"a=b": true}} from Go, {"label": ["a=b"]} from Python."""

    def __init__(self, known: Iterable[str]) -> None:
        self._values: dict[str, list[str]] = {}
        raw = request.args.get("filters", "")
        if not raw.strip():
            return
        try:
            parsed = json.loads(raw)
        except ValueError:
            raise InvalidParameter(f"invalid filter: {raw}") from None
        if not isinstance(parsed, dict):
            raise InvalidParameter("invalid filter")
        known = frozenset(known)
        for key, values in parsed.items():
            if key not in known:
                raise InvalidParameter(f"invalid filter '{key}'")
            self._values[key] = [str(value) for value in _as_list(values)]

    def __contains__(self, key: str) -> bool:
        return bool(self._values.get(key))

    def get(self, key: str) -> list[str]:
        """All values of a filter; [] when it is not given."""
        return self._values.get(key, [])

    def boolean(self, key: str, *, default: bool) -> bool:
        """A filter that is true or false. Raises InvalidParameter."""
        values = self.get(key)
        if not values:
            return default
        word = values[0].lower()
        if word not in ("true", "1", "false", "0"):
            raise InvalidParameter(f"invalid filter '{key}={values}'")
        return word in ("true", "1")

    def labels_match(self, labels: dict[str, str] | None) -> bool:
        """Every `label` and no `label!` holds."""
        have = labels or {}
        return all(_has(have, item) for item in self.get("label")) and not any(
            _has(have, item) for item in self.get("label!")
        )


def _as_list(values: Any) -> list[Any]:
    if isinstance(values, dict):
        return [value for value, wanted in values.items() if wanted]
    return list(values) if isinstance(values, list | tuple) else [values]


def _has(labels: dict[str, str], item: str) -> bool:
    key, equals, value = item.partition("=")
    return key in labels and (not equals or labels[key] == value)
