"""Volumes, networks, events, disk usage, archives."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from cli.client import ClientError
from tests.api.support import DOCKER, Daemon, collected, eventually, member_of, tar_of

needs_cli = pytest.mark.skipif(DOCKER is None, reason="there is no docker CLI here")


def post(daemon: Daemon, path: str, body: Any = None, **query: Any) -> Any:
    return daemon.client.request("POST", path, query, body)


# -- volumes ------------------------------------------------------------------------------------


def test_a_volume_is_made_once(daemon: Daemon) -> None:
    body = {"Name": "vol", "Labels": {"a": "b"}, "Driver": "local"}
    first = post(daemon, "/volumes/create", body)
    assert post(daemon, "/volumes/create", {"Name": "vol"}) == first
    assert first == {
        "CreatedAt": first["CreatedAt"],
        "Driver": "local",
        "Labels": {"a": "b"},
        "Mountpoint": str(daemon.home.volumes / "vol" / "_data"),
        "Name": "vol",
        "Options": None,
        "Scope": "local",
    }
    listed = daemon.client.request("GET", "/volumes", {"filters": '{"label":["a=b"]}'})
    assert listed == {"Volumes": [first], "Warnings": None}


def test_a_volume_in_use_is_kept(daemon: Daemon) -> None:
    container = daemon.create("true", host={"Binds": ["vol:/data"]})
    with pytest.raises(ClientError) as caught:
        daemon.client.request("DELETE", "/volumes/vol")
    assert caught.value.status == 409
    assert str(caught.value) == f"remove vol: volume is in use - [{container}]"
    daemon.remove(container)
    daemon.client.request("DELETE", "/volumes/vol")
    with pytest.raises(ClientError, match="get vol: no such volume"):
        daemon.client.request("GET", "/volumes/vol")
    assert not (daemon.home.volumes / "vol").exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "x", "-x", ".hidden"])
def test_bad_volume_names_are_refused(daemon: Daemon, name: str) -> None:
    with pytest.raises(ClientError) as caught:
        post(daemon, "/volumes/create", {"Name": name})
    assert caught.value.status == 400


def test_unknown_volume_drivers_and_options_are_refused(daemon: Daemon) -> None:
    with pytest.raises(ClientError, match='plugin "nfs" not found'):
        post(daemon, "/volumes/create", {"Name": "vol", "Driver": "nfs"})
    with pytest.raises(ClientError, match="invalid option"):
        post(daemon, "/volumes/create", {"Name": "vol", "DriverOpts": {"o": "x"}})


def test_anonymous_volumes_go_with_their_container(daemon: Daemon) -> None:
    container = daemon.create("true", Volumes={"/data": {}}, host={"Binds": ["named:/n"]})
    mounts = {m["Destination"]: m for m in daemon.inspect(container)["Mounts"]}
    assert len(mounts["/data"]["Name"]) == 64
    daemon.client.request("DELETE", f"/containers/{container}", {"v": 1})
    names = [v["Name"] for v in daemon.client.request("GET", "/volumes")["Volumes"]]
    assert names == ["named"]


def test_pruning_volumes(daemon: Daemon) -> None:
    post(daemon, "/volumes/create", {"Name": "named"})
    anonymous = post(daemon, "/volumes/create", {})["Name"]
    assert post(daemon, "/volumes/prune") == {"VolumesDeleted": [anonymous], "SpaceReclaimed": 0}
    everything = json.dumps({"all": {"true": True}})
    assert post(daemon, "/volumes/prune", filters=everything)["VolumesDeleted"] == ["named"]


def test_volumes_from_another_container(daemon: Daemon) -> None:
    daemon.create("true", name="donor", host={"Binds": ["vol:/data", "/tmp:/host"]})
    container = daemon.create("true", host={"VolumesFrom": ["donor:ro"]})
    mounts = {m["Destination"]: m for m in daemon.inspect(container)["Mounts"]}
    assert mounts["/data"]["Name"] == "vol"
    assert {m["RW"] for m in mounts.values()} == {False}


# -- networks -----------------------------------------------------------------------------------


def test_the_built_in_networks(daemon: Daemon) -> None:
    networks = {n["Name"]: n for n in daemon.client.request("GET", "/networks")}
    assert {name: n["Driver"] for name, n in networks.items()} == {
        "bridge": "bridge",
        "host": "host",
        "none": "null",
    }
    for reference in ("bridge", networks["bridge"]["Id"], networks["bridge"]["Id"][:12]):
        assert daemon.client.request("GET", f"/networks/{reference}")["Name"] == "bridge"
    with pytest.raises(ClientError, match="network nosuch not found"):
        daemon.client.request("GET", "/networks/nosuch")
    with pytest.raises(ClientError, match="bridge is a pre-defined network and cannot be removed"):
        daemon.client.request("DELETE", "/networks/bridge")


def test_a_running_container_has_an_address_of_its_own(daemon: Daemon) -> None:
    one, two = daemon.run("sleep", "100"), daemon.run("sleep", "100")
    settings = [daemon.inspect(c)["NetworkSettings"] for c in (one, two)]
    addresses = {s["IPAddress"] for s in settings}
    assert len(addresses) == 2
    assert all(address.startswith("172.17.") for address in addresses)
    assert settings[0]["Networks"]["bridge"]["IPAddress"] == settings[0]["IPAddress"]
    attached = daemon.client.request("GET", "/networks/bridge")["Containers"]
    assert set(attached) == {one, two}
    post(daemon, f"/containers/{one}/kill")
    assert daemon.inspect(one)["NetworkSettings"]["IPAddress"] == ""


def test_networks_of_ones_own_come_later(daemon: Daemon) -> None:
    with pytest.raises(ClientError, match="not supported") as caught:
        post(daemon, "/networks/create", {"Name": "mine"})
    assert caught.value.status == 501


# -- events and usage ---------------------------------------------------------------------------


def test_events_tell_a_containers_life(daemon: Daemon) -> None:
    with collected(daemon.client.stream("GET", "/events")) as lines:
        container = daemon.run("sh", "-c", "exit 3", name="told", Labels={"a": "b"})
        daemon.wait(container)
        daemon.remove(container)
        eventually(lambda: any(b'"destroy"' in line for line in lines))
    events = [json.loads(line) for line in lines]
    mine = [event for event in events if event["Actor"]["ID"] == container]
    assert [event["Action"] for event in mine] == ["create", "start", "die", "destroy"]
    attributes = mine[2]["Actor"]["Attributes"]
    assert attributes == {
        "a": "b",
        "image": "busybox",
        "name": "told",
        "exitCode": "3",
        "execDuration": "0",
    }
    assert mine[0]["status"] == "create"
    assert mine[0]["timeNano"] // 10**9 == mine[0]["time"]


def test_past_events_and_filters(daemon: Daemon) -> Any:
    since = time.time()
    container = daemon.run("true", name="past")
    daemon.wait(container)
    post(daemon, "/volumes/create", {"Name": "vol"})

    def actions(filters: str) -> Any:
        query = {"since": f"{since:.9f}", "until": f"{time.time():.9f}", "filters": filters}
        return [m["Action"] for m in daemon.client.messages("GET", "/events", query)]

    assert actions('{"container":["past"]}') == ["create", "start", "die"]
    assert actions('{"event":["die"]}') == ["die"]
    assert actions('{"type":["volume"]}') == ["create"]
    assert actions('{"image":{"busybox":true}}') == []
    assert actions('{"label":["nosuch"]}') == []


def test_disk_usage(daemon: Daemon) -> None:
    daemon.create("true", host={"Binds": ["vol:/data"]})
    usage = daemon.client.request("GET", "/system/df")
    assert usage["Images"][0]["Containers"] == 1
    assert usage["LayersSize"] == usage["Images"][0]["Size"]
    assert usage["Volumes"][0]["UsageData"] == {"RefCount": 1, "Size": 0}
    assert len(usage["Containers"]) == 1


# -- files of a container -----------------------------------------------------------------------


@pytest.mark.parametrize("running", [True, False])
def test_archives_go_in_and_out(daemon: Daemon, running: bool) -> None:
    container = daemon.run("sleep", "100") if running else daemon.create("true")
    path = f"/containers/{container}/archive"
    files = {"dir/file": b"content", "big": bytes(3 << 20)}
    daemon.client.request("PUT", path, {"path": "/"}, tar_of(files))
    data = b"".join(daemon.client.stream("GET", path, {"path": "/dir/file"}))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert member_of(tar, "file") == b"content"
    whole = b"".join(daemon.client.stream("GET", f"/containers/{container}/export"))
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        assert {"./big", "./dir/file"} <= set(tar.getnames())
    changes = daemon.client.request("GET", f"/containers/{container}/changes")
    assert {"Path": "/dir/file", "Kind": 1} in changes
    assert daemon.status(container) == ("running" if running else "created")


def test_what_is_not_there(daemon: Daemon) -> None:
    container = daemon.create("true", name="empty")
    path = f"/containers/{container}/archive"
    with pytest.raises(ClientError) as caught:
        list(daemon.client.stream("GET", path, {"path": "/nosuch"}))
    assert caught.value.status == 404
    assert str(caught.value) == "Could not find the file /nosuch in container empty"
    with pytest.raises(ClientError, match="Could not find the file"):
        daemon.client.request("PUT", path, {"path": "/nosuch"}, tar_of({"x": b"y"}))
    with pytest.raises(ClientError, match="missing required parameter: path"):
        daemon.client.request("PUT", path, None, b"")


def test_a_corrupt_archive_is_refused(daemon: Daemon) -> None:
    container = daemon.create("true")
    with pytest.raises(ClientError) as caught:
        daemon.client.request(
            "PUT", f"/containers/{container}/archive", {"path": "/"}, b"garbage" * 1000
        )
    assert caught.value.status == 400


def test_the_stat_header_is_gos(daemon: Daemon) -> None:
    container = daemon.create("true")
    path = f"/containers/{container}/archive"
    daemon.client.request("PUT", path, {"path": "/"}, tar_of({"d/f": b"12"}))
    for name, mode, size in (("/d", 1 << 31, None), ("/d/f", 0, 2)):
        response = daemon.client.head(path, {"path": name})
        stat = json.loads(base64.b64decode(response["x-docker-container-path-stat"]))
        assert stat["name"] == name.rpartition("/")[2]
        assert stat["mode"] & 1 << 31 == mode
        assert size is None or stat["size"] == size
        assert stat["linkTarget"] == ""


def test_a_read_only_container_takes_no_files(daemon: Daemon) -> None:
    container = daemon.create("true", host={"ReadonlyRootfs": True})
    with pytest.raises(ClientError, match="container rootfs is marked read-only"):
        daemon.client.request(
            "PUT", f"/containers/{container}/archive", {"path": "/"}, tar_of({"x": b"y"})
        )


@needs_cli
def test_docker_cp(daemon: Daemon, tmp_path: Path) -> None:
    container = daemon.run("sleep", "100", name="copied")
    source = tmp_path / "source"
    source.write_text("hello\n")
    assert daemon.docker(f"cp {source} copied:/target").code == 0
    assert daemon.docker(f"cp copied:/target {tmp_path}/back").code == 0
    assert (tmp_path / "back").read_text() == "hello\n"
    assert daemon.docker("diff copied").stdout == "A /target\n"
    assert (daemon.home.containers / container / "upper/root/target").exists()
    missing = daemon.docker(f"cp copied:/nosuch {tmp_path}/x")
    assert "Could not find the file /nosuch in container copied" in missing.stderr


def test_tracing(daemon: Daemon) -> None:
    container = daemon.run("sleep", "100")
    lines = daemon.client.stream("POST", f"/containers/{container}/trace")
    assert next(lines).startswith(b"openat(")
    lines.close()
    daemon.client.request("POST", f"/containers/{container}/kill")
