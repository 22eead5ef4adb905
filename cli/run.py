"""`ddock run`: docker run for machines without a docker CLI, over the daemon's own API."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from typing import Any

from api.engine.detach import parse_keys
from api.engine.errors import InvalidParameter
from api.engine.home import Home
from cli.client import Client, ClientError
from cli.run_flags import create_request, parser
from cli.session import Session

_CANNOT_RUN, _NOT_EXECUTABLE, _NOT_FOUND = 125, 126, 127
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)


def main(home: Home, arguments: list[str]) -> int:
    """The container's exit status, or docker's 125, 126, 127."""
    options = parser().parse_args(arguments)
    client = Client.for_home(home)
    try:
        return _Runner(client, options).run()
    except (ClientError, InvalidParameter, ValueError, OSError) as error:
        prefix = "Error response from daemon: " if getattr(error, "status", 0) else ""
        print(f"ddock: {prefix}{error}", file=sys.stderr)
        return exit_status(str(error))


def exit_status(message: str) -> int:
    """What docker's CLI makes of a start failure's message."""
    if "executable file not found" in message or "no such file or directory" in message:
        return _NOT_FOUND
    if "permission denied" in message or "is a directory" in message:
        return _NOT_EXECUTABLE
    return _CANNOT_RUN


class _Runner:
    def __init__(self, client: Client, options: argparse.Namespace) -> None:
        self._client = client
        self._options = options
        self._id = ""

    def run(self) -> int:
        options = self._options
        keys = parse_keys(options.detach_keys or "")
        self._id = self._create(create_request(options))
        if options.cidfile:
            options.cidfile.write_text(self._id)
        if options.detach:
            self._client.request("POST", f"/containers/{self._id}/start")
            print(self._id)
            return 0
        return self._attached(keys)

    def _attached(self, keys: bytes) -> int:
        options, path = self._options, f"/containers/{self._id}"
        query = {"stream": 1, "stdout": 1, "stderr": 1, "stdin": int(options.interactive)}
        connection, early = self._client.hijack(f"{path}/attach", query)
        status = _Waiter(self._client, self._id, removed=options.rm)
        session = Session(
            connection,
            early,
            terminal=options.tty,
            interactive=options.interactive,
            detach_keys=keys,
            resize=self._resize,
        )
        if not options.tty:
            for number in _FORWARDED:
                signal.signal(number, self._forward)
        self._client.request("POST", f"{path}/start")
        if session.run():
            return 0  # detached
        return status.result()

    def _create(self, request: dict[str, Any]) -> str:
        options = self._options
        query = {"name": options.name or "", "platform": options.platform}
        query = {key: value for key, value in query.items() if value}
        if options.pull == "always":
            self._pull()
        try:
            answer = self._client.request("POST", "/containers/create", query, request)
        except ClientError as error:
            if error.status != 404 or options.pull != "missing":
                raise
            print(f"Unable to find image '{options.image}' locally", file=sys.stderr)
            self._pull()
            answer = self._client.request("POST", "/containers/create", query, request)
        for warning in answer["Warnings"] or []:
            print(f"WARNING: {warning}", file=sys.stderr)
        return str(answer["Id"])

    def _pull(self) -> None:
        query = {"fromImage": self._options.image, "platform": self._options.platform}
        if ":" not in self._options.image.rpartition("/")[2]:
            query["tag"] = "latest"
        for message in self._client.messages("POST", "/images/create", query):
            if not message.get("progressDetail") and not self._options.quiet:
                name = f"{message['id']}: " if "id" in message else ""
                print(f"{name}{message['status']}", file=sys.stderr)

    def _resize(self, rows: int, columns: int) -> None:
        try:
            query = {"h": rows, "w": columns}
            self._client.request("POST", f"/containers/{self._id}/resize", query)
        except ClientError:
            return  # it has just ended

    def _forward(self, number: int, _: object) -> None:
        try:
            self._client.request("POST", f"/containers/{self._id}/kill", {"signal": number})
        except ClientError:
            return


class _Waiter:
    """POST /wait: it stands when this returns, the answer is read in a thread."""

    def __init__(self, client: Client, container_id: str, *, removed: bool) -> None:
        query = {"condition": "removed" if removed else "next-exit"}
        self._messages = client.messages("POST", f"/containers/{container_id}/wait", query)
        self._status = _CANNOT_RUN
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        for message in self._messages:
            self._status = int(message["StatusCode"])

    def result(self) -> int:
        """The exit status, when there is one."""
        self._thread.join()
        return self._status
