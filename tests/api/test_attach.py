"""Hijacked connections, byte by byte: half close, detaching, vanished clients, several clients."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cli.client import ClientError
from tests.api.support import Daemon, Stream, eventually, frames, raw_http, stream_of

INTERACTIVE: dict[str, Any] = {"OpenStdin": True, "StdinOnce": True, "AttachStdin": True}
ECHO = "while read line; do echo got $line; done; echo end"


def start(daemon: Daemon, container: str) -> None:
    daemon.client.request("POST", f"/containers/{container}/start")


def send_all(stream: Stream, data: bytes) -> None:
    stream.send(data)
    stream.half_close()


def receive_until(connection: socket.socket, text: bytes) -> None:
    data = b""
    while text not in data:
        chunk = connection.recv(65536)
        assert chunk, data
        data += chunk


def test_the_answer_is_dockers_to_the_letter(daemon: Daemon) -> None:
    container = daemon.create("true")
    start(daemon, container)
    daemon.wait(container)
    request = (
        f"POST /v1.50/containers/{container}/attach?logs=1&stdout=1 HTTP/1.1\r\nHost: x\r\n"
        "Content-Length: 0\r\nConnection: Upgrade\r\nContent-Type: text/plain\r\n"
        "Upgrade: tcp\r\n\r\n"
    )
    assert raw_http(daemon, request.encode()) == (
        b"HTTP/1.1 101 UPGRADED\r\n"
        b"Content-Type: application/vnd.docker.multiplexed-stream\r\n"
        b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    )


def test_old_clients_and_those_without_upgrade_get_a_raw_stream(daemon: Daemon) -> None:
    container = daemon.create("true")
    start(daemon, container)
    daemon.wait(container)
    old = f"POST /v1.41/containers/{container}/attach?logs=1 HTTP/1.1\r\nHost: x\r\n"
    upgraded = raw_http(daemon, f"{old}Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode())
    assert b"101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream" in upgraded
    plain = raw_http(daemon, f"{old}\r\n".encode())
    assert plain.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream")


def test_errors_before_the_hijack_are_http(daemon: Daemon) -> None:
    with pytest.raises(ClientError, match="No such container: nosuch") as caught:
        Stream.attach(daemon, "nosuch")
    assert caught.value.status == 404


def test_a_refused_upgrade_leaves_the_connection_usable(daemon: Daemon) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    head = b"POST /v1.50/containers/nosuch/attach HTTP/1.1\r\nHost: x\r\n" + upgrade
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(daemon.home.socket))
        connection.sendall(head)
        receive_until(connection, b"No such container")
        connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        receive_until(connection, b"200 OK")


def test_streams_are_framed_apart(daemon: Daemon) -> None:
    container = daemon.create("sh", "-c", "echo out; echo err >&2; echo out2")
    with Stream.attach(daemon, container) as stream:
        start(daemon, container)
        data = stream.read_to_end()
    assert stream_of(data, 1) == b"out\nout2\n"
    assert stream_of(data, 2) == b"err\n"


def test_only_the_chosen_stream_is_sent(daemon: Daemon) -> None:
    container = daemon.create("sh", "-c", "echo out; echo err >&2")
    with Stream.attach(daemon, container, stdout=0) as stream:
        start(daemon, container)
        assert list(frames(stream.read_to_end())) == [(2, b"err\n")]


def test_half_close_ends_stdin_but_not_the_output(daemon: Daemon) -> None:
    container = daemon.create("sh", "-c", f"{ECHO}; sleep 0.2; echo late", **INTERACTIVE)
    with Stream.attach(daemon, container) as stream:
        start(daemon, container)
        stream.send(b"one\n")
        stream.read_until(b"got one")
        stream.half_close()
        assert stream_of(stream.read_to_end(), 1) == b"got one\nend\nlate\n"


def test_a_client_without_stdin_may_half_close_at_once(daemon: Daemon) -> None:
    container = daemon.create("sh", "-c", "sleep 0.2; echo late")
    with Stream.attach(daemon, container, stdin=0) as stream:
        stream.half_close()
        start(daemon, container)
        assert stream_of(stream.read_to_end(), 1) == b"late\n"


def test_input_sent_before_the_start_is_kept(daemon: Daemon) -> None:
    container = daemon.create("cat", **INTERACTIVE)
    with Stream.attach(daemon, container) as stream:
        stream.send(b"early\n")
        stream.half_close()
        start(daemon, container)
        assert stream_of(stream.read_to_end(), 1) == b"early\n"


def test_bytes_in_the_same_packet_as_the_request_are_kept(daemon: Daemon) -> None:
    container = daemon.create("cat", **INTERACTIVE)
    request = (
        f"POST /v1.50/containers/{container}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\n"
        "Host: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\npipelined\n"
    )
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(daemon.home.socket))
        connection.sendall(request.encode())
        connection.shutdown(socket.SHUT_WR)
        assert b"101 UPGRADED" in connection.recv(65536)
        start(daemon, container)
        assert connection.recv(65536)[8:] == b"pipelined\n"


def test_much_input_before_the_start_waits_without_being_lost(daemon: Daemon) -> None:
    container = daemon.create("sh", "-c", "cat | wc -c", **INTERACTIVE)
    size = 20 << 20
    with Stream.attach(daemon, container) as stream:
        sender = threading.Thread(target=send_all, args=(stream, bytes(size)))
        sender.start()
        start(daemon, container)
        data = stream.read_to_end()
        sender.join()
    assert int(stream_of(data, 1)) == size


def test_without_stdin_once_the_end_of_input_changes_nothing(daemon: Daemon) -> None:
    container = daemon.create("sh", "-c", ECHO, OpenStdin=True)
    start(daemon, container)
    with Stream.attach(daemon, container) as stream:
        stream.send(b"one\n")
        stream.half_close()
        stream.read_until(b"got one")
    assert daemon.status(container) == "running"
    with Stream.attach(daemon, container) as stream:
        stream.send(b"two\n")
        stream.read_until(b"got two")


def test_a_vanished_client_with_stdin_once_ends_stdin(daemon: Daemon) -> None:
    container = daemon.create("sh", "-c", ECHO, **INTERACTIVE)
    stream = Stream.attach(daemon, container)
    start(daemon, container)
    stream.send(b"one\n")
    stream.read_until(b"got one")
    stream.close()
    assert daemon.wait(container) == 0
    assert daemon.logs(container) == b"got one\nend\n"


def test_a_vanished_client_is_noticed_after_its_half_close(daemon: Daemon) -> Any:
    """Nothing is written and nothing can be read: only the hang-up tells."""
    container = daemon.run("sleep", "100")

    def connections() -> int:
        lines = Path("/proc/net/unix").read_text().splitlines()
        return sum(line.endswith(str(daemon.home.socket)) for line in lines) - 1  # it listens

    eventually(lambda: connections() == 0)
    with ExitStack() as stack:
        for _ in range(5):
            stream = stack.enter_context(Stream.attach(daemon, container, stdin=0))
            stream.half_close()
        assert connections() == 5
    eventually(lambda: connections() == 0)


def test_several_clients_see_the_same(daemon: Daemon) -> None:
    container = daemon.create("sh", "-c", "read x; echo $x; echo $x >&2", OpenStdin=True)
    with Stream.attach(daemon, container) as one, Stream.attach(daemon, container) as two:
        start(daemon, container)
        one.send(b"both\n")
        for stream in (one, two):
            data = stream.read_to_end()
            assert stream_of(data, 1) == b"both\n"
            assert stream_of(data, 2) == b"both\n"


def test_a_client_that_does_not_read_stops_the_container_not_the_daemon(daemon: Daemon) -> None:
    container = daemon.create("sh", "-c", "head -c 8000000 /dev/zero; echo done >&2")
    with Stream.attach(daemon, container) as stream:
        start(daemon, container)
        assert daemon.client.answers()
        assert daemon.status(container) == "running"
        data = stream.read_to_end()
    assert len(stream_of(data, 1)) == 8_000_000
    assert stream_of(data, 2) == b"done\n"


def test_a_client_that_leaves_frees_a_blocked_container(daemon: Daemon) -> None:
    container = daemon.create("head", "-c", "8000000", "/dev/zero")
    with Stream.attach(daemon, container):
        start(daemon, container)
    assert daemon.wait(container) == 0
    assert len(daemon.logs(container)) == 8_000_000


def test_a_terminal_is_raw_and_unframed(daemon: Daemon) -> None:
    container = daemon.create("sh", "-c", "stty -echo; echo ready; cat", Tty=True, **INTERACTIVE)
    with Stream.attach(daemon, container) as stream:
        start(daemon, container)
        stream.read_until(b"ready\r\n")
        stream.send(b"hello\n")
        stream.read_until(b"hello\r\n")
        stream.send(b"\x04")
        stream.read_to_end()
    assert daemon.wait(container) == 0


def test_end_of_input_on_a_terminal_detaches(daemon: Daemon) -> None:
    container = daemon.create("sh", "-c", "echo ready; sleep 100", Tty=True, **INTERACTIVE)
    with Stream.attach(daemon, container) as stream:
        start(daemon, container)
        stream.read_until(b"ready")
        stream.half_close()
        stream.read_to_end()
    assert daemon.status(container) == "running"


@pytest.mark.parametrize(
    ("keys", "sent"), [("", b"\x10\x11"), ("ctrl-a,b", b"\x01b"), ("x,y,z", b"xxyz")]
)
def test_detach_keys_are_seen_by_the_daemon(daemon: Daemon, keys: str, sent: bytes) -> None:
    container = daemon.create("sh", "-c", "echo ready; cat", Tty=True, **INTERACTIVE)
    with Stream.attach(daemon, container, detachKeys=keys) as stream:
        start(daemon, container)
        stream.read_until(b"ready")
        for byte in sent:
            stream.send(bytes([byte]))
        stream.read_to_end()
    assert daemon.status(container) == "running"


def test_bad_detach_keys_are_refused(daemon: Daemon) -> None:
    container = daemon.create("true", Tty=True)
    with pytest.raises(ClientError, match="Invalid detach keys") as caught:
        Stream.attach(daemon, container, detachKeys="ctrl-nonsense")
    assert caught.value.status == 400


def test_attach_can_replay_the_log(daemon: Daemon) -> None:
    container = daemon.create("sh", "-c", "echo first; read x; echo second", OpenStdin=True)
    start(daemon, container)
    eventually(lambda: b"first" in daemon.logs(container))
    with Stream.attach(daemon, container, logs=1) as stream:
        stream.read_until(b"first")
        stream.send(b"\n")
        assert stream_of(stream.read_to_end(), 1) == b"first\nsecond\n"


def test_a_paused_container_is_not_attached(daemon: Daemon) -> None:
    container = daemon.run("sleep", "100")
    daemon.client.request("POST", f"/containers/{container}/pause")
    with pytest.raises(ClientError, match="Unpause the container before attach"):
        Stream.attach(daemon, container)


def test_resizing_reaches_the_program(daemon: Daemon) -> None:
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.02; done"
    container = daemon.create("sh", "-c", script, Tty=True)
    with Stream.attach(daemon, container, stdin=0) as stream:
        start(daemon, container)
        stream.read_until(b"ready")
        query = {"h": 33, "w": 77}
        daemon.client.request("POST", f"/containers/{container}/resize", query)
        stream.read_until(b"33 77")


def test_the_stream_is_complete_before_wait_answers(daemon: Daemon) -> None:
    for _ in range(20):
        container = daemon.create("sh", "-c", "echo a; echo b >&2; head -c 100000 /dev/zero")
        with Stream.attach(daemon, container) as stream:
            waiting = daemon.client.messages(
                "POST", f"/containers/{container}/wait", {"condition": "next-exit"}
            )
            start(daemon, container)
            assert next(waiting)["StatusCode"] == 0
            stream.socket.setblocking(True)
            data = stream.read_to_end()
        assert len(stream_of(data, 1)) == 100_002
        assert len(daemon.logs(container)) == 100_004
