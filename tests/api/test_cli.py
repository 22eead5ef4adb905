"""The `ddock` command."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pexpect
import pytest

from cli.__main__ import main
from cli.busybox import NoBusybox, applets_of, data_archive, find_binary, root_tar
from cli.host_checks import all_findings
from kernel.host import engines
from tests.api.support import Daemon, eventually, member_of, output_of


class Ddock:
    """Runs `ddock` as a program, against a daemon."""

    def __init__(self, daemon: Daemon) -> None:
        paths = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
        own = {"DDOCK_HOME": str(daemon.home.root), "PYTHONPATH": paths}
        self.environment = {**os.environ, **own}
        self.environment.pop("DOCKER_HOST", None)

    def __call__(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "cli", *words]
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            env=self.environment,
            timeout=60,
            check=False,
        )


@pytest.fixture
def ddock(daemon: Daemon) -> Ddock:
    return Ddock(daemon)


def test_run_prints_and_exits_like_docker(ddock: Ddock, daemon: Daemon) -> None:
    done = ddock("run", "--rm", "busybox", "sh", "-c", "echo hi; echo no >&2; exit 3")
    assert (done.stdout, done.stderr, done.returncode) == (b"hi\n", b"no\n", 3)
    assert daemon.client.request("GET", "/containers/json", {"all": 1}) == []


def test_run_feeds_stdin(ddock: Ddock) -> None:
    data = os.urandom(1 << 20)
    done = ddock("run", "--rm", "-i", "busybox", "cat", stdin=data)
    assert done.stdout == data


def test_run_detached(ddock: Ddock, daemon: Daemon) -> None:
    done = ddock("run", "-d", "--name", "back", "busybox", "sleep", "100")
    assert done.stdout.decode().strip() == daemon.inspect("back")["Id"]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["busybox", "nosuch"], 127, "executable file not found"),
        (["busybox", "/etc"], 126, "is a directory"),
        (["-m", "1k", "busybox", "true"], 125, "Minimum memory limit allowed is 6MB"),
        (["-v", "/a:b", "busybox"], 125, "must be absolute"),
        (["--network", "nosuch", "busybox", "true"], 125, "network nosuch not found"),
    ],
)
def test_run_fails_like_docker(ddock: Ddock, words: list[str], code: int, text: str) -> None:
    done = ddock("run", "--rm", *words)
    assert done.returncode == code
    assert text in done.stderr.decode()


def test_run_on_a_terminal(ddock: Ddock) -> None:
    child = pexpect.spawn(
        sys.executable,
        ["-m", "cli", "run", "--rm", "-it", "busybox", "sh"],
        env=ddock.environment,
        dimensions=(40, 120),
        timeout=20,
    )
    child.expect("[#$] ")
    child.sendline("stty size")
    child.expect("40 120")
    child.setwinsize(30, 90)
    child.sendline("while ! stty size | grep '30 90'; do :; done")
    child.expect("30 90\r\n")
    child.sendline("exit 6")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 6


def test_detaching(ddock: Ddock, daemon: Daemon) -> None:
    child = pexpect.spawn(
        sys.executable,
        ["-m", "cli", "run", "-it", "--name", "left", "busybox", "sh"],
        env=ddock.environment,
        timeout=20,
    )
    child.expect("[#$] ")
    child.send("\x10\x11")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert daemon.status("left") == "running"


def test_without_a_daemon_it_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DDOCK_HOME", str(tmp_path))
    assert main(["run", "--rm", "busybox"]) == 125
    assert "`ddock daemon` starts it" in capsys.readouterr().err


def test_trace_prints_lines(ddock: Ddock, daemon: Daemon) -> None:
    daemon.run("sleep", "100", name="traced")
    command = [sys.executable, "-m", "cli", "trace", "traced"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=ddock.environment) as process:
        assert output_of(process).readline().startswith(b"openat(")
        daemon.client.request("POST", "/containers/traced/kill")
        process.terminate()


def test_doctor_looks_at_everything(ddock: Ddock, daemon: Daemon) -> None:
    (daemon.home.run / "unimplemented.json").write_text('{"quotactl": 3}')
    try:
        report = json.loads(ddock("doctor", "--json").stdout)
        text = ddock("doctor").stdout.decode()
    finally:
        (daemon.home.run / "unimplemented.json").unlink()
    names = {check["name"] for check in report["checks"]}
    assert {"seccomp", "Landlock", "cgroup v2", "limits", "user xattrs", "FSGSBASE"} <= names
    assert {row["isa"]: row["kind"] for row in report["engines"]}[engines.host_isa()] == "native"
    assert "how containers of each platform run here" in text
    assert report["unimplemented"] == {"quotactl": 3}
    assert "quotactl" in text
    assert f"daemon running (pid {daemon.pid})" in text


def test_every_finding_has_a_consequence(daemon: Daemon) -> None:
    for finding in all_findings(daemon.home):
        assert finding.consequence, finding
        assert finding.value, finding


BINARY = b"\x7fELF static"


def test_the_busybox_tree_is_complete(tmp_path: Path) -> None:
    data = root_tar(BINARY, ["bin/sh", "usr/bin/env", "sbin/init", "bin/busybox", "linuxrc"])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {member.name: member for member in tar}
        assert member_of(tar, "bin/busybox") == BINARY
        assert b"root:x:0:0:root:/root:/bin/sh" in member_of(tar, "etc/passwd")
    assert members["bin/sh"].linkname == "busybox"
    assert members["usr/bin/env"].linkname == "../../bin/busybox"
    assert members["sbin/init"].linkname == "../bin/busybox"
    assert members["tmp"].mode == 0o1777
    assert members["root"].mode == 0o700
    assert "linuxrc" not in members
    assert {member.uid for member in members.values()} == {0}


def test_a_debian_package_is_unpacked_without_dpkg() -> Any:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:xz") as tar:
        info = tarfile.TarInfo("./bin/busybox")
        info.size = len(BINARY)
        tar.addfile(info, io.BytesIO(BINARY))

    def member(name: str, data: bytes) -> bytes:
        head = f"{name:16}{0:<12}{0:<6}{0:<6}{'100644':8}{len(data):<10}`\n"
        return head.encode() + data + b"\n" * (len(data) % 2)

    package = b"!<arch>\n" + member("debian-binary", b"2.0\n") + member("control.tar.xz", b"odd")
    package += member("data.tar.xz", inner.getvalue())
    with tarfile.open(fileobj=data_archive(io.BytesIO(package)), mode="r|") as tar:
        assert [entry.name for entry in tar] == ["./bin/busybox"]
    with pytest.raises(NoBusybox, match="not a Debian package"):
        data_archive(io.BytesIO(b"nonsense"))


def test_what_was_tried_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(NoBusybox, match="no apt-get; no apt-get; no busybox on this host"):
        find_binary(tmp_path, engines.host_isa())


def test_a_binary_that_does_not_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoBusybox, match="does not run here"):
        applets_of(BINARY, tmp_path, engines.host_isa())


def test_bootstrap_is_content_with_what_is_there(ddock: Ddock) -> None:
    done = ddock("image", "bootstrap", "busybox")
    assert (done.stdout, done.returncode) == (b"ddock: busybox:latest is there already\n", 0)


def test_bootstrap_knows_only_busybox_without_a_registry(ddock: Ddock) -> None:
    done = ddock("image", "bootstrap", "--offline", "debian")
    assert done.returncode == 1
    assert b"only busybox can be made here" in done.stderr


def test_bootstrap_builds_an_image(
    own_daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DDOCK_HOME", str(own_daemon.home.root))
    monkeypatch.setattr("cli.bootstrap.find_binary", lambda *_: BINARY)
    monkeypatch.setattr("cli.bootstrap.applets_of", lambda *_: ["bin/sh"])
    own_daemon.client.request("DELETE", "/images/busybox")
    assert main(["image", "bootstrap", "--offline", "busybox"]) == 0
    assert "made busybox:latest from the host's packages" in capsys.readouterr().out
    image = own_daemon.client.request("GET", "/images/busybox/json")
    assert image["Config"]["Cmd"] == ["sh"]
    words = ["image", "bootstrap", "--offline", "busybox:arm64", "--platform", "linux/arm64"]
    assert main(words) == 0
    assert "made busybox:arm64 for linux/arm64" in capsys.readouterr().out
    arm64 = own_daemon.client.request("GET", "/images/busybox:arm64/json")
    assert arm64["Architecture"] == "arm64"
    assert main(words) == 0
    assert "busybox:arm64 is there already" in capsys.readouterr().out
    assert main([*words[:3], "busybox:s390x", "--platform", "linux/s390x"]) == 1
    eventually(lambda: not list(own_daemon.home.tmp.iterdir()))
