"""`docker pull` from a registry of our own: what is verified, followed, resumed and refused."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from cli.client import ClientError
from tests.api.registry import DOCKER_MANIFEST, OCI_INDEX, Registry
from tests.api.support import DOCKER, Daemon, tar_of

BASE = tar_of({"bin/sh": b"shell", "etc/os": b"test"})
TOP = tar_of({"app": b"program"})


@pytest.fixture
def registry(daemon: Daemon) -> Iterator[Any]:
    made = Registry()
    yield made
    made.close()
    daemon.clean()
    for image in daemon.client.request("GET", "/images/json"):
        if "busybox:latest" not in image["RepoTags"]:
            daemon.client.request("DELETE", f"/images/{image['Id']}", {"force": 1})


def pull(
    daemon: Daemon,
    registry: Registry,
    tag: str = "1",
    *,
    auth: dict[str, str] | None = None,
    **query: Any,
) -> Any:
    """The messages of a pull; without X-Registry-Auth unless given."""
    query = {"fromImage": f"{registry.host}/team/app", "tag": tag, **query}
    if auth is None:
        return list(daemon.client.messages("POST", "/images/create", query))
    value = base64.urlsafe_b64encode(json.dumps(auth).encode()).decode()
    headers = {"X-Registry-Auth": value}
    return list(daemon.client.messages("POST", "/images/create", query, headers=headers))


def inspect(daemon: Daemon, registry: Registry, suffix: str = ":1") -> Any:
    return daemon.client.request("GET", f"/images/{registry.host}/team/app{suffix}/json")


def failing(daemon: Daemon, registry: Registry, **query: Any) -> Any:
    before = sorted(os.listdir(daemon.home.layers))
    with pytest.raises(ClientError) as caught:
        pull(daemon, registry, **query)
    assert list(daemon.home.tmp.iterdir()) == []
    assert sorted(os.listdir(daemon.home.layers)) == before
    assert daemon.client.request("GET", "/info")["Images"] == 1
    return str(caught.value)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_layers_of_every_compression(daemon: Daemon, registry: Registry, compression: str) -> None:
    descriptor = registry.add_image("1", layers=[BASE, TOP], compression=compression, Cmd=["/app"])
    messages = pull(daemon, registry)
    image = inspect(daemon, registry)
    assert image["RootFS"]["Layers"] == [
        f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in (BASE, TOP)
    ]
    assert image["Config"] == {"Cmd": ["/app"]}
    assert image["RepoTags"] == [f"{registry.host}/team/app:1"]
    assert image["RepoDigests"] == [f"{registry.host}/team/app@{descriptor['digest']}"]
    statuses = [message["status"] for message in messages]
    assert statuses[0] == f"Pulling from {registry.host}/team/app"
    assert statuses.count("Pull complete") == 2
    assert statuses[-2] == f"Digest: {descriptor['digest']}"
    assert statuses[-1] == f"Status: Downloaded newer image for {registry.host}/team/app:1"


def test_pulling_again_fetches_no_layer(daemon: Daemon, registry: Registry) -> None:
    registry.add_image("1", layers=[BASE])
    pull(daemon, registry)
    registry.requests.clear()
    messages = pull(daemon, registry)
    assert messages[-1]["status"] == f"Status: Image is up to date for {registry.host}/team/app:1"
    assert "Already exists" in {message["status"] for message in messages}
    assert sum("/blobs/" in path for path in registry.requests) == 1  # the config


def test_a_shared_layer_is_fetched_once(daemon: Daemon, registry: Registry) -> None:
    registry.add_image("1", layers=[BASE])
    registry.add_image("2", layers=[BASE, TOP])
    pull(daemon, registry)
    messages = pull(daemon, registry, "2")
    statuses = [message["status"] for message in messages]
    assert (statuses.count("Already exists"), statuses.count("Pull complete")) == (1, 1)


def test_the_platform_is_chosen_from_an_index(daemon: Daemon, registry: Registry) -> None:
    arm = registry.add_image(layers=[TOP], architecture="arm64")
    intel = registry.add_image(layers=[BASE], media_type=DOCKER_MANIFEST)
    unknown = registry.add_image(layers=[tar_of({"x": b""})])
    entries = [
        {**arm, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
        {**unknown, "platform": {"os": "unknown", "architecture": "unknown"}},
        {**intel, "platform": {"os": "linux", "architecture": "amd64"}},
    ]
    registry.add_manifest({"manifests": entries}, OCI_INDEX, "1")
    pull(daemon, registry)
    assert inspect(daemon, registry)["Architecture"] == "amd64"
    pull(daemon, registry, platform="linux/arm64")
    assert inspect(daemon, registry)["Architecture"] == "arm64"
    with pytest.raises(ClientError, match="no matching manifest for linux/riscv64 in the manifest"):
        pull(daemon, registry, platform="linux/riscv64")


def test_pulling_by_digest(daemon: Daemon, registry: Registry) -> None:
    descriptor = registry.add_image("1", layers=[BASE])
    pull(daemon, registry, descriptor["digest"])
    image = inspect(daemon, registry, f"@{descriptor['digest']}")
    assert image["RepoTags"] == []


def test_redirects_are_followed(daemon: Daemon, registry: Registry) -> None:
    registry.add_image("1", layers=[BASE], Entrypoint=["/entry"])
    registry.redirect_blobs = True
    pull(daemon, registry)
    assert inspect(daemon, registry)["Config"]["Entrypoint"] == ["/entry"]
    assert any(path.startswith("/elsewhere/") for path in registry.requests)


def test_tokens_are_fetched(daemon: Daemon, registry: Registry) -> None:
    registry.add_image("1", layers=[BASE])
    registry.token = "secret"
    pull(daemon, registry)
    path = next(path for path in registry.requests if path.startswith("/token"))
    assert "service=test" in path
    assert (
        "scope=repository%3Ateam%2Fapp%3Apull" in path or "scope=repository:team/app:pull" in path
    )


def test_a_token_that_needs_a_login(daemon: Daemon, registry: Registry) -> None:
    registry.add_image("1", layers=[BASE])
    registry.token, registry.basic = "secret", "me:pass"
    assert "unauthorized: authentication required" in failing(daemon, registry)
    pull(daemon, registry, auth={"username": "me", "password": "pass"})
    assert inspect(daemon, registry)["RepoTags"]


def test_a_broken_download_is_resumed(daemon: Daemon, registry: Registry) -> None:
    noise = random.Random(1).randbytes(300_000)
    registry.add_image("1", layers=[tar_of({"noise": noise})])
    layer = max(registry.blobs, key=lambda digest: len(registry.blobs[digest]))
    registry.truncate_once.add(layer)
    pull(daemon, registry)
    assert sum(layer in path for path in registry.requests) == 2


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("/manifests/", "manifest verification failed for digest"),
        ("/blobs/", "filesystem layer verification failed for digest"),
    ],
)
def test_altered_content_is_refused(
    daemon: Daemon, registry: Registry, where: str, message: str
) -> None:
    registry.add_image("1", layers=[BASE])
    registry.alter = lambda path, data: (
        data.replace(b"sha256", b"SHA256") if where in path else data
    )
    if where == "/blobs/":
        registry.alter = lambda path, data: data + b" " if where in path else data
    assert message in failing(daemon, registry)


def test_a_layer_that_is_not_what_the_config_says_is_refused(
    daemon: Daemon, registry: Registry
) -> None:
    registry.add_image("1", layers=[BASE])
    media_type, data = registry.manifests["1"]
    content = json.loads(data)
    content["layers"] = [registry.add_blob(TOP)]
    registry.add_manifest({k: content[k] for k in ("config", "layers")}, media_type, "1")
    assert "invalid diffID for layer" in failing(daemon, registry)


def test_a_hostile_layer_is_refused(daemon: Daemon, registry: Registry) -> None:
    registry.add_image("1", layers=[tar_of({"../../escape": b"x"})])
    assert "Error processing tar file" in failing(daemon, registry)


def test_a_blob_that_is_missing(daemon: Daemon, registry: Registry) -> None:
    registry.add_image("1", layers=[BASE])
    for digest in [digest for digest, data in registry.blobs.items() if data[:2] == b"\x1f\x8b"]:
        del registry.blobs[digest]
    failing(daemon, registry)


def test_unknown_tags_are_404_before_anything_is_sent(daemon: Daemon, registry: Registry) -> None:
    with pytest.raises(ClientError) as caught:
        pull(daemon, registry, "nosuch")
    assert caught.value.status == 404
    assert str(caught.value) == (
        f"manifest for {registry.host}/team/app:nosuch not found: manifest unknown:"
        " manifest unknown"
    )


def test_no_registry_at_all(daemon: Daemon, registry: Registry) -> None:
    registry.close()
    message = failing(daemon, registry)
    assert message.startswith(f'Get "https://{registry.host}/v2/": ')


def test_a_mirror_serves_docker_hub(own_daemon: Daemon) -> None:
    mirror = Registry()
    try:
        mirror.add_image("1", layers=[BASE])
        config = {"registry-mirrors": [f"http://{mirror.host}"]}
        (own_daemon.home.root / "config.json").write_text(json.dumps(config))
        query = {"fromImage": "tiny", "tag": "1"}
        list(own_daemon.client.messages("POST", "/images/create", query))
        assert own_daemon.client.request("GET", "/images/tiny:1/json")["RepoTags"] == ["tiny:1"]
        assert "/v2/library/tiny/manifests/1" in mirror.requests
    finally:
        mirror.close()


@pytest.mark.skipif(DOCKER is None, reason="there is no docker CLI here")
def test_run_pulls_what_is_missing(daemon: Daemon, registry: Registry) -> None:
    registry.add_image("1", layers=[BASE], Cmd=["echo", "pulled"])
    outcome = daemon.docker(f"run --rm {registry.host}/team/app:1")
    assert outcome.stdout == "pulled\n"
    assert "Unable to find image" in outcome.stderr
    assert "Pull complete" in outcome.stderr
