"""Health checks: a command run in the container at intervals, and what its exit means.

    healthcheck = {"Test": ["CMD", ...] | ["CMD-SHELL", text] | ["NONE"], "Interval": ns,
                   "Timeout": ns, "StartPeriod": ns, "StartInterval": ns, "Retries": n}

A probe that fails within the start period does not count; one that succeeds ends that period.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from api.engine.container import Container
from api.engine.errors import EngineError, InvalidParameter
from api.engine.exec import Exec, ExecConfig
from api.engine.run import Run
from api.engine.state import Health, Probe
from api.engine.timestamps import now_ns

_LOG = logging.getLogger("ddock.health")
_SECOND_NS = 10**9
_SHORTEST_NS = 10**6
_OUTPUT_BYTES = 4096
_KEPT_PROBES = 5
_FIELDS = ("Interval", "Timeout", "StartPeriod", "StartInterval")


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A check with its defaults filled in; times in seconds."""

    argv: tuple[str, ...]
    interval: float
    timeout: float
    start_period: float
    start_interval: float
    retries: int


def check_healthcheck(config: dict[str, Any]) -> None:
    """Raises InvalidParameter, in Docker's words, for values that make no sense."""
    healthcheck = config.get("Healthcheck") or {}
    for field in _FIELDS:
        value = healthcheck.get(field) or 0
        if not isinstance(value, int) or 0 < value < _SHORTEST_NS or value < 0:
            raise InvalidParameter(f"{field} in Healthcheck cannot be less than 1ms")
    if (healthcheck.get("Retries") or 0) < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")


def parse_healthcheck(config: dict[str, Any]) -> HealthCheck | None:
    """The container's check, or None when it has none."""
    healthcheck = config.get("Healthcheck") or {}
    test = healthcheck.get("Test") or []
    match test:
        case ["CMD", *words] if words:
            argv = tuple(words)
        case ["CMD-SHELL", text]:
            argv = ("/bin/sh", "-c", text)
        case _:
            return None

    def seconds(field: str, default: float) -> float:
        return (healthcheck.get(field) or 0) / _SECOND_NS or default

    return HealthCheck(
        argv,
        seconds("Interval", 30),
        seconds("Timeout", 30),
        seconds("StartPeriod", 0),
        seconds("StartInterval", 5),
        healthcheck.get("Retries") or 3,
    )


class HealthMonitor:
    """Probes one run of a container until it ends; `emit` tells of changes."""

    def __init__(
        self,
        container: Container,
        check: HealthCheck,
        emit: Callable[[str, dict[str, str]], None],
    ) -> None:
        self._container = container
        self._check = check
        self._emit = emit
        container.state.health = Health()

    async def watch(self, run: Run) -> None:
        """Probe at the check's intervals."""
        while True:
            check, health = self._check, self._health
            age = (now_ns() - run.started_ns) / _SECOND_NS
            starting = health.status == "starting" and age < check.start_period
            pause = min(check.start_interval, check.interval) if starting else check.interval
            await asyncio.wait((run.exited,), timeout=pause)
            if run.exited.done():
                return
            if not self._container.state.paused:
                self._judge(await self._probe(), run)

    @property
    def _health(self) -> Health:
        health = self._container.state.health
        if health is None:
            health = self._container.state.health = Health()
        return health

    async def _probe(self) -> Probe:
        output = _Output()
        process = Exec(self._container, _exec_config(self._check.argv), self._emit)
        process.add_sink(output)
        began_ns = now_ns()
        try:
            await process.start()
            await asyncio.wait_for(output.finished.wait(), self._check.timeout)
            code, text = process.exit_code or 0, output.text()
        except TimeoutError:
            code, text = -1, f"Health check exceeded timeout ({self._check.timeout:g}s)"
            with suppress(EngineError):
                await self._container.active.call("exec-signal", signal=9, exec=process.id)
        except EngineError as error:
            code, text = -1, str(error)
        finally:
            self._container.execs.pop(process.id, None)
        return Probe(began_ns, now_ns(), code, text)

    def _judge(self, probe: Probe, run: Run) -> None:
        health = self._health
        before = health.status
        health.log = [*health.log, probe][-_KEPT_PROBES:]
        if probe.exit_code == 0:
            health.failing_streak, health.status = 0, "healthy"
        elif not (
            before == "starting"
            and probe.start_ns - run.started_ns < self._check.start_period * _SECOND_NS
        ):
            health.failing_streak += 1
            if health.failing_streak >= self._check.retries:
                health.status = "unhealthy"
        if health.status != before:
            self._container.save()
            self._emit(f"health_status: {health.status}", {})


class _Output:
    """Keeps the first bytes that a probe writes."""

    def __init__(self) -> None:
        self.finished = asyncio.Event()
        self._data = bytearray()

    def feed(self, _: int, data: bytes) -> None:
        """Both streams, in order."""
        self._data += data[: _OUTPUT_BYTES - len(self._data)]

    def finish(self) -> None:
        """The probe has ended."""
        self.finished.set()

    def text(self) -> str:
        """What was written, as far as it is kept."""
        return self._data.decode(errors="replace")


def _exec_config(argv: tuple[str, ...]) -> ExecConfig:
    request = {"Cmd": list(argv), "AttachStdout": True, "AttachStderr": True}
    return ExecConfig.from_request(request)
