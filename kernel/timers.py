"""Guest timers that end in a virtual signal, on the kernel's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timer:
    """An interval timer. All times are nanoseconds on the loop's (monotonic) clock."""

    def __init__(
        self, expired: Callable[[], None], signal_taken: Callable[[], bool] = lambda: True
    ) -> None:
        self._expired = expired
        self.signal_taken = signal_taken  # no signal of this timer is pending
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self.interval_ns = 0
        self.missed = 0  # expiries that the present one stands for, too
        self.overruns = 0  # of the latest signal, see timer_getoverrun(2)
        self.delivered_overruns = 0  # of the signal before that

    def set(self, value_ns: int, interval_ns: int) -> None:
        """Arm to fire in `value_ns` and then each `interval_ns`; value 0 disarms."""
        self.stop()
        self.missed = self.overruns = self.delivered_overruns = 0
        self.interval_ns = interval_ns
        if value_ns > 0:
            self._arm(value_ns / 1e9)

    def stop(self) -> None:
        """Disarm."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def remaining_ns(self) -> int:
        """Until the next expiry; 0 when disarmed."""
        if self._handle is None:
            return 0
        left = self._due - asyncio.get_running_loop().time()
        return max(1, int(left * 1e9))

    def _arm(self, delay: float) -> None:
        loop = asyncio.get_running_loop()
        self._due = loop.time() + delay
        self._handle = loop.call_later(delay, self._fire)

    def _fire(self) -> None:
        self._handle = None
        if self.interval_ns:
            loop = asyncio.get_running_loop()
            interval = self.interval_ns / 1e9
            late = loop.time() - self._due
            missed = int(late / interval) if late > 0 else 0
            self.missed = missed
            self._due += interval * (missed + 1)
            self._handle = loop.call_at(self._due, self._fire)
        self._expired()
