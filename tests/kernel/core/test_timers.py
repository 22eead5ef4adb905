"""Timers on a fake loop clock, and resource limits."""

from __future__ import annotations

import heapq
import resource
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel import limits, timers
from kernel.limits import INFINITY, NOFILE, Limits, container_limits

S = 10**9


class FakeLoop:
    """A loop whose time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._queue: list[tuple[float, int, Any]] = []
        self._count = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Any:
        handle = SimpleNamespace(callback=callback, cancelled=False)
        handle.cancel = lambda: setattr(handle, "cancelled", True)
        self._count += 1
        heapq.heappush(self._queue, (when, self._count, handle))
        return handle

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        return self.call_at(self.now + delay, callback)

    def advance(self, seconds: float, late: float = 0.0) -> None:
        """Let time pass; due callbacks run at their time, or `late` seconds after it."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end + 1e-9:
            when, _, handle = heapq.heappop(self._queue)
            if not handle.cancelled:
                self.now = max(self.now, when + late)
                handle.callback()
        self.now = max(self.now, end)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> FakeLoop:
    made = FakeLoop()
    monkeypatch.setattr(timers, "asyncio", SimpleNamespace(get_running_loop=lambda: made))
    return made


@pytest.fixture
def fired() -> list[float]:
    return []


@pytest.fixture
def timer(loop: FakeLoop, fired: list[float]) -> timers.Timer:
    return timers.Timer(lambda: fired.append(loop.now - 1000.0))


def test_a_single_shot(loop: FakeLoop, timer: timers.Timer, fired: list[float]) -> None:
    timer.set(2 * S, 0)
    assert timer.remaining_ns() == 2 * S
    loop.advance(1.5)
    assert not fired
    assert timer.remaining_ns() == S // 2
    loop.advance(1)
    assert fired == [2.0]
    assert timer.remaining_ns() == 0
    loop.advance(10)
    assert len(fired) == 1


def test_an_interval_keeps_its_beat(
    loop: FakeLoop, timer: timers.Timer, fired: list[float]
) -> None:
    timer.set(3 * S, 2 * S)
    loop.advance(10, late=0.25)
    assert fired == [3.25, 5.25, 7.25, 9.25]
    assert timer.missed == 0
    assert 0 < timer.remaining_ns() <= 2 * S


def test_expiries_that_came_too_late_are_counted(
    loop: FakeLoop, timer: timers.Timer, fired: list[float]
) -> None:
    timer.set(S, S)
    loop.advance(1, late=3.5)
    assert fired == [4.5]
    assert timer.missed == 3
    assert timer.remaining_ns() == S // 2


def test_zero_disarms_and_setting_again_replaces(
    loop: FakeLoop, timer: timers.Timer, fired: list[float]
) -> None:
    timer.set(S, S)
    timer.set(5 * S, 0)
    loop.advance(4)
    assert not fired
    timer.set(0, S)
    assert timer.remaining_ns() == 0
    timer.set(S, S)
    timer.stop()
    loop.advance(10)
    assert not fired


def test_an_armed_timer_never_says_it_is_disarmed(loop: FakeLoop, timer: timers.Timer) -> None:
    timer.set(S, 0)
    loop.now += 5  # due, but the loop has not come to it
    assert timer.remaining_ns() == 1


# ------------------------------------------------------------------------------------------ limits
def spec(ulimits: list[dict[str, Any]], nofile: list[int] | None = None) -> Any:
    return SimpleNamespace(ulimits=ulimits, nofile=nofile)


def test_a_container_starts_with_the_hosts_limits() -> None:
    got = container_limits(spec([]))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert got[NOFILE] == (hard, hard)
    soft, most = resource.getrlimit(resource.RLIMIT_STACK)
    assert got[limits.STACK] == tuple(INFINITY if v < 0 else v for v in (soft, most))


def test_ulimits_and_nofile() -> None:
    given_ = [
        {"name": "core", "soft": 0, "hard": -1},
        {"name": "nofile", "soft": 5, "hard": 6},
        {"name": "unheard", "soft": 1, "hard": 1},
    ]
    got = container_limits(spec(given_))
    assert got[limits.CORE] == (0, INFINITY)
    assert got[NOFILE] == (5, 6)
    assert container_limits(spec(given_, [100, 200]))[NOFILE] == (100, 200)


@given(st.integers(0, limits.COUNT - 1), st.tuples(st.integers(0), st.integers(0)))
@settings(max_examples=20)
def test_a_copy_is_independent(number: int, pair: tuple[int, int]) -> None:
    mine = Limits([(1, 2)] * limits.COUNT)
    child = mine.copy()
    child[number] = pair
    assert child[number] == pair
    assert mine.values == [(1, 2)] * limits.COUNT


def test_every_limit_has_its_number() -> None:
    assert len(limits._NAMES) == limits.COUNT
    for name, number in (("nofile", NOFILE), ("nproc", limits.NPROC), ("stack", limits.STACK),
                         ("core", limits.CORE), ("data", limits.DATA), ("as", limits.AS),
                         ("fsize", limits.FSIZE)):  # fmt: skip
        assert limits._NAMES[number] == name
        if hasattr(resource, f"RLIMIT_{name.upper()}"):
            assert getattr(resource, f"RLIMIT_{name.upper()}") == number
