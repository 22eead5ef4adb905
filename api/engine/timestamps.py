"""Times as Docker writes and reads them. Inside the engine a time is an int of ns since 1970."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from api.engine.errors import InvalidParameter

NEVER = "0001-01-01T00:00:00Z"  # Go's zero time
_SECOND_NS = 1_000_000_000
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?)?([Zz]|[+-]\d\d:\d\d)?"
)


def now_ns() -> int:
    """The time of day."""
    return time.time_ns()


def rfc3339(time_ns: int, *, fixed: bool = False) -> str:
    """Go's RFC3339Nano; `fixed` keeps all nine digits, as log lines do. 0 is "never"."""
    if not time_ns:
        return NEVER
    seconds, fraction = divmod(time_ns, _SECOND_NS)
    moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    if fixed:
        return f"{moment}.{fraction:09d}Z"
    digits = f"{fraction:09d}".rstrip("0")
    return f"{moment}.{digits}Z" if digits else f"{moment}Z"


def parse_time(text: str) -> int:
    """Read a `since` value: seconds with a fraction, or RFC 3339. Raises InvalidParameter."""
    whole, dot, fraction = text.partition(".")
    if whole.lstrip("-").isdigit() and (not dot or fraction.isdigit()):
        return int(whole) * _SECOND_NS + int((fraction + "0" * 9)[:9])
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise InvalidParameter(f'parsing time "{text}": cannot parse as a timestamp')
    date, clock, seconds, fraction, zone = match.groups()
    zone = "+00:00" if zone in (None, "Z", "z") else zone
    try:
        moment = datetime.fromisoformat(f"{date}T{clock or '00:00'}:{seconds or '00'}{zone}")
    except ValueError as error:
        raise InvalidParameter(f'parsing time "{text}": {error}') from None
    return int(moment.timestamp()) * _SECOND_NS + int(((fraction or "") + "0" * 9)[:9])


def human_duration(seconds: float) -> str:
    """How long, in the words of go-units, as `docker ps` shows it."""
    whole = int(seconds)
    minutes, hours = whole // 60, round(whole / 3600)
    limits = (
        (whole < 1, "Less than a second"),
        (whole == 1, "1 second"),
        (whole < 60, f"{whole} seconds"),
        (minutes == 1, "About a minute"),
        (minutes < 60, f"{minutes} minutes"),
        (hours == 1, "About an hour"),
        (hours < 48, f"{hours} hours"),
        (hours < 24 * 7 * 2, f"{hours // 24} days"),
        (hours < 24 * 30 * 2, f"{hours // 24 // 7} weeks"),
        (hours < 24 * 365 * 2, f"{hours // 24 // 30} months"),
    )
    return next((text for fits, text in limits if fits), f"{hours // 24 // 365} years")
