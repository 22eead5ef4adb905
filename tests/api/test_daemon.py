"""The daemon itself: one per home, a clean end, what survives, what a crash leaves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api.daemon import Daemon as RealDaemon
from api.daemon import DaemonError
from api.engine.home import Home
from cli.__main__ import main
from cli.client import Client
from cli.daemon import start
from tests.api.support import ZYGOTE, Daemon, Stream, eventually


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_a_second_daemon_is_refused(own_daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--home", str(own_daemon.home.root), "daemon"]) == 1
    message = f"a daemon is already running for {own_daemon.home.root} (pid {own_daemon.pid})"
    assert message in capsys.readouterr().err
    command = [sys.executable, "-m", "api", "--home", str(own_daemon.home.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, message in done.stderr) == (1, True)
    assert own_daemon.client.answers()


def test_stopping_leaves_nothing_behind(own_daemon: Daemon) -> None:
    container = own_daemon.run("sleep", "1000")
    pid = own_daemon.inspect(container)["State"]["Pid"]
    assert main(["--home", str(own_daemon.home.root), "stop"]) == 0
    own_daemon._process.wait(20)
    assert own_daemon.pid == 0
    assert not own_daemon.home.socket.exists()
    assert not own_daemon.home.pid_file.exists()
    eventually(lambda: not alive(pid))


def test_stopping_what_does_not_run_is_fine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--home", str(tmp_path), "stop"]) == 0
    assert "no daemon is running" in capsys.readouterr().out


def test_sigint_ends_it_too(own_daemon: Daemon) -> None:
    own_daemon.stop(signal.SIGINT)
    assert own_daemon._process.returncode == 0


def test_containers_are_stopped_as_docker_stop_does(own_daemon: Daemon) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.02; done"
    container = own_daemon.run("sh", "-c", script)
    eventually(lambda: own_daemon.logs(container))
    own_daemon.stop()
    own_daemon.start()
    assert own_daemon.inspect(container)["State"]["ExitCode"] == 0
    assert own_daemon.logs(container) == b"ready\nbye\n"


def test_an_attached_client_sees_the_end(own_daemon: Daemon) -> None:
    container = own_daemon.create(
        "sh", "-c", "trap 'echo bye; exit 0' TERM; echo ready; sleep 1000 & wait"
    )
    with Stream.attach(own_daemon, container) as stream:
        own_daemon.client.request("POST", f"/containers/{container}/start")
        stream.read_until(b"ready")
        os.kill(own_daemon.pid, signal.SIGTERM)
        assert b"bye" in stream.read_to_end()
    own_daemon._process.wait(20)


def test_a_stale_socket_is_replaced(own_daemon: Daemon) -> None:
    own_daemon.stop()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(own_daemon.home.socket))
    own_daemon.home.pid_file.write_text("1\n")
    own_daemon.start()
    assert own_daemon.client.answers()


def test_the_socket_is_the_users_alone(own_daemon: Daemon) -> None:
    assert own_daemon.home.socket.stat().st_mode & 0o777 == 0o600
    assert own_daemon.home.root.stat().st_mode & 0o077 == 0


def test_everything_survives_a_restart(own_daemon: Daemon) -> None:
    own_daemon.client.request(
        "POST", "/volumes/create", None, {"Name": "vol", "Labels": {"a": "b"}}
    )
    container = own_daemon.run("sh", "-c", "exit 5", name="kept", Labels={"x": "y"})
    own_daemon.wait(container)
    before = own_daemon.inspect(container)
    images = own_daemon.client.request("GET", "/images/json")
    own_daemon.stop()
    own_daemon.start()
    assert own_daemon.inspect("kept") == before
    assert own_daemon.client.request("GET", "/images/json") == images
    assert own_daemon.client.request("GET", "/volumes/vol")["Labels"] == {"a": "b"}
    own_daemon.client.request("POST", f"/containers/{container}/start")
    assert own_daemon.wait(container) == 5


def test_after_a_crash_running_containers_have_exited(own_daemon: Daemon) -> None:
    container = own_daemon.run("sleep", "1000")
    throwaway = own_daemon.run("sleep", "1000", host={"AutoRemove": True})
    paused = own_daemon.run("sleep", "1000")
    own_daemon.client.request("POST", f"/containers/{paused}/pause")
    pids = [own_daemon.inspect(c)["State"]["Pid"] for c in (container, throwaway)]
    own_daemon.stop(signal.SIGKILL)
    eventually(lambda: not any(map(alive, pids)))
    own_daemon.start()
    for identifier in (container, paused):
        state = own_daemon.inspect(identifier)["State"]
        assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 137, 0)
    left = {e["Id"] for e in own_daemon.client.request("GET", "/containers/json", {"all": 1})}
    assert left == {container, paused}
    own_daemon.client.request("POST", f"/containers/{container}/start")
    assert own_daemon.status(container) == "running"


def test_what_a_crash_left_half_made_is_swept(own_daemon: Daemon) -> None:
    own_daemon.stop()
    (own_daemon.home.tmp / "layer-x" / "deep").mkdir(parents=True)
    (own_daemon.home.layers / ("0" * 64) / "root").mkdir(parents=True)
    (own_daemon.home.blobs / ("1" * 64)).write_bytes(b"{}")
    (own_daemon.home.containers / ("2" * 64)).mkdir()
    own_daemon.start()
    assert list(own_daemon.home.tmp.iterdir()) == []
    assert len(list(own_daemon.home.layers.iterdir())) == 1
    assert len(list(own_daemon.home.blobs.iterdir())) == 1
    assert list(own_daemon.home.containers.iterdir()) == []
    assert own_daemon.client.request("GET", "/info")["Images"] == 1


@pytest.mark.parametrize(
    ("policy", "stopped", "comes_back"),
    [
        ("always", False, True),
        ("always", True, True),
        ("unless-stopped", False, True),
        ("unless-stopped", True, False),
        ("no", False, False),
    ],
)
def test_restart_policies_at_daemon_start(
    own_daemon: Daemon, policy: str, stopped: bool, comes_back: bool
) -> None:
    container = own_daemon.run("sleep", "1000", host={"RestartPolicy": {"Name": policy}})
    if stopped:
        own_daemon.client.request("POST", f"/containers/{container}/stop", {"t": 0})
    own_daemon.stop()
    own_daemon.start()
    assert own_daemon.status(container) == ("running" if comes_back else "exited")


def test_a_lost_zygote_is_replaced_and_hurts_no_container(own_daemon: Daemon) -> None:
    container = own_daemon.run("sleep", "1000")
    zygote = _zygote_of(own_daemon.pid)
    os.kill(zygote, signal.SIGKILL)
    eventually(lambda: not alive(zygote))
    assert own_daemon.status(container) == "running"
    other = own_daemon.run("true")
    assert own_daemon.wait(other) == 0
    assert own_daemon.status(container) == "running"


def test_a_lost_kernel_ends_only_its_container(own_daemon: Daemon) -> None:
    other = own_daemon.run("sleep", "1000")
    container = own_daemon.run("sh", "-c", "echo $PPID; sleep 1000")
    eventually(lambda: own_daemon.logs(container))
    os.kill(int(own_daemon.logs(container)), signal.SIGKILL)
    assert own_daemon.wait(container) == 137
    state = own_daemon.inspect(container)["State"]
    assert "kernel process ended unexpectedly" in state["Error"]
    assert own_daemon.status(other) == "running"


def _zygote_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return next(
        int(child) for child in children if ZYGOTE in Path(f"/proc/{child}/cmdline").read_text()
    )


def test_a_socket_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path / ("x" * 100))
    with pytest.raises(DaemonError, match="socket path is longer than 107 bytes"):
        RealDaemon(home).run()


def test_another_socket_is_found(own_daemon: Daemon, tmp_path: Path) -> None:
    own_daemon.stop()
    socket_path = own_daemon.home.root / "elsewhere" / "d.sock"
    process = start(own_daemon.home, socket_path, ZYGOTE)
    assert Client.for_home(own_daemon.home).address == f"unix://{socket_path}"
    assert Client.for_home(own_daemon.home).answers()
    assert main(["--home", str(own_daemon.home.root), "stop"]) == 0
    process.wait(20)
    assert not socket_path.exists()
    own_daemon.start()


def test_a_stuck_client_does_not_hold_up_the_end(own_daemon: Daemon) -> None:
    container = own_daemon.create("head", "-c", "8000000", "/dev/zero")
    with Stream.attach(own_daemon, container):
        own_daemon.client.request("POST", f"/containers/{container}/start")
        own_daemon.stop()
    own_daemon.start()
    assert own_daemon.status(container) == "exited"


def test_idle_costs_no_cpu(own_daemon: Daemon) -> Any:
    for _ in range(3):
        own_daemon.run("sleep", "1000")

    def ticks() -> int:
        fields = Path(f"/proc/{own_daemon.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    def wakeups() -> int:
        text = Path(f"/proc/{own_daemon.pid}/status").read_text()
        line = next(x for x in text.splitlines() if x.startswith("voluntary_ctxt_switches"))
        return int(line.split()[1])

    eventually(lambda: wakeups() == _after(0.3, wakeups))
    before = ticks()
    assert _after(0.5, ticks) == before


def _after(seconds: float, read: Callable[[], int]) -> Any:
    import select

    select.select([], [], [], seconds)
    return read()


def test_the_daemon_is_small(own_daemon: Daemon) -> None:
    own_daemon.wait(own_daemon.run("true"))
    rollup = Path(f"/proc/{own_daemon.pid}/smaps_rollup").read_text()
    pss = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    assert pss < 56 << 10, f"{pss} KiB"


def test_the_log_says_what_happened(own_daemon: Daemon) -> None:
    own_daemon.stop()
    text = own_daemon.home.daemon_log.read_text()
    assert "listening on" in text
    assert "stopped" in text
    assert "Traceback" not in text
    own_daemon.start()
    assert json.loads(json.dumps(own_daemon.client.request("GET", "/version")))["Os"] == "linux"
