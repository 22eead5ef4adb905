"""The small deciders: names, times, signals, mounts, keys, restart policies, log records."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.engine.addresses import AddressPool
from api.engine.changes import apply_changes
from api.engine.config import merge_config, override_env, parse_signal
from api.engine.detach import DetachScanner, parse_keys
from api.engine.errors import EngineError, InvalidParameter
from api.engine.files import go_file_mode
from api.engine.logs import ContainerLog, LogQuery
from api.engine.mounts import parse_bind, parse_mount, parse_tmpfs
from api.engine.names import check_name, invent_name, new_id
from api.engine.references import parse_reference
from api.engine.restart import at_daemon_start, decide
from api.engine.timestamps import human_duration, parse_time, rfc3339
from cli.run_flags import create_request, parser, size

NAMES = [
    ("busybox", "docker.io/library/busybox", "", "busybox"),
    ("busybox:1", "docker.io/library/busybox", "1", "busybox:1"),
    ("user/app", "docker.io/user/app", "", "user/app"),
    ("index.docker.io/library/x:2", "docker.io/library/x", "2", "x:2"),
    ("localhost/app", "localhost/app", "", "localhost/app"),
    ("localhost:5000/a/b_c:T.1", "localhost:5000/a/b_c", "T.1", "localhost:5000/a/b_c:T.1"),
    ("ghcr.io/a/b", "ghcr.io/a/b", "", "ghcr.io/a/b"),
    ("127.0.0.1:80/x", "127.0.0.1:80/x", "", "127.0.0.1:80/x"),
]


@pytest.mark.parametrize(("text", "repository", "tag", "familiar"), NAMES)
def test_image_names(text: str, repository: str, tag: str, familiar: str) -> None:
    reference = parse_reference(text)
    assert (reference.repository, reference.tag, reference.familiar) == (repository, tag, familiar)


def test_a_digest_in_a_name() -> None:
    digest = "sha256:" + "0" * 64
    reference = parse_reference(f"busybox:1@{digest}")
    assert (reference.tag, reference.digest) == ("1", digest)
    assert reference.key == f"docker.io/library/busybox@{digest}"


@pytest.mark.parametrize(
    "text",
    ["", ":", "a:", "/a", "a/", "a//b", "A", "a b", "a:b c", "a@sha256:1", "-a", "a..b", "0" * 64],
)
def test_what_is_no_image_name(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_reference(text)


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidParameter:
        return
    assert parse_reference(reference.familiar).key == reference.key


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("1", 10**9),
        ("1795432094.5", 1795432094_500_000_000),
        ("1.000000001", 10**9 + 1),
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T01:00:01.25+01:00", 1_250_000_000),
        ("1970-01-02", 86400 * 10**9),
    ],
)
def test_times(text: str, number: int) -> None:
    assert parse_time(text) == number


@pytest.mark.parametrize("text", ["", "x", "1.x", "2026-13-01", "2026-01-01T99:00:00Z"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_time(text)


@given(st.integers(1, 4_000_000_000 * 10**9))
def test_times_come_back(number: int) -> None:
    assert parse_time(rfc3339(number)) == number
    assert parse_time(rfc3339(number, fixed=True)) == number


def test_zero_is_never() -> None:
    assert rfc3339(0) == "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (150, "2 minutes"),
        (3600, "About an hour"),
        (47 * 3600, "47 hours"),
        (49 * 3600, "2 days"),
        (15 * 86400, "2 weeks"),
        (70 * 86400, "2 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_durations_read_like_dockers(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "number"),
    [("9", 9), ("KILL", 9), ("sigterm", 15), ("RTMIN", 34), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)],
)
def test_signals(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "SIG", "_DFL", "SIGSIG", "RTMIN+99", "TERM "])
def test_what_is_no_signal(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse_signal(text)


def test_the_last_of_an_environment_key_wins_and_a_bare_key_removes() -> None:
    base = ["PATH=/bin", "A=1", "B=2"]
    assert override_env(base, ["A=3", "C=4", "B"]) == ["PATH=/bin", "A=3", "C=4"]


def test_an_entrypoint_drops_the_images_command() -> None:
    image = {"Entrypoint": ["e"], "Cmd": ["c"]}
    assert merge_config({}, image)["Cmd"] == ["c"]
    config = merge_config({"Entrypoint": ["x"]}, image)
    assert (config["Entrypoint"], config["Cmd"]) == (["x"], None)
    with pytest.raises(InvalidParameter, match="no command specified"):
        merge_config({}, {})


@pytest.mark.parametrize(
    ("text", "kind", "source", "writable"),
    [
        ("/data", "volume", "", True),
        ("/a:/b", "bind", "/a", True),
        ("/a/../c:/b:ro", "bind", "/c", False),
        ("vol:/b:ro,nocopy", "volume", "", False),
        ("/a:/b:rw,z,rslave", "bind", "/a", True),
    ],
)
def test_binds(text: str, kind: str, source: str, writable: bool) -> None:
    point = parse_bind(text)
    assert (point.type, point.source, point.writable) == (kind, source, writable)


@given(st.text(max_size=30))
def test_any_text_is_a_bind_or_refused(text: str) -> None:
    try:
        point = parse_bind(text)
    except InvalidParameter:
        return
    assert point.destination.startswith("/")


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"Type": "bind"},
        {"Type": "bind", "Target": "/x"},
        {"Type": "bind", "Target": "/x", "Source": "relative"},
        {"Type": "nonsense", "Target": "/x"},
        {"Type": "tmpfs", "Target": "/x", "Source": "/y"},
        {"Type": "volume", "Target": "x"},
        {"Type": "npipe", "Target": "/x"},
    ],
)
def test_bad_mounts(spec: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter):
        parse_mount(spec)


def test_tmpfs_has_dockers_defaults() -> None:
    assert parse_tmpfs("/x", "").options == ["noexec", "nosuid", "nodev"]
    assert parse_tmpfs("/x", "exec,size=1m").options == ["nosuid", "nodev", "exec", "size=1m"]


def test_detach_keys() -> None:
    assert parse_keys("") == b"\x10\x11"
    assert parse_keys("ctrl-a,b,ctrl-[") == b"\x01b\x1b"
    with pytest.raises(InvalidParameter):
        parse_keys("ctrl-1")


@given(st.lists(st.binary(max_size=6)), st.binary(min_size=1, max_size=3))
def test_a_scanner_finds_the_sequence_wherever_it_is_cut(chunks: list[bytes], keys: bytes) -> None:
    scanner = DetachScanner(keys)
    passed, detached = b"", False
    for chunk in chunks:
        more, detached = scanner.feed(chunk)
        passed += more
        if detached:
            break
    whole = b"".join(chunks)
    assert not detached or keys in whole
    assert whole.startswith(passed)


def test_restart_policies() -> Any:
    def again(name: str, **facts: Any) -> Any:
        defaults = {"exit_code": 1, "restarts": 0, "stopped_by_user": False, "lasted_seconds": 0}
        policy = {"Name": name, "MaximumRetryCount": facts.pop("limit", 0)}
        return decide(policy, **{**defaults, **facts})

    assert not again("no").restart
    assert again("always", exit_code=0).restart
    assert not again("always", stopped_by_user=True).restart
    assert not again("on-failure", exit_code=0).restart
    assert again("on-failure", limit=2, restarts=1).restart
    assert not again("on-failure", limit=2, restarts=2).restart
    assert again("always", restarts=3).delay_seconds == pytest.approx(0.8)
    assert again("always", restarts=99).delay_seconds == 60
    assert again("always", restarts=99, lasted_seconds=11).delay_seconds == pytest.approx(0.1)
    assert not at_daemon_start({"Name": "no"}, was_running=True, stopped_by_user=False)


def test_go_modes() -> None:
    assert go_file_mode(0o100644) == 0o644
    assert go_file_mode(0o040755) == 1 << 31 | 0o755
    assert go_file_mode(0o120777) == 1 << 27 | 0o777
    assert go_file_mode(0o104755) == 1 << 23 | 0o755
    assert go_file_mode(0o041777) == 1 << 31 | 1 << 20 | 0o777
    assert go_file_mode(0o020620) == 1 << 26 | 1 << 21 | 0o620


def test_addresses_rest_before_they_are_used_again() -> None:
    pool = AddressPool()
    first, second = pool.take(), pool.take()
    pool.release(first)
    assert pool.take() not in {first, second}


def test_addresses_run_out() -> None:
    pool = AddressPool()
    taken = {pool.take() for _ in range(256 * 256 - 3)}
    assert len(taken) == 256 * 256 - 3
    with pytest.raises(EngineError, match="no available IPv4 addresses"):
        pool.take()


def test_names() -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", new_id())
    assert check_name("/a.b-c_1") == "a.b-c_1"
    assert "_" in invent_name(())
    for name in ("", "a", "-ab", "a b", "ä1"):
        with pytest.raises(InvalidParameter):
            check_name(name)


def test_changes() -> None:
    settings: dict[str, Any] = {}
    apply_changes(
        settings,
        ['CMD ["a", "b"]', "ENTRYPOINT run it", "ENV A=1 B='two words'", "ENV A 3", "WORKDIR /a",
         "WORKDIR b", "VOLUME /x /y", "EXPOSE 1 2/udp", "HEALTHCHECK CMD curl x", "ONBUILD RUN x"],
    )  # fmt: skip
    assert settings == {
        "Cmd": ["a", "b"],
        "Entrypoint": ["/bin/sh", "-c", "run it"],
        "Env": ["B=two words", "A=3"],
        "WorkingDir": "/a/b",
        "Volumes": {"/x": {}, "/y": {}},
        "ExposedPorts": {"1/tcp": {}, "2/udp": {}},
        "Healthcheck": {"Test": ["CMD-SHELL", "curl x"]},
        "OnBuild": ["RUN x"],
    }


chunks = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=40)))


@given(chunks)
def test_a_log_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[int, bytes]]
) -> Any:
    log = ContainerLog(tmp_path_factory.mktemp("log") / "x.log")
    log.open()
    for stream, data in written:
        log.append(stream, data)
    log.close()

    async def read(query: Any) -> Any:
        return [line async for line in log.read(query)]

    lines = asyncio.run(read(LogQuery()))
    for stream in (1, 2):
        whole = b"".join(data for number, data in written if number == stream)
        assert b"".join(line.text for line in lines if line.stream == stream) == whole
    for line in lines:
        assert b"\n" not in line.text[:-1]
    assert asyncio.run(read(LogQuery(tail=2))) == lines[-2:]


def test_run_flags_make_dockers_request() -> None:
    words = "-it --rm --name x -e A=1 -v /a:/b -v /anon -p 127.0.0.1:80:8080/udp -p 90 -m 1g -u me"
    words += " --ulimit nofile=1:2 --restart on-failure:3 --tmpfs /t:size=1m --add-host a=1.2.3.4"
    options = parser().parse_args([*words.split(), "--entrypoint=", "image", "sh", "-c", "-it x"])
    options.interactive = False  # no terminal here
    request = create_request(options)
    host = request["HostConfig"]
    assert request["Cmd"] == ["sh", "-c", "-it x"]
    assert request["Image"] == "image"
    assert request["Entrypoint"] == [""]
    assert request["Volumes"] == {"/anon": {}}
    assert request["ExposedPorts"] == {"8080/udp": {}, "90/tcp": {}}
    assert host["Binds"] == ["/a:/b"]
    assert host["PortBindings"] == {
        "8080/udp": [{"HostIp": "127.0.0.1", "HostPort": "80"}],
        "90/tcp": [{"HostIp": "", "HostPort": ""}],
    }
    assert host["Memory"] == 1 << 30
    assert host["Ulimits"] == [{"Name": "nofile", "Soft": 1, "Hard": 2}]
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert host["Tmpfs"] == {"/t": "size=1m"}
    assert host["ExtraHosts"] == ["a:1.2.3.4"]


def test_sizes() -> None:
    assert [size(text) for text in ("1", "1k", "2M", "1.5g", "3kb")] == [
        1, 1 << 10, 2 << 20, 3 << 29, 3 << 10,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="invalid size"):
        size("many")
