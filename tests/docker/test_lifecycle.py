"""Containers over time: detached, listed, stopped, restarted, renamed, removed; daemon restarts."""

from __future__ import annotations

import json
import re
import subprocess
import time

import pytest

from tests.docker.daemon import Daemon, Outcome, eventually

pytestmark = [pytest.mark.docker, pytest.mark.core]
TRAP = "trap 'echo got TERM; exit 5' TERM; echo ready; while :; do sleep 0.1; done"


def state(docker: Daemon, name: str) -> str:
    return docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name).stdout.strip()


def logs_have(docker: Daemon, name: str, text: str) -> None:
    eventually(lambda: text in docker("logs", name).stdout, f"{text!r} in the log of {name}")


def test_detached(docker: Daemon) -> None:
    done = docker("run -d --name worker busybox sh -c 'echo working; sleep 1000'")
    assert re.fullmatch(r"[0-9a-f]{64}\n", done.stdout)
    assert state(docker, "worker") == "running 0"
    logs_have(docker, "worker", "working\n")
    listed = docker("ps", "--format", "{{.Names}} {{.Image}} {{.Status}}").stdout
    assert re.fullmatch(r"worker busybox Up .*\n", listed)
    assert docker("rm worker").status == 1
    assert docker("rm -f worker").stdout == "worker\n"
    assert docker("ps -a -q").stdout == ""


def test_logs_keep_streams_order_and_options(docker: Daemon) -> None:
    script = "for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; done"
    docker("run", "--name", "talker", "busybox", "sh", "-c", script)
    done = docker("logs talker")
    assert done.stdout == "".join(f"out {n}\n" for n in range(1, 6))
    assert done.stderr == "".join(f"err {n}\n" for n in range(1, 6))
    assert len(docker("logs --tail 2 talker").stdout + docker("logs --tail 2 talker").stderr) > 0
    stamped = docker("logs -t talker").stdout.splitlines()[0]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z out 1", stamped)


def test_logs_follow_until_the_end(docker: Daemon) -> None:
    docker("run -d --name slow busybox sh -c 'for i in 1 2 3; do echo $i; sleep 0.2; done'")
    assert docker("logs -f slow", timeout=30) == Outcome("1\n2\n3\n", "", 0)


def test_stop_sends_term_and_waits(docker: Daemon) -> None:
    docker("run", "-d", "--name", "polite", "busybox", "sh", "-c", TRAP)
    logs_have(docker, "polite", "ready")
    assert docker("stop polite") == Outcome("polite\n", "", 0)
    assert state(docker, "polite") == "exited 5"
    assert docker("logs polite").stdout == "ready\ngot TERM\n"


def test_stop_kills_what_does_not_listen(docker: Daemon) -> None:
    docker("run -d --name deaf busybox sleep 1000")  # pid 1 ignores TERM by default
    started = time.monotonic()
    assert docker("stop -t 1 deaf").status == 0
    assert 0.9 < time.monotonic() - started < 20
    assert state(docker, "deaf") == "exited 137"


def test_stop_signal_of_choice(docker: Daemon) -> None:
    script = "trap 'echo got USR1; exit 6' USR1; echo ready; while :; do sleep 0.1; done"
    docker("run", "-d", "--name", "own", "--stop-signal", "USR1", "busybox", "sh", "-c", script)
    logs_have(docker, "own", "ready")
    assert docker("stop own").status == 0
    assert state(docker, "own") == "exited 6"


def test_kill(docker: Daemon) -> None:
    docker("run -d --name victim busybox sleep 1000")
    assert docker("kill victim") == Outcome("victim\n", "", 0)
    eventually(lambda: state(docker, "victim") == "exited 137")
    done = docker("kill victim")
    assert done.status == 1
    assert "is not running" in done.stderr


def test_kill_with_a_signal_that_is_handled(docker: Daemon) -> None:
    script = "trap 'echo hup' HUP; echo ready; while :; do sleep 0.1; done"
    docker("run", "-d", "--name", "handler", "busybox", "sh", "-c", script)
    logs_have(docker, "handler", "ready")
    assert docker("kill -s HUP handler").status == 0
    logs_have(docker, "handler", "hup")
    assert state(docker, "handler") == "running 0"


