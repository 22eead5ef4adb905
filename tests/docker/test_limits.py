"""Many containers at once, and guests that crash, fork without end or are killed from outside."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.docker import leaks
from tests.docker.daemon import Daemon, Outcome, eventually

pytestmark = [pytest.mark.docker, pytest.mark.core]


@pytest.fixture
def witness(docker: Daemon) -> Daemon:
    """A container that must not notice anything."""
    docker("run -d --name busy busybox sh -c 'while :; do echo tick; sleep 0.05; done'")
    return docker


def unharmed(docker: Daemon) -> None:
    assert docker("inspect -f {{.State.Running}} busy").stdout == "true\n"
    ticks = docker("logs busy").stdout.count("tick")
    eventually(lambda: docker("logs busy").stdout.count("tick") > ticks + 2)
    assert docker("run --rm busybox echo works").stdout == "works\n"


@pytest.mark.slow
def test_fifty_containers_at_once(docker: Daemon) -> None:
    numbers = range(50)
    clients = [
        docker.popen("run", "--rm", "busybox", "sh", "-c", f"echo $(({n} * 2)); sleep 1; exit {n}")
        for n in numbers
    ]
    assert [client.wait(120) for client in clients] == list(numbers)


@pytest.mark.slow
def test_fifty_that_stay(docker: Daemon) -> None:
    words = ("run", "-d", "busybox", "sleep", "1000")
    clients = [docker.popen(*words, stdout=-3) for _ in range(50)]
    assert {client.wait(120) for client in clients} == {0}
    assert len(docker("ps -q").stdout.split()) == 50
    assert docker("exec", docker("ps -lq").stdout.strip(), "echo", "alive").stdout == "alive\n"


def test_a_crash_is_its_own(witness: Daemon) -> None:
    script = "sh -c 'kill -SEGV $$'; echo $?; kill -ABRT $$; exit 9"
    for _ in range(5):
        assert witness("run", "--rm", "busybox", "sh", "-c", script).stdout == "139\n"
    unharmed(witness)


def test_forking_without_end_is_bounded(witness: Daemon) -> None:
    bomb = "bomb() { bomb | bomb & }; bomb; sleep 2; echo over"
    started = time.monotonic()
    words = ("run", "--name", "bomb", "--pids-limit", "40", "busybox", "sh", "-c", bomb)
    client = witness.popen(*words, stdout=-3, stderr=-3)
    most = 0
    while client.poll() is None and time.monotonic() - started < 60:
        most = max(most, len(leaks.descendants(witness.pid)))
        unharmed(witness)
    client.kill()
    client.wait()
    # 40 guests, three kernels, the zygote and a little for processes on their way out.
    assert most < 80
    assert witness("rm -f bomb").status == 0
    unharmed(witness)


def test_the_pids_limit_is_eagain(docker: Daemon) -> None:
    script = "i=0; while [ $i -lt 30 ]; do sleep 100 & i=$((i + 1)); done; echo all"
    done = docker("run", "--rm", "--pids-limit", "10", "busybox", "sh", "-c", script)
    assert "all" not in done.stdout
    assert "can't fork" in done.stderr


def guests(docker: Daemon, name: str) -> list[int]:
    """The host processes of a container, its first one's parent last."""
    first = int(docker("inspect", "-f", "{{.State.Pid}}", name).stdout)
    kernel = int(Path(f"/proc/{first}/stat").read_text().rpartition(")")[2].split()[1])
    return [*leaks.descendants(kernel), kernel]


def test_a_guest_killed_from_outside(witness: Daemon) -> None:
    witness("run -d --name victim busybox sh -c 'sleep 1000; echo slept $?; exit 3'")
    eventually(lambda: "sleep 1000" in witness("top victim").stdout)
    first = int(witness("inspect -f {{.State.Pid}} victim").stdout)
    child = next(pid for pid in guests(witness, "victim")[:-1] if pid != first)
    os.kill(child, signal.SIGKILL)
    assert witness("wait victim").stdout == "3\n"
    assert witness("logs victim").stdout == "slept 137\n"
    unharmed(witness)


def test_the_first_process_killed_from_outside(witness: Daemon) -> None:
    witness("run -d --name victim busybox sleep 1000")
    os.kill(int(witness("inspect -f {{.State.Pid}} victim").stdout), signal.SIGKILL)
    assert witness("wait victim").stdout == "137\n"
    unharmed(witness)


def test_a_kernel_killed_from_outside(witness: Daemon) -> None:
    """A kernel may die, its container with it, the daemon never."""
    witness("run -d --name victim busybox sh -c 'sleep 1000 & sleep 1000'")
    *others, kernel = guests(witness, "victim")
    os.kill(kernel, signal.SIGKILL)
    assert witness("wait victim").stdout == "137\n"
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in others))
    unharmed(witness)


def test_a_guest_that_fills_its_standard_output_waits_for_the_reader(docker: Daemon) -> None:
    done = docker("run --rm busybox sh -c 'yes | head -c 5000000'", timeout=60)
    assert len(done.stdout) == 5000000


def test_an_unread_client_does_not_stop_the_daemon(witness: Daemon) -> None:
    client = witness.popen("run", "--name", "loud", "busybox", "yes", stdout=-1)
    unharmed(witness)
    client.kill()
    client.communicate()
    witness("rm -f loud")
    unharmed(witness)


def test_guests_see_no_descriptor_of_ours(docker: Daemon) -> None:
    done = docker("run --rm busybox ls /proc/self/fd")
    assert done == Outcome("0\n1\n2\n3\n", "", 0)  # 3 is the directory being listed
    script = "for n in 1019 1020 1021 1022 1023; do (echo x >&$n) 2>/dev/null && echo $n; done; :"
    assert docker("run", "--rm", "busybox", "sh", "-c", script) == Outcome("", "", 0)
