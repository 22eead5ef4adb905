"""`docker run` through the real docker CLI."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pexpect
import pytest

from tests.api.support import DOCKER, Daemon, Outcome, eventually, output_of

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(DOCKER is None, reason="there is no docker CLI here"),
]


def test_output_and_exit_code_come_through(daemon: Daemon) -> None:
    outcome = daemon.docker("run", "--rm", "busybox", "sh", "-c", "echo hi; echo no >&2; exit 3")
    assert outcome == Outcome("hi\n", "no\n", 3)


def test_rm_leaves_nothing(daemon: Daemon) -> None:
    assert daemon.docker("run --rm busybox true").code == 0
    assert daemon.docker("ps -aq").stdout == ""
    assert os.listdir(daemon.home.containers) == []


def test_without_rm_the_container_stays(daemon: Daemon) -> None:
    assert daemon.docker("run --name kept busybox false").code == 1
    assert daemon.docker("ps", "-a", "--format", "{{.Names}} {{.State}}").stdout == "kept exited\n"


def test_detached_prints_the_id(daemon: Daemon) -> None:
    outcome = daemon.docker("run -d --name dd busybox sleep 100")
    assert outcome.stdout.strip() == daemon.inspect("dd")["Id"]
    assert daemon.status("dd") == "running"


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        ("nosuchcommand", 127, 'exec: "nosuchcommand": executable file not found in $PATH'),
        ("/no/such/file", 127, "no such file or directory"),
        ("/etc", 126, "is a directory"),
        ("/etc/passwd", 126, "permission denied"),
    ],
)
def test_what_cannot_be_executed_has_dockers_exit_code(
    daemon: Daemon, command: str, code: int, text: str
) -> None:
    outcome = daemon.docker("run", "--rm", "busybox", command)
    assert outcome.code == code
    assert text in outcome.stderr
    assert "OCI runtime create failed" in outcome.stderr
    assert daemon.docker("ps -aq").stdout == ""


def test_a_failed_start_is_told_by_inspect(daemon: Daemon) -> None:
    daemon.docker("run --name bad busybox nosuchcommand")
    state = daemon.inspect("bad")["State"]
    assert state["ExitCode"] == 127
    assert state["Status"] == "created"
    assert "executable file not found" in state["Error"]


def test_a_kernel_that_does_not_boot_is_an_error(daemon: Daemon) -> None:
    outcome = daemon.docker("run --rm --hostname refuse-boot busybox true")
    assert outcome.code == 125
    assert "no kernel today" in outcome.stderr


def test_a_kernel_that_dies_at_start_is_an_error(daemon: Daemon) -> None:
    outcome = daemon.docker("run --rm busybox /kernel-crash")
    assert outcome.code == 125
    assert "kernel process ended unexpectedly" in outcome.stderr


def test_an_unknown_image_is_125(daemon: Daemon) -> None:
    outcome = daemon.docker("run --rm localhost:1/nosuch true")
    assert outcome.code == 125
    assert "Unable to find image 'localhost:1/nosuch:latest' locally" in outcome.stderr
    assert 'Get "https://localhost:1/v2/"' in outcome.stderr


def test_pull_never_says_no_such_image(daemon: Daemon) -> None:
    outcome = daemon.docker("run --rm --pull never nosuch true")
    assert "No such image: nosuch:latest" in outcome.stderr


def test_a_taken_name_is_a_conflict(daemon: Daemon) -> None:
    daemon.docker("create --name one busybox")
    identifier = daemon.inspect("one")["Id"]
    outcome = daemon.docker("create --name one busybox")
    assert outcome.code == 1
    assert outcome.stderr.splitlines()[0] == (
        'Error response from daemon: Conflict. The container name "/one" is already in use by'
        f' container "{identifier}". You have to remove (or rename) that container to be able to'
        " reuse that name."
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("-m 1k", "Minimum memory limit allowed is 6MB"),
        ("--name bad/name", "Invalid container name (bad/name), only [a-zA-Z0-9][a-zA-Z0-9_.-]"),
        ("--cap-add NONSENSE", 'invalid CapAdd: unknown capability: "CAP_NONSENSE"'),
        ("--security-opt nonsense=1", 'invalid --security-opt 1: "nonsense=1"'),
        ("--stop-signal NONSENSE", "invalid signal: NONSENSE"),
        ("-w relative", "the working directory 'relative' is invalid"),
        ("-v /a:relative", "mount path must be absolute"),
        ("-v /a:/", "destination can't be '/'"),
        ("-v bad!name:/x", "includes invalid characters for a local volume name"),
        ("-v /a:/b:nonsense", "invalid mode: nonsense"),
        ("-v /a:/x -v /b:/x", "Duplicate mount point: /x"),
        ("--mount type=bind,src=/no/such,dst=/x", "bind source path does not exist: /no/such"),
        ("--tmpfs /x:nonsense=1", "Invalid tmpfs option"),
        ("--log-driver syslog", "logger: no log driver named 'syslog' is registered"),
        ("--pid host", "--pid host is not supported"),
        ("--network container:x", "is not supported"),
        ("--device /dev/null", "--device is not supported"),
        ("--runtime nonsense", "is not supported"),
        ("--restart always --rm", ""),
        ("--cpus 1000", "range of CPUs is from 0.01"),
        ("--network nosuch", "network nosuch not found"),
        ("--entrypoint= ", "no command specified"),
    ],
)
def test_bad_values_fail_with_125_and_leave_nothing(
    daemon: Daemon, flags: str, message: str
) -> None:
    command = [] if flags.startswith("--entrypoint") else ["true"]
    outcome = daemon.docker("run", "--rm", *flags.split(), "busybox", *command)
    assert outcome.code == 125, outcome
    assert message in outcome.stderr
    assert daemon.docker("ps -aq").stdout == ""
    assert daemon.docker("volume ls -q").stdout == ""


def test_stdin_is_delivered_whole(daemon: Daemon) -> None:
    data = os.urandom(8 << 20)
    done = daemon.popen(
        "run", "--rm", "-i", "busybox", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    output, _ = done.communicate(data, timeout=60)
    assert hashlib.sha256(output).digest() == hashlib.sha256(data).digest()


def test_a_program_that_does_not_read_its_stdin_ends(daemon: Daemon) -> None:
    outcome = daemon.docker("run", "--rm", "-i", "busybox", "true", stdin=b"x" * (4 << 20))
    assert outcome.code == 0


def test_output_after_stdin_ended_is_not_lost(daemon: Daemon) -> None:
    script = "cat >/dev/null; sleep 0.2; echo late"
    outcome = daemon.docker("run", "--rm", "-i", "busybox", "sh", "-c", script, stdin=b"x")
    assert outcome == Outcome("late\n", "", 0)


def test_a_slow_reader_gets_everything(daemon: Daemon) -> None:
    """The container ends long before its output is read."""
    command = ["run", "--name", "slow", "busybox", "head", "-c", "700000", "/dev/zero"]
    with daemon.popen(*command, stdout=subprocess.PIPE) as process:
        assert output_of(process).read(1)
        eventually(lambda: daemon.status("slow") == "exited")
        assert len(output_of(process).read()) == 700_000 - 1
        assert process.wait(20) == 0


def test_terminal_size_keys_and_exit_code(daemon: Daemon) -> None:
    child = pexpect.spawn(
        DOCKER,
        ["run", "--rm", "-it", "busybox", "sh"],
        env={**os.environ, **daemon._environment},
        encoding="utf8",
        dimensions=(40, 120),
        timeout=15,
    )
    child.expect("[#$] ")
    child.sendline("stty size")
    child.expect("40 120")
    child.setwinsize(50, 100)
    child.sendline("while ! stty size | grep '50 100'; do :; done")
    child.expect("50 100\r\n")
    child.sendline("exit 7")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 7


def test_ctrl_c_reaches_the_program(daemon: Daemon) -> None:
    child = pexpect.spawn(
        DOCKER,
        ["run", "--rm", "-it", "busybox", "sh", "-c", "echo ready; sleep 100"],
        env={**os.environ, **daemon._environment},
        timeout=15,
    )
    child.expect("ready")
    child.send("\x03")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130


def test_detaching_leaves_it_running(daemon: Daemon) -> None:
    arguments = {"env": {**os.environ, **daemon._environment}, "timeout": 15}
    child = pexpect.spawn(DOCKER, ["run", "-it", "--name", "tt", "busybox", "sh"], **arguments)
    child.expect("[#$] ")
    child.send("\x10\x11")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert daemon.status("tt") == "running"
    again = pexpect.spawn(DOCKER, ["attach", "tt"], **arguments)
    again.sendline("echo a''gain; exit 4")
    again.expect("again\r\n")
    again.expect(pexpect.EOF)
    again.close()
    assert again.exitstatus == 4


def test_signals_are_proxied(daemon: Daemon) -> None:
    script = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    command = ["run", "--rm", "busybox", "sh", "-c", script]
    with daemon.popen(*command, stdout=subprocess.PIPE) as process:
        assert output_of(process).readline() == b"ready\n"
        process.terminate()
        assert output_of(process).read() == b"got\n"
        assert process.wait(20) == 9


def test_flags_reach_the_kernel(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# comment\nFROM_FILE=1\n")
    flags = [
        "-d --name full -h box --domainname dom -u 1:2 -w /tmp -e A=1 -e B= --read-only --init",
        f"--env-file {tmp_path}/env --pids-limit 7 -m 32m --shm-size 1m --privileged",
        "--ulimit nofile=100:200 --ulimit core=0 --cap-add net_admin --cap-drop ALL",
        "--add-host one:10.0.0.1 --dns 1.2.3.4 --security-opt no-new-privileges --network none",
        f"--tmpfs /t:size=1m,mode=700 -v {tmp_path}:/host:ro -v vol:/vol --stop-signal INT",
        "--mount type=tmpfs,dst=/t2 --group-add 5 --stop-timeout 3 --label a=b",
    ]
    outcome = daemon.docker("run", *" ".join(flags).split(), "busybox", "sleep", "100")
    assert outcome.code == 0, outcome
    directory = daemon.home.containers / outcome.stdout.strip()
    spec = json.loads((directory / "run" / "spec.json").read_text())
    assert spec["hostname"] == "box"
    assert spec["domainname"] == "dom"
    assert spec["user"] == "1:2"
    assert spec["cwd"] == "/tmp"
    assert {"A=1", "B=", "FROM_FILE=1", "HOSTNAME=box"} <= set(spec["env"])
    assert spec["readonly_rootfs"] is True
    assert spec["init"] is True
    assert spec["pids_limit"] == 7
    assert spec["memory_bytes"] == 32 << 20
    assert spec["shm_size_bytes"] == 1 << 20
    assert spec["nofile"] == [100, 200]
    assert {"name": "core", "soft": 0, "hard": 0} in spec["ulimits"]
    assert spec["cap_add"] == ["CAP_NET_ADMIN"]
    assert spec["cap_drop"] == ["ALL"]
    assert spec["privileged"] is True
    assert spec["hosts"] == ["10.0.0.1\tone"]
    assert spec["dns"] == ["1.2.3.4"]
    assert spec["no_new_privileges"] is True
    assert spec["network"] == "none"
    assert spec["stop_signal"] == 2
    assert spec["groups"] == ["5"]
    assert spec["address"].startswith("127.")
    mounts = {mount["target"]: mount for mount in spec["mounts"]}
    assert mounts["/host"]["source"] == str(tmp_path)
    assert mounts["/host"]["readonly"] is True
    assert "size=1m" in mounts["/t"]["options"]
    assert mounts["/vol"]["options"] == ["volume", "copy"]
    assert mounts["/vol"]["source"] == str(daemon.home.volumes / "vol" / "_data")
    assert mounts["/t2"]["type"] == "tmpfs"


def test_a_missing_bind_directory_is_made(daemon: Daemon, tmp_path: Path) -> None:
    source = tmp_path / "new" / "dir"
    assert daemon.docker(f"run --rm -v {source}:/x busybox true").code == 0
    assert source.is_dir()


def test_environment_is_docker_like(daemon: Daemon) -> None:
    script = "echo $PATH; echo $HOSTNAME"
    outcome = daemon.docker("run", "--rm", "-h", "me", "busybox", "sh", "-c", script)
    path, hostname = outcome.stdout.splitlines()
    assert path == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert hostname == "me"


def test_hostname_defaults_to_the_short_id(daemon: Daemon) -> None:
    identifier = daemon.docker("create busybox").stdout.strip()
    assert daemon.inspect(identifier)["Config"]["Hostname"] == identifier[:12]


def test_warnings_name_what_is_not_enforced(daemon: Daemon) -> None:
    outcome = daemon.docker("run --rm --cpus 0.5 -p 8080:80 busybox true")
    assert outcome.code == 0
    assert "WARNING: Recorded but not enforced by this engine: CPU limits." in outcome.stderr
    assert "not forwarded" in outcome.stderr


def test_many_at_once(daemon: Daemon) -> None:
    processes = [
        daemon.popen("run", "--rm", "busybox", "echo", str(number), stdout=subprocess.PIPE)
        for number in range(16)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert outputs == [f"{number}\n".encode() for number in range(16)]
    assert {process.returncode for process in processes} == {0}
