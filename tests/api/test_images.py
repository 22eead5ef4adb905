"""Images: import, load, save, tag, remove; digests, and archives that are not what they claim."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from cli.client import ClientError
from tests.api.support import DOCKER, Daemon, eventually, link, member_of, tar_of

Content = dict[str, bytes]
Entry = dict[str, Any]
FILES = {"bin/tool": b"#!/bin/sh\n", "etc/name": b"value\n"}
needs_cli = pytest.mark.skipif(DOCKER is None, reason="there is no docker CLI here")


@pytest.fixture(autouse=True)
def _only_busybox(daemon: Daemon) -> Iterator[Any]:
    yield
    daemon.clean()
    for image in images(daemon):
        if "busybox:latest" not in image["RepoTags"]:
            remove(daemon, image["Id"], force=1)


def images(daemon: Daemon, **query: Any) -> Any:
    return daemon.client.request("GET", "/images/json", query)


def inspect(daemon: Daemon, name: str) -> Any:
    return daemon.client.request("GET", f"/images/{name}/json")


def remove(daemon: Daemon, name: str, **query: Any) -> Any:
    return daemon.client.request("DELETE", f"/images/{name}", query)


def import_tar(daemon: Daemon, data: bytes, name: str = "imp:1", **query: Any) -> Any:
    repo, _, tag = name.rpartition(":")
    chosen = {"fromSrc": "-", "repo": repo, "tag": tag, **query}
    return list(daemon.client.messages("POST", "/images/create", chosen, data))[-1]["status"]


def load(daemon: Daemon, data: bytes) -> Any:
    return [m["stream"] for m in daemon.client.messages("POST", "/images/load", None, data)]


def save(daemon: Daemon, *names: str) -> Any:
    return b"".join(daemon.client.stream("GET", "/images/get", {"names": names}))


def members(data: bytes) -> Any:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: member_of(tar, member.name) for member in tar if member.isfile()}


def refused(daemon: Daemon, action: Callable[..., Any], *arguments: Any) -> Any:
    with pytest.raises(ClientError) as caught:
        action(daemon, *arguments)
    assert list(daemon.home.tmp.iterdir()) == [], "something half-made was left"
    return str(caught.value)


def test_an_imported_image_has_the_digest_of_its_tar(daemon: Daemon) -> None:
    data = tar_of(FILES)
    image_id = import_tar(daemon, data, changes=['CMD ["/bin/tool"]', "ENV A=1", "EXPOSE 80"])
    image = inspect(daemon, "imp:1")
    assert image["Id"] == image_id
    assert image["RootFS"]["Layers"] == [f"sha256:{hashlib.sha256(data).hexdigest()}"]
    assert image["Config"] == {"Cmd": ["/bin/tool"], "Env": ["A=1"], "ExposedPorts": {"80/tcp": {}}}
    assert image["Comment"] == "Imported from -"
    assert image["Size"] == sum(map(len, FILES.values()))
    assert (image["Architecture"], image["Os"]) == ("amd64", "linux")


@pytest.mark.parametrize(
    "compress", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"]
)
def test_compressed_tars_are_imported_by_their_content(
    daemon: Daemon, compress: Callable[[bytes], bytes]
) -> None:
    data = tar_of(FILES)
    import_tar(daemon, compress(data))
    layers = inspect(daemon, "imp:1")["RootFS"]["Layers"]
    assert layers == [f"sha256:{hashlib.sha256(data).hexdigest()}"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("RUN true", "run is not a valid change command"),
        ("NONSENSE x", "unknown instruction: NONSENSE"),
        ("EXPOSE abc", "invalid containerPort: abc"),
        ("ENV", "ENV"),
    ],
)
def test_bad_changes_are_refused(
    daemon: Daemon, change: Callable[[Content, Entry], None], message: str
) -> None:
    with pytest.raises(ClientError, match=message):
        import_tar(daemon, tar_of(FILES), changes=[change])
    assert len(images(daemon)) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"this is no tar at all, not even nearly one" * 50,
        tar_of(FILES)[:700],
        gzip.compress(tar_of(FILES))[:60],
        tar_of({"../escape": b"x"}),
        tar_of({"a/../../escape": b"x"}),
        tar_of({"hard": link("hard", "../../etc/passwd", tarfile.LNKTYPE)}),
    ],
    ids=["garbage", "cut off", "cut gzip", "traversal", "inner traversal", "hard link out"],
)
def test_bad_archives_leave_nothing(daemon: Daemon, data: bytes) -> None:
    before = sorted(os.listdir(daemon.home.layers))
    message = refused(daemon, import_tar, data)
    assert "Error processing tar file" in message
    assert sorted(os.listdir(daemon.home.layers)) == before
    assert len(images(daemon)) == 1


def test_save_and_load_round_trip_keeps_every_digest(daemon: Daemon) -> None:
    data = tar_of(FILES)
    image_id = import_tar(daemon, data, changes=["LABEL a=b"])
    before = inspect(daemon, "imp:1")
    archive = save(daemon, "imp:1", "busybox")
    content = members(archive)
    for name, blob in content.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(blob).hexdigest() == os.path.basename(name)
    manifest = json.loads(content["manifest.json"])
    assert [entry["RepoTags"] for entry in manifest] == [["imp:1"], ["busybox:latest"]]
    assert content[manifest[0]["Layers"][0]] == data
    assert json.loads(content["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    remove(daemon, "imp:1")
    assert load(daemon, archive) == ["Loaded image: imp:1\n", "Loaded image: busybox:latest\n"]
    after = inspect(daemon, "imp:1")
    assert after["Id"] == image_id
    before["Metadata"] = after["Metadata"] = None
    assert after == before


def test_a_compressed_archive_is_loaded(daemon: Daemon) -> None:
    import_tar(daemon, tar_of(FILES))
    archive = save(daemon, "imp:1")
    remove(daemon, "imp:1")
    assert load(daemon, gzip.compress(archive)) == ["Loaded image: imp:1\n"]


def test_saving_by_id_loads_without_a_name(daemon: Daemon) -> None:
    image_id = import_tar(daemon, tar_of(FILES))
    archive = save(daemon, image_id)
    remove(daemon, "imp:1")
    assert load(daemon, archive) == [f"Loaded image ID: {image_id}\n"]
    assert inspect(daemon, image_id)["RepoTags"] == []


def test_an_oci_layout_without_dockers_manifest_is_loaded(daemon: Daemon) -> None:
    import_tar(daemon, tar_of(FILES))
    content = members(save(daemon, "imp:1"))
    del content["manifest.json"]
    remove(daemon, "imp:1")
    assert load(daemon, tar_of(content)) == ["Loaded image: imp:1\n"]


def rewritten(daemon: Daemon, change: Callable[[Content, Entry], None]) -> Any:
    """An archive of an image after `change(content, entry)`."""
    import_tar(daemon, tar_of(FILES))
    content = members(save(daemon, "imp:1"))
    remove(daemon, "imp:1")
    manifest = json.loads(content["manifest.json"])
    change(content, manifest[0])
    content["manifest.json"] = json.dumps(manifest).encode()
    return tar_of(content)


def _drop_config(content: Content, entry: Entry) -> None:
    del content[entry["Config"]]


def _drop_layer(content: Content, entry: Entry) -> None:
    del content[entry["Layers"][0]]


def _alter_layer(content: Content, entry: Entry) -> None:
    content[entry["Layers"][0]] = tar_of({"evil": b"x"})


def _alter_config(content: Content, entry: Entry) -> None:
    content[entry["Config"]] = content[entry["Config"]].replace(b"amd64", b"arm64")


def _forget_layer(content: Content, entry: Entry) -> None:
    entry["Layers"] = []


def _bad_name(content: Content, entry: Entry) -> None:
    entry["RepoTags"] = ["Bad Name"]


def _no_config(content: Content, entry: Entry) -> None:
    del entry["Config"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop_config, "no such file or directory"),
        (_drop_layer, "no such file or directory"),
        (_alter_layer, "invalid diffID for layer"),
        (_alter_config, "digest mismatch"),
        (_forget_layer, "layers length mismatch"),
        (_bad_name, "invalid reference format"),
        (_no_config, "invalid manifest.json"),
    ],
)
def test_an_archive_that_lies_is_refused(
    daemon: Daemon, change: Callable[[Content, Entry], None], message: str
) -> None:
    archive = rewritten(daemon, change)
    before = sorted(os.listdir(daemon.home.layers))
    assert message in refused(daemon, load, archive)
    assert len(images(daemon)) == 1
    assert sorted(os.listdir(daemon.home.layers)) == before


@pytest.mark.parametrize(
    "data", [b"garbage" * 200, tar_of({"x": b"y"}), tar_of({"manifest.json": b"{nonsense"})]
)
def test_what_is_no_image_archive_is_refused(daemon: Daemon, data: bytes) -> None:
    refused(daemon, load, data)


def test_tags_move_and_images_go_with_the_last_one(daemon: Daemon) -> None:
    image_id = import_tar(daemon, tar_of(FILES))
    query = {"repo": "localhost:5000/team/imp", "tag": "2"}
    daemon.client.request("POST", "/images/imp:1/tag", query)
    assert inspect(daemon, "localhost:5000/team/imp:2")["RepoTags"] == [
        "imp:1",
        "localhost:5000/team/imp:2",
    ]
    assert remove(daemon, "imp:1") == [{"Untagged": "imp:1"}]
    assert remove(daemon, "localhost:5000/team/imp:2") == [
        {"Untagged": "localhost:5000/team/imp:2"},
        {"Deleted": image_id},
        {"Deleted": f"sha256:{hashlib.sha256(tar_of(FILES)).hexdigest()}"},
    ]
    assert len(os.listdir(daemon.home.layers)) == 1


def test_importing_under_a_used_name_moves_it(daemon: Daemon) -> None:
    old = import_tar(daemon, tar_of(FILES))
    new = import_tar(daemon, tar_of({"other": b"1"}))
    assert inspect(daemon, "imp:1")["Id"] == new
    assert inspect(daemon, old)["RepoTags"] == []
    dangling = images(daemon, filters='{"dangling":["true"]}')
    assert [image["Id"] for image in dangling] == [old]
    answer = daemon.client.request("POST", "/images/prune")
    assert {"Deleted": old} in answer["ImagesDeleted"]
    assert answer["SpaceReclaimed"] == sum(map(len, FILES.values()))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("UPPER", "repository name (library/UPPER) must be lowercase"),
        ("a b", "invalid reference format"),
        ("x:bad!tag", "invalid reference format"),
    ],
)
def test_bad_names_are_refused(daemon: Daemon, name: str, message: str) -> None:
    with pytest.raises(ClientError) as caught:
        import_tar(daemon, tar_of(FILES), f"{name}:1" if ":" not in name else name)
    assert message in str(caught.value)
    assert len(images(daemon)) == 1


def test_images_are_found_by_id_prefix_and_name(daemon: Daemon) -> None:
    image_id = import_tar(daemon, tar_of(FILES))
    digits = image_id.removeprefix("sha256:")
    names = [image_id, digits, digits[:12], "imp:1", "docker.io/library/imp:1", "library/imp:1"]
    for name in names:
        assert inspect(daemon, name)["Id"] == image_id
    for name in ("imp", "nosuch:1"):
        with pytest.raises(ClientError, match=f"No such image: {name}"):
            inspect(daemon, name)


def test_an_image_in_use_is_kept(daemon: Daemon) -> None:
    image_id = import_tar(daemon, tar_of(FILES), changes=["CMD sleep"])
    container = daemon.client.request(
        "POST", "/containers/create", None, {"Image": "imp:1", "Cmd": ["sleep", "100"]}
    )["Id"]
    short = image_id.removeprefix("sha256:")[:12]
    with pytest.raises(ClientError) as caught:
        remove(daemon, "imp:1")
    assert str(caught.value) == (
        'conflict: unable to remove repository reference "imp:1" (must force) - container'
        f" {container[:12]} is using its referenced image {short}"
    )
    with pytest.raises(ClientError, match=r"\(must be forced\) - image is being used by stopped"):
        remove(daemon, image_id)
    daemon.client.request("POST", f"/containers/{container}/start")
    with pytest.raises(ClientError, match=r"\(cannot be forced\) - image is being used by running"):
        remove(daemon, image_id, force=1)
    assert inspect(daemon, "imp:1")["Id"] == image_id


def test_a_forced_removal_leaves_the_containers_layers(daemon: Daemon) -> None:
    image_id = import_tar(daemon, tar_of(FILES))
    container = daemon.client.request(
        "POST", "/containers/create", None, {"Image": "imp:1", "Cmd": ["true"]}
    )["Id"]
    remove(daemon, image_id, force=1)
    assert len(os.listdir(daemon.home.layers)) == 2
    assert daemon.inspect(container)["Image"] == image_id
    daemon.client.request("POST", f"/containers/{container}/start")
    assert daemon.wait(container) == 0


def test_an_id_with_several_repositories_needs_force(daemon: Daemon) -> None:
    image_id = import_tar(daemon, tar_of(FILES))
    daemon.client.request("POST", "/images/imp:1/tag", {"repo": "other", "tag": "1"})
    with pytest.raises(ClientError, match="image is referenced in multiple repositories"):
        remove(daemon, image_id)
    remove(daemon, image_id, force=1)
    assert len(images(daemon)) == 1


def test_history_is_newest_first(daemon: Daemon) -> None:
    image_id = import_tar(daemon, tar_of(FILES), message="made by hand")
    history = daemon.client.request("GET", "/images/imp:1/history")
    assert len(history) == 1
    assert (history[0]["Id"], history[0]["Comment"]) == (image_id, "made by hand")
    assert history[0]["Tags"] == ["imp:1"]


@needs_cli
def test_the_cli_does_it_all(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(tar_of(FILES))
    outcome = daemon.docker(f"import {tmp_path}/root.tar imp:1")
    assert outcome.stdout.startswith("sha256:")
    assert daemon.docker(f"save -o {tmp_path}/saved.tar imp:1").code == 0
    assert "Untagged: imp:1" in daemon.docker("rmi imp:1").stdout
    assert daemon.docker(f"load -i {tmp_path}/saved.tar").stdout == "Loaded image: imp:1\n"
    assert daemon.docker("tag imp:1 imp:2").code == 0
    listed = daemon.docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    assert set(listed) == {"imp:1", "imp:2", "busybox:latest"}
    assert daemon.docker("rmi nosuch").stderr.strip() == (
        "Error response from daemon: No such image: nosuch:latest"
    )


def test_the_images_config_is_the_containers_default(daemon: Daemon) -> Any:
    changes = [
        'ENTRYPOINT ["/bin/entry"]',
        'CMD ["default"]',
        "ENV A=image",
        "ENV B=image",
        "USER 5:6",
        "WORKDIR /work",
        "LABEL l=image",
        "STOPSIGNAL SIGINT",
        "VOLUME /data",
    ]
    import_tar(daemon, tar_of(FILES), changes=changes)

    def created(**body: Any) -> Any:
        answer = daemon.client.request(
            "POST", "/containers/create", None, {"Image": "imp:1", **body}
        )
        return daemon.inspect(answer["Id"])

    plain = created()
    assert (plain["Path"], plain["Args"]) == ("/bin/entry", ["default"])
    config = plain["Config"]
    assert config["Env"] == ["A=image", "B=image"]
    assert (config["User"], config["WorkingDir"]) == ("5:6", "/work")
    assert config["StopSignal"] == "SIGINT"
    assert config["Labels"] == {"l": "image"}
    assert [mount["Destination"] for mount in plain["Mounts"]] == ["/data"]
    assert plain["Mounts"][0]["Type"] == "volume"
    other = created(Cmd=["mine"], Env=["A=mine"], Labels={"m": "1"}, User="7")
    assert (other["Path"], other["Args"]) == ("/bin/entry", ["mine"])
    assert other["Config"]["Env"] == ["A=mine", "B=image"]
    assert other["Config"]["Labels"] == {"l": "image", "m": "1"}
    replaced = created(Entrypoint=["/bin/other"])
    assert (replaced["Path"], replaced["Args"]) == ("/bin/other", [])
    bare = created(Entrypoint=[""], Cmd=["x"])
    assert (bare["Path"], bare["Args"]) == ("x", [])


def test_a_commit_is_a_layer_on_its_image(daemon: Daemon) -> None:
    container = daemon.run("sh", "-c", "echo made > file; sleep 100", Labels={"l": "1"})
    path = daemon.home.containers / container / "upper/root/file"
    eventually(path.exists)
    query = {
        "container": container,
        "repo": "imp",
        "tag": "2",
        "comment": "why",
        "author": "me",
        "changes": ['CMD ["cat", "file"]', "ENV A=1"],
    }
    image_id = daemon.client.request("POST", "/commit", query)["Id"]
    assert daemon.status(container) == "running"
    base, image = inspect(daemon, "busybox"), inspect(daemon, "imp:2")
    assert image["Id"] == image_id
    assert image["Parent"] == base["Id"]
    assert image["RootFS"]["Layers"][:-1] == base["RootFS"]["Layers"]
    assert (image["Comment"], image["Author"]) == ("why", "me")
    assert image["Config"]["Cmd"] == ["cat", "file"]
    assert image["Config"]["Env"] == ["A=1"]
    assert image["Config"]["Labels"] == {"l": "1"}
    history = daemon.client.request("GET", "/images/imp:2/history")
    assert [step["CreatedBy"] for step in history] == [
        "sh -c echo made > file; sleep 100",
        "",
    ]
    with pytest.raises(ClientError, match="image has dependent child images"):
        remove(daemon, base["Id"], force=1)


def test_a_bad_commit_leaves_nothing(daemon: Daemon) -> None:
    container = daemon.run("sleep", "100")
    for query, message in (
        ({"changes": ["RUN x"]}, "run is not a valid change command"),
        ({"repo": "BAD"}, "must be lowercase"),
    ):
        with pytest.raises(ClientError, match=message):
            daemon.client.request("POST", "/commit", {"container": container, **query})
    assert len(images(daemon)) == 1
    assert daemon.status(container) == "running"
