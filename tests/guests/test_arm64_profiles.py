"""Guests of hosts with other pages and another x18, played by an emulated engine.

See kernel.host.profiles.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.host import engines
from tests.conftest import remove_containers
from tests.docker.daemon import Daemon
from tests.guests import cross, emulator_limits, transcripts
from tests.images import arm64

_ENGINE = engines.find("arm64")
_EMULATED = _ENGINE is not None and _ENGINE.kind == "emulated"
REASON = cross.available() or ("" if _EMULATED else "arm64 guests are not emulated on this host")
pytestmark = [pytest.mark.docker, pytest.mark.skipif(bool(REASON), reason=REASON)]

_SOURCES = Path(__file__).with_name("arm64")

PROFILES = {"linux-16k": 16 << 10, "linux-64k": 64 << 10, "darwin-like": 16 << 10}
PROGRAMS = (
    *("pages", "threads", "fork_wait", "exec", "proc_files", "files", "locks", "pipes", "futexes"),
    *("signals_basic", "signals_threads", "signals_info", "unix_sockets", "timers"),
    "remapped_text",
)


@pytest.fixture(scope="module", params=PROFILES)
def host(request: pytest.FixtureRequest) -> Iterator[tuple[Daemon, str]]:
    """A daemon that plays such a host, and the profile's name; it has the arm64 images."""
    daemon = Daemon()
    daemon.environment["DDOCK_HOST_PROFILE"] = request.param
    daemon.start()
    for archive, name in ((arm64.tarball(), "debian:arm64"), (arm64.busybox(), "busybox:arm64")):
        words = ("import", "--platform", "linux/arm64", str(archive), name)
        assert daemon(*words, timeout=300).status == 0
    yield daemon, request.param
    remove_containers(daemon)
    daemon.remove()


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("variant", ["glibc", "glibc-static"])
def test_a_program_gives_the_same_transcript(
    host: tuple[Daemon, str], arm64_programs: Path, name: str, variant: str
) -> None:
    daemon, _ = host
    run = daemon(
        *("run", "--rm", "--platform", "linux/arm64", "-v", f"{arm64_programs}:/mnt/guests:ro"),
        *("debian:arm64", f"/mnt/guests/{variant}/{name}"),
        timeout=100,
    )
    expected = transcripts.expected(name)
    known = emulator_limits.limits(name, variant)
    assert emulator_limits.forgiven(run.stdout, expected, known) == expected
    assert (run.stderr, run.status) == ("", 0)


def test_programs_see_the_page_size(host: tuple[Daemon, str]) -> None:
    daemon, profile = host
    words = ["run", "--rm", "--platform", "linux/arm64", "debian:arm64"]
    assert daemon(*words, "getconf", "PAGESIZE") == (f"{PROFILES[profile]}\n", "", 0)


def test_a_static_program_runs_in_a_busybox_image(host: tuple[Daemon, str]) -> None:
    daemon, _ = host
    script = "seq 3 | sort -r | head -n 1; (sleep 0; exit 3) || echo $?; cat /proc/self/comm"
    words = ["run", "--rm", "--platform", "linux/arm64", "busybox:arm64", "sh", "-c", script]
    assert daemon(*words) == ("3\n3\ncat\n", "", 0)


def test_a_program_laid_out_for_smaller_pages_dies_as_on_linux(
    host: tuple[Daemon, str], tmp_path: Path
) -> None:
    daemon, profile = host
    source = tmp_path / "small.c"
    source.write_text("static int data = 3; int main(void) { return data; }\n")
    for page, status in ((0x1000, 128 + 11), (0x1_0000, 3)):
        # Its first segment lies at a whole page of its own layout, with the file's first byte.
        layout = f"-Wl,-z,max-page-size={page},-Ttext-segment={0x40_0000 + page:#x}"
        cross.compile_one(source, tmp_path / "small", "-static", layout)
        words = ["run", "--rm", "--platform", "linux/arm64", "-v", f"{tmp_path}:/mnt/small:ro"]
        assert daemon(*words, "busybox:arm64", "/mnt/small/small").status == status, profile


def test_instructions_with_x18_do_what_they_do(host: tuple[Daemon, str], tmp_path: Path) -> None:
    """The oracle is the emulator alone, where nothing takes x18 and nothing is rewritten."""
    daemon, _ = host
    assert _ENGINE is not None
    assert _ENGINE.emulator is not None
    cross.compile_one(_SOURCES / "x18.c", tmp_path / "x18", "-static", "-lpthread")
    words = [_ENGINE.emulator, str(tmp_path / "x18")]
    oracle = subprocess.run(words, capture_output=True, text=True, timeout=100, check=True)
    words = ["run", "--rm", "--platform", "linux/arm64", "-v", f"{tmp_path}:/mnt/x18:ro"]
    run = daemon(*words, "busybox:arm64", "/mnt/x18/x18", timeout=100)
    assert run == (oracle.stdout, "", 0)
