"""Platforms: how they are read and matched, and what becomes of images that are for others."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.engine.errors import InvalidParameter
from api.engine.launch import has_engine, isa_for_files, isa_to_run
from api.engine.platforms import (
    Platform,
    amd64_level,
    choose_manifest,
    host_platform,
    parse_platform,
    parse_platform_json,
)
from api.engine.start_errors import StartFailed
from cli.busybox import NoBusybox, applets_of
from cli.client import ClientError
from cli.engines_table import engine_rows
from kernel.host import engines
from tests.api.registry import OCI_INDEX, OCI_MANIFEST, Registry, digest_of
from tests.api.support import DOCKER, Daemon, tar_of

ARM64, AMD64 = Platform("linux", "arm64"), Platform("linux", "amd64")
NATIVE, FOREIGN = ("amd64", "arm64") if engines.host_isa() == "x86_64" else ("arm64", "amd64")
ROOT = tar_of({"bin/sh": b"a shell"})
WARNING = (
    f"The requested image's platform (linux/{FOREIGN}) does not match the detected host platform"
    f" ({host_platform()}) and no specific platform was requested"
)
needs_cli = pytest.mark.skipif(DOCKER is None, reason="there is no docker CLI here")
needs_emulator = pytest.mark.skipif(not has_engine("arm64"), reason="no engine for arm64 here")
on_x86_64 = pytest.mark.skipif(engines.host_isa() != "x86_64", reason="an x86_64 host is needed")


@pytest.fixture(autouse=True)
def _only_busybox(daemon: Daemon) -> Iterator[Any]:
    yield
    daemon.clean()
    for image in daemon.client.request("GET", "/images/json"):
        if "busybox:latest" not in image["RepoTags"]:
            daemon.client.request("DELETE", f"/images/{image['Id']}", {"force": 1})


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("linux/arm64", ARM64),
        ("linux/arm64/v8", Platform("linux", "arm64", "v8")),
        ("Linux/aarch64", ARM64),
        ("arm64", ARM64),
        ("x86_64", AMD64),
        ("linux/armhf", Platform("linux", "arm", "v7")),
        ("linux", Platform("linux", NATIVE)),
        ("", None),
    ],
)
def test_platforms_are_read(text: str, parsed: Platform | None) -> None:
    assert parse_platform(text) == parsed


@pytest.mark.parametrize("text", ["linux/arm64/v8/x", "nonsense", "linux/", "linux/a b", "/"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid argument"):
        parse_platform(text)


def test_platforms_as_json() -> None:
    variant = Platform("linux", "arm64", "v8")
    assert parse_platform_json(json.dumps(variant.to_json())) == variant
    assert parse_platform_json("") is None
    for text in ("linux/arm64", "[]", '{"os": "linux"}'):
        with pytest.raises(InvalidParameter, match="failed to parse platform"):
            parse_platform_json(text)


@pytest.mark.parametrize(
    ("wanted", "image", "fits"),
    [
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm64", "linux/arm64/v9", False),
        ("linux/arm64", "linux/arm/v7", False),
        ("linux/arm64", "windows/arm64", False),
        ("linux/amd64/v3", "linux/amd64", True),
        ("linux/amd64/v3", "linux/amd64/v2", True),
        ("linux/amd64", "linux/amd64/v1", True),
        ("linux/amd64", "linux/amd64/v2", False),
        ("linux/arm/v7", "linux/arm/v6", True),
        ("linux/arm/v6", "linux/arm/v7", False),
    ],
)
def test_matching(wanted: str, image: str, fits: bool) -> None:
    one, other = parse_platform(wanted), parse_platform(image)
    assert one is not None
    assert other is not None
    assert (one.rank(other) is not None) is fits


def test_the_best_entry_of_an_index_is_chosen() -> None:
    entries: list[dict[str, Any]] = [
        {"digest": "none"},
        {"digest": "odd", "platform": {"os": "unknown", "architecture": "unknown"}},
        {"digest": "base", "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": "v3", "platform": {"os": "linux", "architecture": "amd64", "variant": "v3"}},
        {"digest": "arm", "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
    ]

    def chosen(text: str) -> Any:
        platform = parse_platform(text)
        assert platform is not None
        return (choose_manifest(entries, platform) or {}).get("digest")

    assert [chosen(f"linux/{name}") for name in ("amd64", "amd64/v2", "amd64/v3", "amd64/v4")] == [
        "base",
        "base",
        "v3",
        "v3",
    ]
    assert [chosen(f"linux/{name}") for name in ("arm64", "arm64/v8", "s390x")] == [
        "arm",
        "arm",
        None,
    ]


def test_the_level_of_a_cpu() -> None:
    second = "fpu cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
    third = f"{second} abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"
    assert [amd64_level(flags) for flags in ("", second, third)] == ["", "v2", "v3"]
    assert amd64_level(f"{third} avx512bw avx512cd avx512dq avx512f avx512vl") == "v4"


def test_an_engine_is_needed_to_run_but_not_for_files(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isa_to_run(f"linux/{NATIVE}", "sh") == engines.host_isa()
    with pytest.raises(StartFailed, match="only linux/amd64 and linux/arm64 containers") as caught:
        isa_to_run("linux/s390x", "sh")
    assert caught.value.exit_code == 126
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(StartFailed, match=f'exec: "sh": exec format error: linux/{FOREIGN}: '):
        isa_to_run(f"linux/{FOREIGN}", "sh")
    assert isa_for_files(f"linux/{FOREIGN}") == engines.host_isa()
    assert isa_for_files("linux/s390x") == engines.host_isa()
    assert {row.platform: row.kind for row in engine_rows()}[f"linux/{FOREIGN}"] == "none"


@on_x86_64
def test_an_emulator_that_has_just_been_installed_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed = False
    monkeypatch.setattr("shutil.which", lambda name: f"/opt/{name}" if installed else None)
    with pytest.raises(StartFailed, match="installing qemu-user-static provides one"):
        isa_to_run("linux/arm64", "sh")
    installed = True
    assert isa_to_run("linux/arm64/v8", "sh") == "arm64"
    row = next(row for row in engine_rows() if row.isa == "arm64")
    assert row.value == "emulated by /opt/qemu-aarch64-static"


def import_root(daemon: Daemon, name: str, platform: str = "") -> Any:
    repo, _, tag = name.rpartition(":")
    query = {"fromSrc": "-", "repo": repo, "tag": tag, "platform": platform}
    return list(daemon.client.messages("POST", "/images/create", query, ROOT))[-1]["status"]


def create(daemon: Daemon, image: str, **query: Any) -> Any:
    body = {"Image": image, "Cmd": ["true"]}
    return daemon.client.request("POST", "/containers/create", query, body)


def inspect(daemon: Daemon, name: str, **query: Any) -> Any:
    return daemon.client.request("GET", f"/images/{name}/json", query)


def as_json(architecture: str) -> str:
    return json.dumps({"os": "linux", "architecture": architecture})


def test_an_import_has_the_platform_asked_for(daemon: Daemon) -> None:
    import_root(daemon, "imp:1", "linux/arm64/v8")
    image = inspect(daemon, "imp:1")
    assert (image["Os"], image["Architecture"], image["Variant"]) == ("linux", "arm64", "v8")
    with pytest.raises(ClientError, match="unknown operating system or architecture"):
        import_root(daemon, "imp:2", "nonsense")


def test_another_platform_is_warned_of_unless_asked_for(daemon: Daemon) -> None:
    import_root(daemon, "imp:1", f"linux/{FOREIGN}")
    assert create(daemon, "imp:1")["Warnings"] == [WARNING]
    assert create(daemon, "imp:1", platform=f"linux/{FOREIGN}")["Warnings"] == []
    assert create(daemon, "busybox")["Warnings"] == []


def test_an_image_for_another_platform_than_asked_for_is_not_found(daemon: Daemon) -> None:
    image_id = import_root(daemon, "imp:1", "linux/arm64")
    for name, shown in (("imp:1", "imp:1"), ("docker.io/library/imp:1", "imp:1"), (image_id,) * 2):
        with pytest.raises(ClientError) as caught:
            create(daemon, name, platform="linux/amd64")
        assert caught.value.status == 404
        assert str(caught.value) == (
            f"image with reference {shown} was found but does not provide the specified platform"
            " (linux/amd64)"
        )
    assert inspect(daemon, "imp:1", platform=as_json("arm64"))["Id"] == image_id
    query = {"platform": as_json("amd64")}
    for path in ("json", "history", "get"):
        with pytest.raises(ClientError, match="does not provide the specified platform"):
            daemon.client.request("GET", f"/images/imp:1/{path}", query)


@needs_emulator
def test_the_kernel_is_told_the_images_isa(daemon: Daemon) -> None:
    import_root(daemon, "imp:1", "linux/arm64/v8")
    for image, isa in (("imp:1", "arm64"), ("busybox", engines.host_isa())):
        container = create(daemon, image)["Id"]
        daemon.client.request("POST", f"/containers/{container}/start")
        assert daemon.wait(container) == 0
        spec = daemon.home.containers / container / "run" / "spec.json"
        assert json.loads(spec.read_text())["isa"] == isa


def test_without_an_engine_it_does_not_start_but_has_files(daemon: Daemon) -> None:
    import_root(daemon, "imp:1", "linux/s390x")
    container = create(daemon, "imp:1")["Id"]
    with pytest.raises(ClientError, match="exec format error: linux/s390x: only") as caught:
        daemon.client.request("POST", f"/containers/{container}/start")
    assert caught.value.status == 400
    state = daemon.inspect(container)["State"]
    assert (state["ExitCode"], state["Status"]) == (126, "created")
    assert "exec format error" in state["Error"]
    chunks = daemon.client.stream("GET", f"/containers/{container}/archive", {"path": "/"})
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        assert tar.getnames()


def test_a_commit_is_for_the_containers_platform(daemon: Daemon) -> None:
    image_id = import_root(daemon, "imp:1", "linux/arm64")
    container = create(daemon, "imp:1")["Id"]
    daemon.client.request("DELETE", f"/images/{image_id}", {"force": 1})
    daemon.client.request("POST", "/commit", {"container": container, "repo": "imp", "tag": "2"})
    assert inspect(daemon, "imp:2")["Architecture"] == "arm64"


def add_index(registry: Registry, *architectures: str, tag: str = "1") -> None:
    entries = [
        {
            **registry.add_image(layers=[tar_of({"a": own.encode()})], architecture=own),
            "platform": {"os": "linux", "architecture": own},
        }
        for own in architectures
    ]
    registry.add_manifest({"manifests": entries}, OCI_INDEX, tag)


def pull(daemon: Daemon, registry: Registry, platform: str = "") -> Any:
    query = {"fromImage": f"{registry.host}/team/app", "tag": "1", "platform": platform}
    messages = list(daemon.client.messages("POST", "/images/create", query))
    return [message["status"] for message in messages]


def test_the_variant_pulled_last_has_the_tag(daemon: Daemon, registry: Registry) -> None:
    add_index(registry, "arm64", "amd64", "s390x")
    name = f"{registry.host}/team/app:1"
    pull(daemon, registry)
    first = inspect(daemon, name)
    pull(daemon, registry, f"linux/{FOREIGN}")
    assert first["Architecture"] == NATIVE
    assert inspect(daemon, name)["Architecture"] == FOREIGN
    assert inspect(daemon, first["Id"])["RepoTags"] == []
    with pytest.raises(ClientError) as caught:
        pull(daemon, registry, "linux/riscv64")
    assert str(caught.value) == (
        "no matching manifest for linux/riscv64 in the manifest list entries"
    )


def test_a_pull_without_the_hosts_platform(daemon: Daemon, registry: Registry) -> None:
    add_index(registry, "s390x")
    with pytest.raises(ClientError) as caught:
        pull(daemon, registry)
    assert str(caught.value) == (
        f"no matching manifest for {host_platform()} in the manifest list entries"
    )


def test_a_single_image_for_another_platform_is_pulled_with_a_warning(
    daemon: Daemon, registry: Registry
) -> None:
    registry.add_image("1", layers=[ROOT], architecture="amd64")
    assert pull(daemon, registry, "linux/arm64")[-1] == (
        f"WARNING: image with reference {registry.host}/team/app:1 was found but does not provide"
        " the specified platform (linux/arm64)"
    )
    assert not pull(daemon, registry, "linux/amd64")[-1].startswith("WARNING")


def layout(*images: tuple[str, bytes], name: str = "multi:1", leave_out: str = "") -> bytes:
    """An OCI layout: one index of several platforms, its name, and an attestation."""
    blobs: dict[str, bytes] = {}

    def add(data: bytes, media_type: str = "") -> dict[str, Any]:
        blobs[digest_of(data)] = data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    entries = []
    for architecture, layer in images:
        config = {
            "architecture": architecture,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
        }
        manifest = {"config": add(json.dumps(config).encode()), "layers": [add(layer)]}
        platform = {"platform": {"os": "linux", "architecture": architecture}}
        entries.append(add(json.dumps(manifest).encode(), OCI_MANIFEST) | platform)
        if architecture == leave_out:
            del blobs[entries[-1]["digest"]]
    unknown = {"platform": {"os": "unknown", "architecture": "unknown"}}
    index = {"manifests": [add(b"{}", OCI_MANIFEST) | unknown, *entries]}
    top = add(json.dumps(index).encode(), OCI_INDEX)
    if name:
        top["annotations"] = {"io.containerd.image.name": f"docker.io/library/{name}"}
    files = {f"blobs/{digest.replace(':', '/')}": data for digest, data in blobs.items()}
    return tar_of({"index.json": json.dumps({"manifests": [top]}).encode(), **files})


def load(daemon: Daemon, data: bytes, platform: str = "") -> Any:
    query = {"platform": platform} if platform else {}
    return [m["stream"] for m in daemon.client.messages("POST", "/images/load", query, data)]


BOTH = ("arm64", tar_of({"a": b"arm"})), ("amd64", tar_of({"a": b"amd"}))


def test_a_layout_of_several_platforms_gives_the_hosts_or_the_wanted_one(daemon: Daemon) -> None:
    assert load(daemon, layout(*BOTH)) == ["Loaded image: multi:1\n"]
    assert inspect(daemon, "multi:1")["Architecture"] == NATIVE
    assert len(os.listdir(daemon.home.layers)) == 2
    load(daemon, layout(*BOTH), as_json(FOREIGN))
    assert inspect(daemon, "multi:1")["Architecture"] == FOREIGN
    with pytest.raises(ClientError, match=r"reference multi:1 was found but does .*linux/s390x\)"):
        load(daemon, layout(*BOTH), as_json("s390x"))


def test_a_layout_that_has_only_some_of_its_platforms(daemon: Daemon) -> None:
    load(daemon, layout(*BOTH, leave_out=NATIVE, name=""))
    architectures = {
        inspect(daemon, image["Id"])["Architecture"]
        for image in daemon.client.request("GET", "/images/json")
        if not image["RepoTags"]
    }
    assert architectures == {FOREIGN}


def test_save_and_load_keep_the_platform(daemon: Daemon) -> None:
    image_id = import_root(daemon, "imp:1", "linux/arm64/v8")
    data = b"".join(daemon.client.stream("GET", "/images/get", {"names": "imp:1"}))
    daemon.client.request("DELETE", "/images/imp:1")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        file = tar.extractfile("index.json")
        assert file is not None
        descriptor = json.load(file)["manifests"][0]
    assert descriptor["platform"] == {"architecture": "arm64", "os": "linux", "variant": "v8"}
    with pytest.raises(ClientError, match="does not provide the specified platform"):
        load(daemon, data, as_json("amd64"))
    load(daemon, data, as_json("arm64"))
    assert inspect(daemon, "imp:1")["Id"] == image_id


def test_of_the_same_name_in_a_docker_archive_the_hosts_platform_is_loaded(daemon: Daemon) -> None:
    files, entries = {}, []
    for architecture in (NATIVE, FOREIGN):
        diff_ids = [f"sha256:{hashlib.sha256(ROOT).hexdigest()}"]
        config = {"architecture": architecture, "os": "linux", "rootfs": {"diff_ids": diff_ids}}
        files[f"{architecture}.json"] = json.dumps(config).encode()
        entries.append(
            {"Config": f"{architecture}.json", "RepoTags": ["twice:1"], "Layers": ["layer.tar"]}
        )
    data = tar_of({**files, "layer.tar": ROOT, "manifest.json": json.dumps(entries).encode()})
    assert load(daemon, data) == ["Loaded image: twice:1\n"]
    assert inspect(daemon, "twice:1")["Architecture"] == NATIVE


@needs_cli
def test_the_cli_chooses_platforms(daemon: Daemon, registry: Registry, tmp_path: Path) -> None:
    add_index(registry, "arm64", "amd64")
    name = f"{registry.host}/team/app:1"
    assert daemon.docker(f"pull -q --platform linux/{FOREIGN} {name}").code == 0
    shown = "{{.Os}}/{{.Architecture}}"
    assert daemon.docker("image", "inspect", "-f", shown, name).stdout == f"linux/{FOREIGN}\n"
    created = daemon.docker(f"create {name} true")
    assert created.stderr == f"WARNING: {WARNING}\n"
    created = daemon.docker(f"create --pull never --platform linux/{FOREIGN} {name} true")
    assert (created.code, created.stderr) == (0, "")
    refused = daemon.docker(f"create --pull never --platform linux/{NATIVE} {name} true")
    assert f"does not provide the specified platform (linux/{NATIVE})" in refused.stderr
    pulled = daemon.docker(f"create --platform linux/{NATIVE} {name} true")
    assert "Unable to find image" in pulled.stderr
    assert pulled.code == 0
    assert daemon.docker("image", "inspect", "-f", shown, name).stdout == f"linux/{NATIVE}\n"
    (tmp_path / "root.tar").write_bytes(ROOT)
    daemon.docker(f"import --platform linux/arm64 {tmp_path}/root.tar imp:1")
    assert daemon.docker("image", "inspect", "-f", shown, "imp:1").stdout == "linux/arm64\n"
    (tmp_path / "layout.tar").write_bytes(layout(*BOTH))
    done = daemon.docker(f"load --platform linux/{FOREIGN} -i {tmp_path}/layout.tar")
    assert done.stdout == "Loaded image: multi:1\n"
    assert daemon.docker("image", "inspect", "-f", shown, "multi:1").stdout == f"linux/{FOREIGN}\n"


def test_applets_of_a_foreign_busybox_need_its_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "find", lambda _: None)
    with pytest.raises(NoBusybox, match="no engine for arm64 programs"):
        applets_of(b"", tmp_path, "arm64")


@on_x86_64
def test_applets_of_a_foreign_busybox_are_asked_through_the_emulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = tmp_path / "emulator"
    emulator.write_text('#!/bin/sh\necho "$2" "bin/$(cat "$1")" >&2; echo "bin/$(cat "$1")"\n')
    emulator.chmod(0o700)
    engine = engines.Engine("arm64", "emulated", os.fspath(emulator))
    monkeypatch.setattr(engines, "find", lambda _: engine)
    assert applets_of(b"ls", tmp_path, "arm64") == ["bin/ls"]
