"""`docker exec`, through the CLI and on the wire."""

from __future__ import annotations

import os
from typing import Any

import pexpect
import pytest

from cli.client import ClientError
from tests.api.support import DOCKER, Daemon, Outcome, Stream, eventually, raw_http, stream_of

needs_cli = pytest.mark.skipif(DOCKER is None, reason="there is no docker CLI here")


@pytest.fixture
def sleeper(daemon: Daemon) -> Any:
    return daemon.run("sleep", "1000", name="sleeper")


def create(daemon: Daemon, container: str, *argv: str, **config: Any) -> Any:
    body = {"Cmd": list(argv), "AttachStdout": True, "AttachStderr": True, **config}
    return daemon.client.request("POST", f"/containers/{container}/exec", None, body)["Id"]


def inspect(daemon: Daemon, exec_id: str) -> Any:
    return daemon.client.request("GET", f"/exec/{exec_id}/json")


@needs_cli
def test_output_and_exit_code_come_through(daemon: Daemon, sleeper: str) -> None:
    outcome = daemon.docker("exec", "sleeper", "sh", "-c", "echo o; echo e >&2; exit 4")
    assert outcome == Outcome("o\n", "e\n", 4)


@needs_cli
def test_stdin_is_delivered(daemon: Daemon, sleeper: str) -> None:
    outcome = daemon.docker("exec", "-i", "sleeper", "sh", "-c", "cat; echo end", stdin=b"abc\n")
    assert outcome == Outcome("abc\nend\n", "", 0)


@needs_cli
def test_environment_directory_and_flags(daemon: Daemon, sleeper: str) -> None:
    outcome = daemon.docker(
        "exec", "-e", "A=1", "-w", "/some/where", "sleeper", "sh", "-c", "echo $A $HOSTNAME; pwd"
    )
    first, second = outcome.stdout.splitlines()
    assert first == f"1 {sleeper[:12]}"
    assert second.endswith("/some/where")


@needs_cli
def test_detached_runs_on(daemon: Daemon, sleeper: str) -> None:
    outcome = daemon.docker("exec", "-d", "sleeper", "sh", "-c", "echo made > file")
    assert outcome == Outcome("", "", 0)
    path = daemon.home.containers / sleeper / "upper" / "root" / "file"
    eventually(lambda: path.exists() and path.read_text() == "made\n")


@needs_cli
@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        ("nosuch", 127, 'exec: "nosuch": executable file not found in $PATH'),
        ("/etc", 126, 'exec: "/etc": is a directory'),
    ],
)
def test_what_cannot_be_executed(
    daemon: Daemon, sleeper: str, command: str, code: int, text: str
) -> None:
    outcome = daemon.docker("exec", "sleeper", command)
    assert outcome.code == code
    assert f"OCI runtime exec failed: exec failed: unable to start container process: {text}" in (
        outcome.stdout + outcome.stderr
    )


@needs_cli
def test_a_terminal_with_its_size(daemon: Daemon, sleeper: str) -> None:
    child = pexpect.spawn(
        DOCKER,
        ["exec", "-it", "sleeper", "sh"],
        env={**os.environ, **daemon._environment},
        dimensions=(40, 120),
        timeout=15,
    )
    child.expect("[#$] ")
    child.sendline("stty size")
    child.expect("40 120")
    child.sendline("exit 7")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 7


@needs_cli
def test_a_stopped_container_refuses(daemon: Daemon, sleeper: str) -> None:
    daemon.docker("kill sleeper")
    outcome = daemon.docker("exec sleeper true")
    assert outcome.code == 1
    assert f"container {sleeper} is not running" in outcome.stderr


def test_a_paused_container_refuses(daemon: Daemon, sleeper: str) -> None:
    daemon.client.request("POST", f"/containers/{sleeper}/pause")
    with pytest.raises(ClientError, match="is paused, unpause the container before exec"):
        create(daemon, sleeper, "true")


def test_inspect_tells_its_life(daemon: Daemon, sleeper: str) -> None:
    exec_id = create(daemon, sleeper, "sh", "-c", "read x; exit 5", AttachStdin=True, User="me")
    before = inspect(daemon, exec_id)
    assert (before["Running"], before["ExitCode"]) == (False, None)
    assert before["ProcessConfig"] == {
        "tty": False,
        "entrypoint": "sh",
        "arguments": ["-c", "read x; exit 5"],
        "privileged": False,
        "user": "me",
    }
    with Stream(daemon, f"/exec/{exec_id}/start") as stream:
        eventually(lambda: inspect(daemon, exec_id)["Pid"])
        assert inspect(daemon, exec_id)["Running"] is True
        assert daemon.inspect(sleeper)["ExecIDs"] == [exec_id]
        stream.send(b"\n")
        stream.read_to_end()
    after = inspect(daemon, exec_id)
    assert (after["Running"], after["ExitCode"]) == (False, 5)
    assert daemon.inspect(sleeper)["ExecIDs"] is None


def test_it_runs_once(daemon: Daemon, sleeper: str) -> None:
    exec_id = create(daemon, sleeper, "true")
    with Stream(daemon, f"/exec/{exec_id}/start") as stream:
        stream.read_to_end()
    with pytest.raises(ClientError, match="has already run") as caught:
        Stream(daemon, f"/exec/{exec_id}/start")
    assert caught.value.status == 409


def test_unknown_execs_are_404(daemon: Daemon) -> None:
    with pytest.raises(ClientError, match="No such exec instance: nosuch") as caught:
        daemon.client.request("GET", "/exec/nosuch/json")
    assert caught.value.status == 404


def test_an_empty_command_is_refused(daemon: Daemon, sleeper: str) -> None:
    with pytest.raises(ClientError, match="No exec command specified") as caught:
        create(daemon, sleeper)
    assert caught.value.status == 400


def test_the_first_byte_is_not_lost(daemon: Daemon, sleeper: str) -> None:
    for _ in range(20):
        exec_id = create(daemon, sleeper, "echo", "quick")
        with Stream(daemon, f"/exec/{exec_id}/start") as stream:
            assert stream_of(stream.read_to_end(), 1) == b"quick\n"


def test_the_end_of_the_container_ends_its_execs(daemon: Daemon, sleeper: str) -> None:
    exec_id = create(daemon, sleeper, "sh", "-c", "echo ready; sleep 100")
    with Stream(daemon, f"/exec/{exec_id}/start") as stream:
        stream.read_until(b"ready")
        daemon.client.request("POST", f"/containers/{sleeper}/kill")
        stream.read_to_end()
    assert inspect(daemon, exec_id)["ExitCode"] == 137


def test_resizing_waits_for_the_start(daemon: Daemon, sleeper: str) -> None:
    exec_id = create(daemon, sleeper, "sh", "-c", "read x; stty size", Tty=True, AttachStdin=True)
    with Stream(daemon, f"/exec/{exec_id}/start") as stream:
        daemon.client.request("POST", f"/exec/{exec_id}/resize", {"h": 11, "w": 22})
        stream.send(b"\n")
        stream.read_until(b"11 22")


def test_the_start_body_sets_the_size(daemon: Daemon, sleeper: str) -> None:
    exec_id = create(daemon, sleeper, "stty", "size", Tty=True, AttachStdin=True)
    body = b'{"Detach":false,"Tty":true,"ConsoleSize":[12,34]}\n'
    head = (
        f"POST /v1.50/exec/{exec_id}/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        f"Upgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    answer = raw_http(daemon, head.encode() + body)
    assert b"application/vnd.docker.raw-stream" in answer
    assert answer.endswith(b"12 34\r\n")