def test_restart_and_start_again(docker: Daemon) -> None:
    docker("run -d --name again busybox sh -c 'echo run >> /count; wc -l < /count; sleep 1000'")
    logs_have(docker, "again", "1\n")
    first = docker("inspect -f {{.State.StartedAt}} again").stdout
    assert docker("restart -t 0 again") == Outcome("again\n", "", 0)
    logs_have(docker, "again", "1\n2\n")  # its file system stays
    assert docker("inspect -f {{.State.StartedAt}} again").stdout != first
    assert docker("stop -t 0 again").status == 0
    assert docker("start again").stdout == "again\n"
    logs_have(docker, "again", "1\n2\n3\n")


def test_start_attached_gives_the_exit_code(docker: Daemon) -> None:
    docker("create --name later busybox sh -c 'echo now; exit 9'")
    assert state(docker, "later") == "created 0"
    assert docker("start -a later") == Outcome("now\n", "", 9)


def test_wait(docker: Daemon) -> None:
    docker("run -d --name waited busybox sh -c 'sleep 0.3; exit 4'")
    assert docker("wait waited") == Outcome("4\n", "", 0)
    assert docker("wait waited") == Outcome("4\n", "", 0)


def test_attach_sees_the_rest(docker: Daemon) -> None:
    docker("run -d -i --name open busybox sh -c 'read line; echo got $line; exit 2'")
    assert docker("attach open", stdin=b"hello\n") == Outcome("got hello\n", "", 2)


def test_pause_stops_the_work(docker: Daemon) -> None:
    docker("run -d --name ticker busybox sh -c 'while :; do date +%s%N; sleep 0.01; done'")
    logs_have(docker, "ticker", "\n")
    assert docker("pause ticker").status == 0
    assert state(docker, "ticker") == "paused 0"
    first = docker("logs ticker").stdout
    assert docker("logs ticker").stdout == first
    assert docker("unpause ticker").status == 0
    eventually(lambda: docker("logs ticker").stdout != first)


def test_rename(docker: Daemon) -> None:
    docker("run -d --name before busybox sleep 1000")
    assert docker("rename before after").status == 0
    assert docker("ps --format {{.Names}}").stdout == "after\n"
    assert docker("inspect before").status == 1
    docker("create --name other busybox true")
    done = docker("rename after other")
    assert done.status == 1
    assert "already in use" in done.stderr


def test_listing(docker: Daemon) -> None:
    docker("run --name done busybox sh -c 'exit 3'")
    docker("run -d --name up -l color=red busybox sleep 1000")
    assert docker("ps --format {{.Names}}").stdout == "up\n"
    assert docker("ps -a --format {{.Names}}").stdout.split() == ["up", "done"]
    assert docker("ps -a -f status=exited --format {{.Names}}").stdout == "done\n"
    assert docker("ps -a -f label=color=red --format {{.Names}}").stdout == "up\n"
    assert docker("ps -a -f name=don --format {{.Names}}").stdout == "done\n"
    assert re.search(r"Exited \(3\) ", docker("ps -a").stdout)
    everything = json.loads(docker("inspect up").stdout)[0]
    assert everything["State"]["Pid"] > 0
    assert everything["Config"]["Cmd"] == ["sleep", "1000"]
    short = everything["Id"][:6]
    assert docker("inspect", "-f", "{{.Name}}", short).stdout == "/up\n"


def test_rm_leaves_the_others(docker: Daemon) -> None:
    for name in ("one", "two", "three"):
        docker("create", "--name", name, "busybox", "true")
    assert docker("rm one three") == Outcome("one\nthree\n", "", 0)
    assert docker("ps -a --format {{.Names}}").stdout == "two\n"
    assert docker("rm no-such-container").status == 1


