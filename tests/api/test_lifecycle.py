"""Start, stop, kill, pause, restart, rename, remove, prune, wait: states and their errors."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from cli.client import ClientError
from tests.api.support import DOCKER, Daemon, Stream, eventually

NEVER = "0001-01-01T00:00:00Z"


def post(daemon: Daemon, container: str, action: str, **query: Any) -> Any:
    return daemon.client.request("POST", f"/containers/{container}/{action}", query)


def refused(daemon: Daemon, container: str, action: str, **query: Any) -> Any:
    with pytest.raises(ClientError) as caught:
        post(daemon, container, action, **query)
    return caught.value.status, str(caught.value)


def status_of(daemon: Daemon, container: str, action: str) -> Any:
    """The HTTP status of an action that answers without a body."""
    connection = daemon.client
    try:
        connection.request("POST", f"/containers/{container}/{action}")
    except ClientError as error:
        return error.status
    return 204


def test_states_follow_each_other(daemon: Daemon) -> None:
    container = daemon.create("sleep", "100")
    state = daemon.inspect(container)["State"]
    assert state == {
        "Status": "created",
        "Running": False,
        "Paused": False,
        "Restarting": False,
        "OOMKilled": False,
        "Dead": False,
        "Pid": 0,
        "ExitCode": 0,
        "Error": "",
        "StartedAt": NEVER,
        "FinishedAt": NEVER,
    }
    post(daemon, container, "start")
    state = daemon.inspect(container)["State"]
    assert (state["Status"], state["Running"], state["Pid"] > 0) == ("running", True, True)
    assert state["StartedAt"] != NEVER
    post(daemon, container, "pause")
    assert daemon.inspect(container)["State"]["Paused"] is True
    assert daemon.status(container) == "paused"
    post(daemon, container, "unpause")
    assert daemon.status(container) == "running"
    post(daemon, container, "kill")
    state = daemon.inspect(container)["State"]
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 137, 0)
    assert state["FinishedAt"] > state["StartedAt"]


def test_stop_asks_before_it_kills(daemon: Daemon) -> None:
    polite = daemon.run("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.02; done")
    eventually(lambda: daemon.logs(polite))
    post(daemon, polite, "stop")
    assert daemon.inspect(polite)["State"]["ExitCode"] == 3
    stubborn = daemon.run("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.02; done")
    eventually(lambda: daemon.logs(stubborn))
    post(daemon, stubborn, "stop", t=0)
    assert daemon.inspect(stubborn)["State"]["ExitCode"] == 137


def test_the_stop_signal_is_the_containers_own(daemon: Daemon) -> None:
    script = "trap 'exit 4' USR1; echo ready; while :; do sleep 0.02; done"
    container = daemon.run("sh", "-c", script, StopSignal="SIGUSR1")
    eventually(lambda: daemon.logs(container))
    post(daemon, container, "stop")
    assert daemon.inspect(container)["State"]["ExitCode"] == 4


def test_asking_twice_is_not_an_error(daemon: Daemon) -> None:
    container = daemon.run("sleep", "100")
    post(daemon, container, "start")  # 304
    post(daemon, container, "kill")
    post(daemon, container, "stop")  # 304


@pytest.mark.parametrize(
    ("action", "status", "text"),
    [
        ("kill", 409, "cannot kill container: idle: container {id} is not running"),
        ("pause", 409, "container {id} is not running"),
        ("unpause", 409, "container {id} is not paused"),
        ("resize?h=1&w=1", 409, "container {id} is not running"),
    ],
)
def test_what_needs_a_running_container_says_so(
    daemon: Daemon, action: str, status: int, text: str
) -> None:
    container = daemon.create("true", name="idle")
    assert refused(daemon, "idle", action) == (status, text.format(id=container))


def test_pausing_twice_is_a_conflict(daemon: Daemon) -> None:
    container = daemon.run("sleep", "100")
    post(daemon, container, "pause")
    assert refused(daemon, container, "pause") == (409, f"container {container} is already paused")
    assert refused(daemon, container, "start")[1] == (
        "cannot start a paused container, try unpause instead"
    )


def test_a_paused_container_can_be_stopped(daemon: Daemon) -> None:
    container = daemon.run("sleep", "100")
    post(daemon, container, "pause")
    post(daemon, container, "stop", t=5)
    assert daemon.status(container) == "exited"


def test_unknown_signals_are_refused(daemon: Daemon) -> None:
    container = daemon.run("sleep", "100")
    assert refused(daemon, container, "kill", signal="NOPE") == (400, "invalid signal: NOPE")
    for spelling in ("0x", "99", "-1", ""):
        if spelling:
            assert refused(daemon, container, "kill", signal=spelling)[0] == 400


@pytest.mark.parametrize("spelling", ["15", "TERM", "SIGTERM", "term", "RTMIN+3"])
def test_signals_are_known_by_many_names(daemon: Daemon, spelling: str) -> None:
    container = daemon.run("sleep", "100")
    post(daemon, container, "kill", signal=spelling)
    assert daemon.wait(container) in {143, 165}


def test_restart_makes_another_run(daemon: Daemon) -> None:
    container = daemon.run("sleep", "100")
    first = daemon.inspect(container)["State"]
    post(daemon, container, "restart", t=0)
    second = daemon.inspect(container)["State"]
    assert second["Status"] == "running"
    assert second["StartedAt"] > first["StartedAt"]
    assert second["Pid"] != first["Pid"]


def test_names_prefixes_and_slashes_find_a_container(daemon: Daemon) -> None:
    container = daemon.create("true", name="found")
    for reference in (container, container[:12], container[:4], "found", "/found"):
        assert daemon.inspect(reference)["Id"] == container
    with pytest.raises(ClientError, match="No such container: fou"):
        daemon.inspect("fou")


def test_an_ambiguous_prefix_is_refused(daemon: Daemon) -> None:
    ids = [daemon.create("true") for _ in range(17)]
    prefix = next(i[0] for n, i in enumerate(ids) if any(j[0] == i[0] for j in ids[n + 1 :]))
    with pytest.raises(ClientError, match="multiple IDs found with provided prefix"):
        daemon.inspect(prefix)


def test_renaming(daemon: Daemon) -> None:
    container = daemon.create("true", name="old")
    daemon.create("true", name="taken")
    post(daemon, "old", "rename", name="new")
    assert daemon.inspect("new")["Id"] == container
    assert daemon.inspect("new")["Name"] == "/new"
    assert refused(daemon, "new", "rename", name="taken")[0] == 409
    assert refused(daemon, "new", "rename", name="bad name")[0] == 400
    assert refused(daemon, "old", "rename", name="x1")[0] == 404


def test_a_running_container_is_removed_only_by_force(daemon: Daemon) -> None:
    container = daemon.run("sleep", "100", name="busy")
    with pytest.raises(ClientError) as caught:
        daemon.client.request("DELETE", "/containers/busy")
    assert caught.value.status == 409
    assert str(caught.value) == (
        'cannot remove container "busy": container is running: stop the container before removing'
        " or force remove"
    )
    daemon.remove("busy")
    with pytest.raises(ClientError, match="No such container"):
        daemon.inspect(container)
    assert not (daemon.home.containers / container).exists()


def test_wait_conditions(daemon: Daemon) -> None:
    container = daemon.run("sh", "-c", "read x; exit 6", OpenStdin=True)
    answers = {}

    def wait(condition: str) -> None:
        answers[condition] = daemon.wait(container, condition)

    threads = [threading.Thread(target=wait, args=(c,)) for c in ("not-running", "next-exit")]
    removal = threading.Thread(target=wait, args=("removed",))
    for thread in (*threads, removal):
        thread.start()
    with Stream.attach(daemon, container, stdout=0) as stream:
        stream.send(b"\n")
        for thread in threads:
            thread.join(20)
    assert answers == {"not-running": 6, "next-exit": 6}
    assert daemon.wait(container) == 6
    daemon.remove(container)
    removal.join(20)
    assert answers["removed"] == 6


def test_wait_for_an_unknown_condition_is_refused(daemon: Daemon) -> None:
    container = daemon.create("true")
    with pytest.raises(ClientError, match="invalid condition"):
        daemon.wait(container, "nonsense")


def test_a_container_that_was_never_started_is_not_running(daemon: Daemon) -> None:
    assert daemon.wait(daemon.create("true")) == 0


def test_auto_remove_over_http(daemon: Daemon) -> None:
    container = daemon.create("sh", "-c", "exit 2", host={"AutoRemove": True})
    waiting = daemon.client.messages(
        "POST", f"/containers/{container}/wait", {"condition": "removed"}
    )
    post(daemon, container, "start")
    assert next(waiting)["StatusCode"] == 2
    with pytest.raises(ClientError, match="No such container"):
        daemon.inspect(container)


def test_on_failure_restarts_so_often(daemon: Daemon) -> None:
    host = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}}
    container = daemon.run("sh", "-c", "echo run; exit 1", host=host)
    eventually(lambda: daemon.status(container) == "exited")
    assert daemon.inspect(container)["RestartCount"] == 2
    assert daemon.logs(container) == b"run\n" * 3


def test_always_restarts_until_stopped(daemon: Daemon) -> None:
    container = daemon.run("true", host={"RestartPolicy": {"Name": "always"}})
    eventually(lambda: daemon.inspect(container)["RestartCount"] >= 2)
    post(daemon, container, "stop")
    assert daemon.status(container) == "exited"
    count = daemon.inspect(container)["RestartCount"]
    post(daemon, container, "start")
    assert daemon.inspect(container)["RestartCount"] <= count


def test_an_end_that_is_being_handled_is_not_restarted(daemon: Daemon) -> None:
    """A client that does not read keeps the end waiting: the stop meets it."""
    command = ("head", "-c", "700000", "/dev/zero")
    container = daemon.create(*command, host={"RestartPolicy": {"Name": "always"}})
    with Stream.attach(daemon, container):
        post(daemon, container, "start")
        eventually(lambda: len(daemon.logs(container)) > 500_000)
        time.sleep(0.3)  # the program has written the rest into its pipe and ended
        post(daemon, container, "stop")
        assert daemon.status(container) == "exited"


def test_update_changes_limits_and_policy(daemon: Daemon) -> None:
    container = daemon.run("sleep", "100")
    body = {"Memory": 64 << 20, "MemorySwap": 64 << 20, "RestartPolicy": {"Name": "always"}}
    answer = daemon.client.request("POST", f"/containers/{container}/update", None, body)
    assert answer == {"Warnings": None}
    host = daemon.inspect(container)["HostConfig"]
    assert host["Memory"] == 64 << 20
    assert host["RestartPolicy"] == {"Name": "always", "MaximumRetryCount": 0}
    with pytest.raises(ClientError, match="Minimum memory limit allowed is 6MB"):
        daemon.client.request("POST", f"/containers/{container}/update", None, {"Memory": 1})
    assert daemon.inspect(container)["HostConfig"]["Memory"] == 64 << 20


def test_top_and_stats(daemon: Daemon) -> None:
    container = daemon.run("sleep", "100")
    top = daemon.client.request("GET", f"/containers/{container}/top")
    assert top["Processes"] == [["1", "sleep 100"]]
    query = {"stream": "0", "one-shot": "1"}
    sample = daemon.client.request("GET", f"/containers/{container}/stats", query)
    assert sample["pids_stats"]["current"] == 1
    assert sample["cpu_stats"]["cpu_usage"]["total_usage"] == 1500
    assert sample["memory_stats"]["usage"] == 1 << 20
    assert sample["networks"]["eth0"]["rx_bytes"] == 0


def test_pruning_spares_what_runs(daemon: Daemon) -> None:
    running = daemon.run("sleep", "100")
    labelled = daemon.create("true", Labels={"keep": "1"})
    doomed = daemon.create("true")
    query = {"filters": '{"label!":["keep"]}'}
    answer = daemon.client.request("POST", "/containers/prune", query)
    assert answer["ContainersDeleted"] == [doomed]
    left = daemon.client.request("GET", "/containers/json", {"all": 1})
    assert {entry["Id"] for entry in left} == {running, labelled}


def test_listing_filters(daemon: Daemon) -> Any:
    running = daemon.run("sleep", "100", name="alpha")
    stopped = daemon.run("false", name="beta")
    daemon.wait(stopped)

    def listed(filters: str, **query: Any) -> Any:
        query = {"filters": filters, **query}
        return {e["Id"] for e in daemon.client.request("GET", "/containers/json", query)}

    assert listed("{}") == {running}
    assert listed('{"status":["exited"]}') == {stopped}
    assert listed('{"name":["lph"]}') == {running}
    assert listed('{"exited":["1"]}', all=1) == {stopped}
    assert listed('{"ancestor":["busybox"]}', all=1) == {running, stopped}
    assert listed('{"since":["alpha"]}', all=1) == {stopped}
    assert listed('{"before":["beta"]}', all=1) == {running}
    assert listed("{}", limit=1) == {stopped}
    with pytest.raises(ClientError, match="invalid filter 'status=nonsense'"):
        listed('{"status":["nonsense"]}')


@pytest.mark.skipif(DOCKER is None, reason="there is no docker CLI here")
def test_the_status_column(daemon: Daemon) -> None:
    daemon.run("sleep", "100", name="up")
    daemon.wait(daemon.run("sh", "-c", "exit 3", name="down"))
    daemon.create("true", name="fresh")
    form = "{{.Names}}: {{.Status}}"
    lines = dict(
        line.split(": ", 1)
        for line in daemon.docker("ps", "-a", "--format", form).stdout.splitlines()
    )
    assert lines["up"].startswith("Up ")
    assert lines["down"].startswith("Exited (3) ")
    assert lines["down"].endswith(" ago")
    assert lines["fresh"] == "Created"
