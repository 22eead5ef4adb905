"""Health checks."""

from __future__ import annotations

from typing import Any

import pytest

from api.engine.health import parse_healthcheck
from cli.client import ClientError
from tests.api.support import Daemon, eventually

_MS = 10**6


def check(*test: str, **times: int) -> dict[str, Any]:
    return {"Test": list(test), "Interval": 20 * _MS, **times}


def health(daemon: Daemon, container: str) -> dict[str, Any]:
    found: dict[str, Any] = daemon.inspect(container)["State"]["Health"]
    return found


def becomes(daemon: Daemon, container: str, status: str) -> dict[str, Any]:
    eventually(lambda: health(daemon, container)["Status"] == status)
    return health(daemon, container)


def test_a_good_container_becomes_healthy(daemon: Daemon) -> None:
    test = check("CMD-SHELL", "echo fine; exit 0")
    container = daemon.run("sleep", "100", name="good", Healthcheck=test)
    found = becomes(daemon, container, "healthy")
    assert found["FailingStreak"] == 0
    assert found["Log"][-1]["Output"] == "fine\n"
    assert found["Log"][-1]["ExitCode"] == 0
    listed = daemon.client.request("GET", "/containers/json", {"filters": '{"health":["healthy"]}'})
    assert listed[0]["Status"].endswith("(healthy)")


def test_a_bad_container_becomes_unhealthy_after_its_retries(daemon: Daemon) -> None:
    container = daemon.run("sleep", "100", Healthcheck=check("CMD", "false", Retries=2))
    found = becomes(daemon, container, "unhealthy")
    assert found["FailingStreak"] >= 2
    assert len(found["Log"]) <= 5


def test_health_can_come_back(daemon: Daemon) -> None:
    test = check("CMD-SHELL", "test -e here", Retries=1)
    container = daemon.run("sleep", "100", Healthcheck=test)
    becomes(daemon, container, "unhealthy")
    (daemon.home.containers / container / "upper/root/here").write_text("")
    becomes(daemon, container, "healthy")


def test_failures_in_the_start_period_do_not_count(daemon: Daemon) -> None:
    times = {"StartPeriod": 100_000 * _MS, "StartInterval": 10 * _MS, "Retries": 1}
    container = daemon.run("sleep", "100", Healthcheck=check("CMD", "false", **times))
    eventually(lambda: len(health(daemon, container)["Log"]) >= 3)
    assert health(daemon, container)["Status"] == "starting"
    assert daemon.client.request("GET", "/containers/json")[0]["Status"].endswith(
        "(health: starting)"
    )


def test_a_probe_that_hangs_is_a_failure(daemon: Daemon) -> None:
    test = check("CMD", "sleep", "100", Timeout=50 * _MS, Retries=1)
    container = daemon.run("sleep", "100", Healthcheck=test)
    found = becomes(daemon, container, "unhealthy")
    assert found["Log"][-1]["ExitCode"] == -1
    assert "exceeded timeout" in found["Log"][-1]["Output"]


def test_a_probe_that_does_not_exist_is_a_failure(daemon: Daemon) -> None:
    container = daemon.run("sleep", "100", Healthcheck=check("CMD", "nosuch", Retries=1))
    assert (
        "executable file not found" in becomes(daemon, container, "unhealthy")["Log"][0]["Output"]
    )


def test_none_switches_the_images_check_off() -> None:
    assert parse_healthcheck({"Healthcheck": {"Test": ["NONE"]}}) is None
    assert parse_healthcheck({}) is None
    found = parse_healthcheck({"Healthcheck": {"Test": ["CMD", "x"]}})
    assert found is not None
    assert (found.interval, found.timeout, found.retries) == (30, 30, 3)


def test_bad_times_are_refused(daemon: Daemon) -> None:
    with pytest.raises(ClientError, match="Interval in Healthcheck cannot be less than 1ms"):
        daemon.create("true", Healthcheck={"Test": ["CMD", "true"], "Interval": 5})


def test_health_survives_the_daemon(own_daemon: Daemon) -> None:
    container = own_daemon.run("sleep", "100", Healthcheck=check("CMD", "true"))
    becomes(own_daemon, container, "healthy")
    own_daemon.stop()
    own_daemon.start()
    assert health(own_daemon, container)["Status"] == "healthy"
