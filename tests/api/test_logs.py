"""`docker logs`: both streams, time ranges, tails, following, and what survives."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from cli.client import ClientError
from tests.api.support import DOCKER, Daemon, Outcome, eventually, frames, stream_of

STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ")


def finished(daemon: Daemon, script: str, **config: Any) -> Any:
    container = daemon.run("sh", "-c", script, **config)
    daemon.wait(container)
    return container


@pytest.mark.skipif(DOCKER is None, reason="there is no docker CLI here")
def test_the_cli_shows_both_streams_apart(daemon: Daemon) -> None:
    container = finished(daemon, "echo out; echo err >&2")
    assert daemon.docker("logs", container) == Outcome("out\n", "err\n", 0)
    assert daemon.docker("logs", "-n", "1", container).stdout in {"out\n", ""}


def test_one_stream_can_be_chosen(daemon: Daemon) -> None:
    container = finished(daemon, "echo out; echo err >&2")
    assert daemon.logs(container, stderr=0) == b"out\n"
    assert daemon.logs(container, stdout=0) == b"err\n"


def test_no_stream_is_an_error(daemon: Daemon) -> None:
    container = finished(daemon, "true")
    with pytest.raises(ClientError, match="you must choose at least one stream"):
        daemon.logs(container, stdout=0, stderr=0)


def test_tail_counts_lines(daemon: Daemon) -> None:
    container = finished(daemon, "for i in 1 2 3 4 5; do echo $i; done")
    assert daemon.logs(container, tail=2) == b"4\n5\n"
    assert daemon.logs(container, tail=0) == b""
    assert daemon.logs(container, tail="all") == b"1\n2\n3\n4\n5\n"
    assert daemon.logs(container, tail=-1) == b"1\n2\n3\n4\n5\n"


def test_timestamps_have_nine_digits(daemon: Daemon) -> None:
    container = finished(daemon, "echo a; echo b")
    for line in daemon.logs(container, timestamps=1).splitlines():
        assert STAMP.match(line)


def test_since_and_until_cut(daemon: Daemon) -> None:
    container = daemon.run("sh", "-c", "echo one; read x; echo two", OpenStdin=True)
    eventually(lambda: daemon.logs(container))
    between = daemon.logs(container, timestamps=1).split(b" ")[0].decode()
    later = between[:-10] + "999999999Z"
    eventually(lambda: _now() > later)
    daemon.client.request("POST", f"/containers/{container}/kill")
    assert daemon.logs(container, until=between) == b"one\n"
    assert daemon.logs(container, since=between) == b"one\n"
    assert daemon.logs(container, since=later) == b""


def _now() -> str:
    from api.engine.timestamps import now_ns, rfc3339

    return rfc3339(now_ns(), fixed=True)


def test_a_bad_time_is_refused(daemon: Daemon) -> None:
    container = finished(daemon, "true")
    with pytest.raises(ClientError, match="cannot parse") as caught:
        daemon.logs(container, since="nonsense")
    assert caught.value.status == 400


def test_bytes_that_are_not_text_survive(daemon: Daemon) -> None:
    container = finished(daemon, r"printf '\000\377\n\200'")
    assert daemon.logs(container) == b"\x00\xff\n\x80"


def test_long_lines_are_whole(daemon: Daemon) -> None:
    container = finished(daemon, "head -c 100000 /dev/zero | tr '\\000' x; echo")
    assert daemon.logs(container) == b"x" * 100_000 + b"\n"


def test_a_terminals_log_is_not_framed(daemon: Daemon) -> None:
    container = finished(daemon, "echo hi", Tty=True)
    query = {"stdout": 1, "stderr": 1}
    data = b"".join(daemon.client.stream("GET", f"/containers/{container}/logs", query))
    assert data == b"hi\r\n"


def test_following_ends_with_the_container(daemon: Daemon) -> None:
    container = daemon.run("sh", "-c", "echo one; read x; echo two", OpenStdin=True)
    query = {"stdout": 1, "stderr": 1, "follow": 1}
    chunks = daemon.client.stream("GET", f"/containers/{container}/logs", query)
    assert list(frames(next(chunks))) == [(1, b"one\n")]
    daemon.client.request("POST", f"/containers/{container}/kill")
    assert list(chunks) == []


def test_following_shows_lines_when_they_are_whole(daemon: Daemon) -> None:
    container = daemon.run("sh", "-c", "printf part; read x; echo ial", OpenStdin=True)
    received: list[bytes] = []
    query = {"stdout": 1, "stderr": 1, "follow": 1}

    def follow() -> None:
        received.extend(daemon.client.stream("GET", f"/containers/{container}/logs", query))

    thread = threading.Thread(target=follow)
    thread.start()
    eventually(lambda: daemon.logs(container) == b"part")
    stream, _ = daemon.client.hijack(
        f"/containers/{container}/attach", {"stream": 1, "stdin": 1, "stdout": 0}
    )
    with stream:
        stream.sendall(b"\n")
        thread.join(20)
    assert stream_of(b"".join(received), 1) == b"partial\n"


def test_a_log_holds_every_run(daemon: Daemon) -> None:
    container = finished(daemon, "echo run")
    daemon.client.request("POST", f"/containers/{container}/start")
    daemon.wait(container)
    assert daemon.logs(container) == b"run\nrun\n"


@pytest.mark.parametrize("files", ["1", "3"])
def test_a_log_is_rotated(daemon: Daemon, files: str) -> None:
    host = {"LogConfig": {"Type": "json-file", "Config": {"max-size": "2k", "max-file": files}}}
    script = "for i in $(seq 400); do echo line $i; sleep 0.001; done"
    container = daemon.run("sh", "-c", script, host=host)
    query = {"stdout": 1, "stderr": 1, "follow": 1}
    chunks = daemon.client.stream("GET", f"/containers/{container}/logs", query)
    followed = stream_of(b"".join(chunks), 1).splitlines()
    assert followed[-1] == b"line 400"
    kept = daemon.logs(container).splitlines()
    assert kept == [f"line {number}".encode() for number in range(401 - len(kept), 401)]
    assert 10 < len(kept) < 400
    assert len(list((daemon.home.containers / container).glob("*.log*"))) == int(files)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nonsense": "1"}, "unknown log opt 'nonsense' for json-file log driver"),
        ({"max-size": "x"}, "invalid size: 'x'"),
        ({"max-file": "2"}, "max-file cannot be set without max-size"),
    ],
)
def test_bad_log_options_are_refused(daemon: Daemon, options: dict[str, str], message: str) -> None:
    with pytest.raises(ClientError, match=message):
        daemon.create("true", host={"LogConfig": {"Type": "json-file", "Config": options}})


def test_the_none_driver_keeps_nothing(daemon: Daemon) -> None:
    host = {"LogConfig": {"Type": "none"}}
    container = finished(daemon, "echo x", host=host)
    with pytest.raises(ClientError, match="configured logging driver does not support reading"):
        daemon.logs(container)


def test_a_container_that_never_ran_has_an_empty_log(daemon: Daemon) -> None:
    assert daemon.logs(daemon.create("true")) == b""


def test_logs_survive_the_daemon(own_daemon: Daemon) -> None:
    container = finished(own_daemon, "echo one; echo two >&2")
    own_daemon.stop()
    own_daemon.start()
    assert own_daemon.logs(container, tail=1) == b"two\n"
    own_daemon.client.request("POST", f"/containers/{container}/start")
    own_daemon.wait(container)
    assert own_daemon.logs(container) == b"one\ntwo\none\ntwo\n"


def test_a_record_cut_off_by_a_crash_is_forgotten(own_daemon: Daemon) -> None:
    container = finished(own_daemon, "echo one")
    own_daemon.stop()
    path = own_daemon.home.containers / container / f"{container}.log"
    with path.open("ab") as file:
        file.write(b"dlog\x01\x00\x00\x00half a header")
    own_daemon.start()
    assert own_daemon.logs(container) == b"one\n"
    own_daemon.client.request("POST", f"/containers/{container}/start")
    own_daemon.wait(container)
    assert own_daemon.logs(container) == b"one\none\n"
