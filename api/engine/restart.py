"""Restart policies: whether and when a container that ended is started again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_FIRST_DELAY_SECONDS = 0.1
_LONGEST_DELAY_SECONDS = 60.0
_STEADY_SECONDS = 10.0  # a run this long starts the back-off anew


@dataclass(frozen=True, slots=True)
class RestartDecision:
    """Whether to start it again, and after which delay."""

    restart: bool
    delay_seconds: float = 0.0


def decide(
    policy: dict[str, Any],
    *,
    exit_code: int,
    restarts: int,
    stopped_by_user: bool,
    lasted_seconds: float,
) -> RestartDecision:
    """Docker's rules; the delay doubles from 100 ms to a minute, anew after a steady run."""
    match policy["Name"]:
        case "always" | "unless-stopped":
            again = not stopped_by_user
        case "on-failure":
            limit = policy["MaximumRetryCount"]
            again = exit_code != 0 and not stopped_by_user and (not limit or restarts < limit)
        case _:
            again = False
    doublings = 0 if lasted_seconds >= _STEADY_SECONDS else min(restarts, 10)
    delay = min(_FIRST_DELAY_SECONDS * 2**doublings, _LONGEST_DELAY_SECONDS)
    return RestartDecision(again, delay)


def at_daemon_start(policy: dict[str, Any], *, was_running: bool, stopped_by_user: bool) -> bool:
    """Whether a container comes back with the daemon."""
    match policy["Name"]:
        case "always":
            return True
        case "unless-stopped":
            return not stopped_by_user
        case "on-failure":
            return was_running and not stopped_by_user
    return False
