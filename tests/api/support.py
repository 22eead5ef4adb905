"""What the API tests share: a daemon, the docker CLI, raw HTTP, waiting for conditions."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any

from api.daemon import daemon_pid
from api.engine.home import Home
from cli.client import Client, connect
from cli.daemon import start

DEADLINE_SECONDS = 20.0
DOCKER = shutil.which("docker")
ZYGOTE = "tests.api.fake_zygote"


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    stdout: str
    stderr: str
    code: int


class Daemon:
    """A daemon with a fake zygote in a temporary home."""

    def __init__(self, directory: Path) -> None:
        self.home = Home(directory)
        self.client = Client(self.home.socket)
        self._environment = {
            "PATH": os.environ["PATH"],
            "DOCKER_HOST": f"unix://{self.home.socket}",
            "DOCKER_CONFIG": os.fspath(directory / "docker-config"),
            "HOME": os.fspath(directory),
        }

    @property
    def pid(self) -> int:
        return daemon_pid(self.home)

    def start(self) -> None:
        self._process = start(self.home, self.home.socket, ZYGOTE)

    def stop(self, number: int = signal.SIGTERM) -> None:
        pid = self.pid
        if pid:
            os.kill(pid, number)
            self._process.wait(DEADLINE_SECONDS)

    def docker(self, *words: str, stdin: bytes = b"", timeout: float = 60) -> Outcome:
        """Run the docker CLI; one string is split at spaces."""
        arguments = words[0].split() if len(words) == 1 else words
        done = subprocess.run(
            [DOCKER or "docker", *arguments],
            input=stdin,
            capture_output=True,
            timeout=timeout,
            env=self._environment,
            check=False,
        )
        return Outcome(done.stdout.decode(), done.stderr.decode(), done.returncode)

    def popen(self, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """The docker CLI in the background."""
        return subprocess.Popen([DOCKER or "docker", *words], env=self._environment, **options)

    def create(self, *argv: str, name: str = "", **config: Any) -> str:
        """Create a container over HTTP; its id. Keys of HostConfig go in `host`."""
        body = {"Image": "busybox", "Cmd": list(argv), "HostConfig": config.pop("host", {})}
        query = {"name": name} if name else {}
        answer = self.client.request("POST", "/containers/create", query, {**body, **config})
        return str(answer["Id"])

    def run(self, *argv: str, name: str = "", **config: Any) -> str:
        """Create and start."""
        container = self.create(*argv, name=name, **config)
        self.client.request("POST", f"/containers/{container}/start")
        return container

    def inspect(self, container: str) -> dict[str, Any]:
        value: dict[str, Any] = self.client.request("GET", f"/containers/{container}/json")
        return value

    def status(self, container: str) -> str:
        return str(self.inspect(container)["State"]["Status"])

    def wait(self, container: str, condition: str = "not-running") -> int:
        answer = self.client.request(
            "POST", f"/containers/{container}/wait", {"condition": condition}
        )
        return int(answer["StatusCode"])

    def remove(self, container: str) -> None:
        self.client.request("DELETE", f"/containers/{container}", {"force": 1, "v": 1})

    def logs(self, container: str, **query: Any) -> bytes:
        """Both streams of a container's log, unframed."""
        chosen = {"stdout": 1, "stderr": 1, **query}
        data = b"".join(self.client.stream("GET", f"/containers/{container}/logs", chosen))
        return b"".join(text for _, text in frames(data))

    def clean(self) -> None:
        """Remove every container and volume."""
        for entry in self.client.request("GET", "/containers/json", {"all": 1}):
            self.remove(entry["Id"])
        filters = json.dumps({"all": ["true"]})
        self.client.request("POST", "/volumes/prune", {"filters": filters})


class Stream:
    """A hijacked connection, read by conditions rather than by sizes."""

    def __init__(self, daemon: Daemon, path: str, **query: Any) -> None:
        chosen = {"stream": 1, "stdin": 1, "stdout": 1, "stderr": 1, **query}
        self.socket, early = daemon.client.hijack(path, chosen)
        self.received = bytearray(early)
        self.socket.settimeout(DEADLINE_SECONDS)

    @classmethod
    def attach(cls, daemon: Daemon, container: str, **query: Any) -> Stream:
        return cls(daemon, f"/containers/{container}/attach", **query)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def read_until(self, text: bytes) -> bytes:
        """Receive until `text` has come (frame headers count as bytes)."""
        while text not in self.received:
            data = self.socket.recv(65536)
            if not data:
                raise AssertionError(f"{text!r} did not come, only {bytes(self.received)!r}")
            self.received += data
        return bytes(self.received)

    def read_to_end(self) -> bytes:
        while data := self.socket.recv(1 << 20):
            self.received += data
        return bytes(self.received)

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The frames of a multiplexed stream."""
    while data:
        length = int.from_bytes(data[4:8], "big")
        assert data[0] in {1, 2, 3}, data[:8]
        assert len(data) >= 8 + length, "a frame is cut off"
        yield data[0], data[8 : 8 + length]
        data = data[8 + length :]


def stream_of(data: bytes, number: int) -> bytes:
    """One of the streams in multiplexed data."""
    return b"".join(text for stream, text in frames(data) if stream == number)


def raw_http(daemon: Daemon, request: bytes, *, half_close: bool = False) -> bytes:
    """Send bytes, receive everything until the daemon closes or the answer is complete."""
    connection = connect(os.fspath(daemon.home.socket))
    with connection:
        connection.settimeout(DEADLINE_SECONDS)
        connection.sendall(request)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        data = b""
        while not _complete(data):
            chunk = connection.recv(65536)
            if not chunk:
                break
            data += chunk
    return data


def _complete(data: bytes) -> bool:
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
        if line.startswith(b"transfer-encoding: chunked"):
            return body.endswith(b"0\r\n\r\n")
    return head.split(b" ")[1] in {b"204", b"304"}


def eventually(condition: Callable[[], Any], seconds: float = DEADLINE_SECONDS) -> Any:
    """The condition's value as soon as it is true; fails after a deadline."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.005)
    return value


def tar_of(files: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    """A tar with these files; a TarInfo is taken as it is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    """A link member for `tar_of`."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def member_of(tar: tarfile.TarFile, name: str) -> bytes:
    """The content of a regular file in a tar."""
    file = tar.extractfile(name)
    assert file is not None, name
    return file.read()


def output_of(process: subprocess.Popen[bytes]) -> IO[bytes]:
    """The pipe from a process's standard output."""
    assert process.stdout is not None
    return process.stdout


@contextmanager
def collected(chunks: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Lines of a stream gathered by a thread while the test goes on."""
    lines: list[bytes] = []

    def read() -> None:
        rest = b""
        try:
            for chunk in chunks:
                *whole, rest = (rest + chunk).split(b"\n")
                lines.extend(whole)
        except (OSError, ValueError, AttributeError, HTTPException):
            return  # the test closed it

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    yield lines
