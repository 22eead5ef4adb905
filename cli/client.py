"""A small synchronous client of the daemon's API: the standard library, and a unix socket."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from api.engine.home import Home
from api.versions import API_VERSION

_PREFIX = f"/v{API_VERSION}"


class ClientError(Exception):
    """The daemon refused, or cannot be reached; `status` is 0 then."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = connect(self._path)


class Client:
    """Talks to one daemon."""

    def __init__(self, socket_path: Path) -> None:
        self._path = os.fspath(socket_path)

    @classmethod
    def for_home(cls, home: Home) -> Client:
        """The daemon of a home; where no home was chosen, the one that DOCKER_HOST names."""
        address = os.environ.get("DOCKER_HOST", "")
        chosen = "DDOCK_HOME" in os.environ or home.root != Home.default().root
        if address.startswith("unix://") and not chosen:
            return cls(Path(address.removeprefix("unix://")))
        try:
            return cls(Path(home.socket_file.read_text()))
        except FileNotFoundError:
            return cls(home.socket)

    @property
    def address(self) -> str:
        """For DOCKER_HOST."""
        return f"unix://{self._path}"

    def answers(self) -> bool:
        """Whether a daemon is there."""
        try:
            self.request("GET", "/_ping")
        except (ClientError, OSError):
            return False
        return True

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> Any:
        """One request; the JSON answer, or None. Raises ClientError."""
        response = self._send(method, path, query, body)
        data = response.read()
        if response.status >= 400:
            raise ClientError(_message(data), response.status)
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        return json.loads(data) if data and is_json else None

    def head(self, path: str, query: Mapping[str, Any] | None = None) -> Mapping[str, str]:
        """The headers of an answer, names in lower case. Raises ClientError."""
        response = self._send("HEAD", path, query, None)
        with response:
            if response.status >= 400:
                raise ClientError(f"HTTP status {response.status}", response.status)
            return {name.lower(): value for name, value in response.headers.items()}

    def stream(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Generator[bytes, None, None]:
        """A streaming answer, as it comes; its head has arrived on return. Raises ClientError."""
        response = self._send(method, path, query, body, headers)
        if response.status >= 400:
            raise ClientError(_message(response.read()), response.status)
        return _chunks(response)

    def messages(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """A stream of JSON lines; its head has arrived on return. Raises ClientError."""
        return _parsed(self.stream(method, path, query, body, headers))

    def hijack(self, path: str, query: Mapping[str, Any]) -> tuple[socket.socket, bytes]:
        """Attach: the raw connection, and what arrived behind the 101. Raises ClientError."""
        connection = connect(self._path)
        head = (
            f"POST {_PREFIX}{path}?{urlencode(query)} HTTP/1.1\r\nHost: localhost\r\n"
            "Content-Length: 0\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
        connection.sendall(head.encode())
        try:
            answer, rest = _head_of(connection)
            if int(answer.split(b" ", 2)[1]) in (101, 200):
                return connection, rest
            raise ClientError(_message(_whole_body(connection, answer, rest)), int(answer[9:12]))
        except BaseException:
            connection.close()
            raise

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        connection = _UnixConnection(self._path)
        target = _PREFIX + path + (f"?{urlencode(query, doseq=True)}" if query else "")
        sent = {"User-Agent": "ddock", "Connection": "close", **(headers or {})}
        if isinstance(body, dict):
            body, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        try:
            connection.request(method, target, body, sent)
            return connection.getresponse()
        except http.client.HTTPException as error:
            connection.close()
            raise ClientError(f"the daemon does not answer: {error}") from None
        except BaseException:
            connection.close()
            raise


def connect(path: str) -> socket.socket:
    """A connection to the socket. Raises ClientError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise ClientError(
            f"cannot connect to the ddock daemon at unix://{path}: {error.strerror}."
            " Is it running? `ddock daemon` starts it."
        ) from None
    return connection


def _head_of(connection: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            raise ClientError("the daemon closed the connection")
        data += chunk
    answer, _, rest = data.partition(b"\r\n\r\n")
    return answer, rest


def _whole_body(connection: socket.socket, head: bytes, body: bytes) -> bytes:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            while len(body) < int(line.split(b":")[1]) and (chunk := connection.recv(65536)):
                body += chunk
    return body


def _chunks(response: http.client.HTTPResponse) -> Generator[bytes, None, None]:
    with response:
        while chunk := response.read1(65536):
            yield chunk


def _parsed(chunks: Generator[bytes, None, None]) -> Iterator[dict[str, Any]]:
    rest = b""
    with closing(chunks):
        for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in filter(None, map(bytes.strip, lines)):
                message = json.loads(line)
                if "error" in message:
                    raise ClientError(message["error"], 500)
                yield message


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode(errors="replace").strip() or "no message"