def test_top_and_stats(docker: Daemon) -> None:
    docker("run -d --name busy busybox sh -c 'sleep 1000 & sleep 2000'")
    eventually(lambda: "sleep 2000" in docker("top busy").stdout)
    shown = docker("stats --no-stream --format '{{.Name}} {{.PIDs}}' busy").stdout.split()
    assert shown[0] == "busy"
    assert int(shown[1]) >= 2


def test_a_container_s_files_can_be_copied_and_compared(docker: Daemon, tmp_path: object) -> None:
    docker("run --name files busybox sh -c 'echo made > /made; rm /etc/passwd; mkdir /d'")
    done = docker("cp files:/made -")
    assert done.status == 0
    assert "made" in done.stdout
    changes = set(docker("diff files").stdout.splitlines())
    assert {"A /made", "A /d", "D /etc/passwd"} <= changes


def test_restart_policy(docker: Daemon) -> None:
    script = (
        "echo run; [ $(wc -l < /count 2>/dev/null || echo 0) -ge 2 ] && exit 0;"
        " echo x >> /count; exit 1"
    )
    docker(
        "run",
        "-d",
        "--name",
        "stubborn",
        "--restart",
        "on-failure:5",
        "busybox",
        "sh",
        "-c",
        script,
    )
    eventually(lambda: state(docker, "stubborn") == "exited 0", "it ends well after failures")
    assert docker("logs stubborn").stdout == "run\n" * 3


def test_events(docker: Daemon) -> None:
    since = str(int(time.time()) - 1)
    docker("run --name eventful busybox true")
    shown = docker("events", "--since", since, "--until", str(int(time.time()) + 1),
                   "--filter", "container=eventful", "--format", "{{.Action}}")  # fmt: skip
    actions = shown.stdout.split()
    assert [name for name in ("create", "start", "die") if name in actions] == [
        "create",
        "start",
        "die",
    ]


class TestDaemonRestart:
    """State, logs and images are on disk."""

    def test_what_was_known_is_known_again(self, own_daemon: Daemon) -> None:
        docker = own_daemon
        docker("run --name finished busybox sh -c 'echo kept; exit 8'")
        docker("create --name waiting busybox echo started later")
        docker("tag busybox mine:1")
        # The CLI itself prints the names of one image in any order.
        known = "images --format '{{.Repository}}:{{.Tag}} {{.ID}}'"
        before = sorted(docker(known).stdout.splitlines())
        docker.stop()
        assert not docker.running
        assert docker("ps").status == 1
        docker.start()
        assert sorted(docker(known).stdout.splitlines()) == before
        assert state(docker, "finished") == "exited 8"
        assert docker("logs finished").stdout == "kept\n"
        assert docker("start -a waiting") == Outcome("started later\n", "", 0)

    def test_a_stop_ends_the_containers(self, own_daemon: Daemon) -> None:
        docker = own_daemon
        docker("run -d --name runs busybox sleep 1000")
        docker.stop()
        docker.start()
        assert state(docker, "runs").startswith("exited")

    def test_a_crash_loses_nothing_acknowledged(self, own_daemon: Daemon) -> None:
        docker = own_daemon
        docker("run --name before busybox sh -c 'echo kept'")
        docker("run -d --name running busybox sleep 1000")
        docker.kill()
        docker.start()
        assert docker("logs before").stdout == "kept\n"
        assert state(docker, "running").startswith("exited")
        assert docker("start running").status == 0
        assert state(docker, "running") == "running 0"

    def test_a_second_daemon_for_the_same_home_is_refused(self, own_daemon: Daemon) -> None:
        done = own_daemon.ddock("daemon")
        assert done.status == 1
        assert "already running" in done.stderr


def test_the_client_s_signals_reach_the_container(docker: Daemon) -> None:
    words = ("run", "--name", "signalled", "busybox", "sh", "-c", TRAP)
    with docker.popen(*words, stdout=subprocess.PIPE) as client:
        assert client.stdout
        assert client.stdout.readline() == b"ready\n"
        client.terminate()
        assert client.stdout.read() == b"got TERM\n"
        assert client.wait(30) == 5
