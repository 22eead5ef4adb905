"""Versions, headers, error shapes: what clients look at before anything else."""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest

from cli.client import connect
from tests.api.support import Daemon, raw_http


class _Connection(HTTPConnection):
    def __init__(self, daemon: Daemon) -> None:
        super().__init__("localhost")
        self._daemon = daemon

    def connect(self) -> None:
        self.sock = connect(str(self._daemon.home.socket))


def ask(daemon: Daemon, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with closing(_Connection(daemon)) as connection:
        connection.request(method, path, body or None, names)
        response = connection.getresponse()
        return response, response.read()


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_ping_tells_versions_in_its_headers(daemon: Daemon, method: str) -> None:
    response, body = ask(daemon, method, "/_ping")
    assert response.status == 200
    assert body == (b"OK" if method == "GET" else b"")
    assert response.headers["Api-Version"] == "1.50"
    assert response.headers["Ostype"] == "linux"
    assert response.headers["Docker-Experimental"] == "false"
    assert response.headers["Server"] == "Docker/28.2.2 (linux)"
    assert response.headers["Swarm"] == "inactive"
    assert response.headers["Cache-Control"] == "no-cache, no-store, must-revalidate"
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("prefix", ["", "/v1.24", "/v1.41", "/v1.50"])
def test_every_supported_version_is_served(daemon: Daemon, prefix: str) -> None:
    response, body = ask(daemon, "GET", f"{prefix}/version")
    assert response.status == 200
    assert json.loads(body)["MinAPIVersion"] == "1.24"


def test_a_client_too_new_is_told(daemon: Daemon) -> None:
    response, body = ask(daemon, "GET", "/v1.60/version")
    assert response.status == 400
    assert json.loads(body)["message"] == (
        "client version 1.60 is too new. Maximum supported API version is 1.50"
    )


def test_a_client_too_old_is_told(daemon: Daemon) -> None:
    response, body = ask(daemon, "GET", "/v1.12/version")
    assert response.status == 400
    assert json.loads(body)["message"].startswith(
        "client version 1.12 is too old. Minimum supported API version is 1.24"
    )


def test_errors_are_json_with_exactly_this_content_type(daemon: Daemon) -> None:
    response, body = ask(daemon, "GET", "/v1.50/containers/nosuch/json")
    assert response.status == 404
    assert response.headers["Content-Type"] == "application/json"
    assert body == b'{"message": "No such container: nosuch"}\n'
    assert response.headers["Api-Version"] == "1.50"


@pytest.mark.parametrize(("method", "path"), [("GET", "/nosuch"), ("PATCH", "/containers/json")])
def test_unknown_paths_are_404(daemon: Daemon, method: str, path: str) -> None:
    response, body = ask(daemon, method, path)
    assert response.status == 404
    assert json.loads(body) == {"message": "page not found"}


def test_a_body_that_is_not_json_is_refused(daemon: Daemon) -> None:
    kind = {"Content_Type": "application/json"}
    response, body = ask(daemon, "POST", "/containers/create", b"{nonsense", **kind)
    assert response.status == 400
    assert "invalid JSON" in json.loads(body)["message"]
    response, body = ask(daemon, "POST", "/containers/create", b"[]", **kind)
    assert response.status == 400


def test_a_body_of_another_type_is_refused(daemon: Daemon) -> None:
    response, body = ask(daemon, "POST", "/containers/create", b"{}", Content_Type="text/plain")
    assert response.status == 400
    assert "unsupported Content-Type header (text/plain)" in json.loads(body)["message"]


def test_an_unknown_filter_is_refused(daemon: Daemon) -> None:
    response, body = ask(daemon, "GET", "/containers/json?filters=%7B%22x%22%3A%5B%22y%22%5D%7D")
    assert response.status == 400
    assert json.loads(body)["message"] == "invalid filter 'x'"


@pytest.mark.parametrize(
    "filters", ['{"label":["a=b"]}', '{"label":{"a=b":true}}', '{"label":{"a":true}}', ""]
)
def test_both_spellings_of_filters_work(daemon: Daemon, filters: str) -> None:
    container = daemon.create("true", Labels={"a": "b"})
    found = daemon.client.request("GET", "/containers/json", {"all": "True", "filters": filters})
    assert [entry["Id"] for entry in found] == [container]


def test_a_connection_is_kept_for_the_next_request(daemon: Daemon) -> None:
    with closing(_Connection(daemon)) as connection:
        for _ in range(3):
            connection.request("GET", "/_ping")
            assert connection.getresponse().read() == b"OK"
        first = connection.sock
        connection.request("GET", "/containers/nosuch/json")
        assert connection.getresponse().read().startswith(b'{"message"')
        assert connection.sock is first


def test_garbage_does_not_harm_the_daemon(daemon: Daemon) -> None:
    assert b"400" in raw_http(daemon, b"\x00\x01garbage\r\n\r\n").split(b"\r\n")[0]
    assert daemon.client.answers()


def test_swarm_is_declined_in_dockers_words(daemon: Daemon) -> None:
    response, body = ask(daemon, "GET", "/v1.50/services/x")
    assert response.status == 503
    assert json.loads(body)["message"].startswith("This node is not a swarm manager.")


def test_info_has_what_the_cli_shows(daemon: Daemon) -> None:
    info = daemon.client.request("GET", "/info")
    assert info["OSType"] == "linux"
    assert info["NCPU"] >= 1
    assert info["MemTotal"] > 0
    assert info["Images"] == 1
    assert info["Swarm"]["LocalNodeState"] == "inactive"
