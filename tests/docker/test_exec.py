"""`docker exec`: another process in a running container."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docker.daemon import Daemon, Outcome, eventually

pytestmark = [pytest.mark.docker, pytest.mark.core]


@pytest.fixture
def box(docker: Daemon) -> Iterator[Daemon]:
    """A running container called box."""
    assert docker("run -d --name box -e FROM_RUN=1 busybox sleep 1000").status == 0
    yield docker
    docker("rm -f box")


def test_output_and_exit_code(box: Daemon) -> None:
    assert box("exec box sh -c 'echo out; echo err >&2; exit 6'") == Outcome("out\n", "err\n", 6)


def test_it_lives_in_the_same_container(box: Daemon) -> None:
    script = "echo $FROM_RUN; cat /proc/1/comm; echo x > /made"
    assert box("exec", "box", "sh", "-c", script).stdout == "1\nsleep\n"
    assert box("exec box cat /made").stdout == "x\n"


def test_flags(box: Daemon) -> None:
    done = box(
        "exec",
        "-e",
        "E=f",
        "-w",
        "/etc",
        "-u",
        "12:34",
        "box",
        "sh",
        "-c",
        "echo $E; pwd; id -u; id -g",
    )
    assert done == Outcome("f\n/etc\n12\n34\n", "", 0)


def test_stdin(box: Daemon) -> None:
    assert box("exec -i box wc -c", stdin=b"12345").stdout.strip() == "5"
    assert box("exec box cat", stdin=b"not passed on").stdout == ""


def test_unknown_program(box: Daemon) -> None:
    done = box("exec box no-such-program")
    assert done.status == 127
    assert "executable file not found in $PATH" in done.stdout + done.stderr


def test_detached(box: Daemon) -> None:
    assert box("exec", "-d", "box", "sh", "-c", "echo later > /later").status == 0
    eventually(lambda: box("exec box cat /later").stdout == "later\n")


def test_many_at_once(box: Daemon) -> None:
    clients = [box.popen("exec", "box", "sh", "-c", f"sleep 0.2; exit {n}") for n in range(12)]
    assert [client.wait(60) for client in clients] == list(range(12))


def test_it_ends_with_the_container(box: Daemon) -> None:
    client = box.popen("exec", "box", "sleep", "1000")
    eventually(
        lambda: "sleep 1000" in box("top box").stdout and box("top box").stdout.count("sleep") == 2
    )
    box("kill box")
    assert client.wait(30) == 137


def test_not_running(docker: Daemon) -> None:
    docker("create --name idle busybox true")
    done = docker("exec idle true")
    assert done.status == 1
    assert "is not running" in done.stderr
