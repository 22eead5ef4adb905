"""The kernel's clocks; tests substitute a fake."""

from __future__ import annotations

import time


class Clock:
    """Host time."""

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC, nanoseconds."""
        return time.monotonic_ns()

    def realtime_ns(self) -> int:
        """CLOCK_REALTIME, nanoseconds."""
        return time.time_ns()
