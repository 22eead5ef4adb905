"""What cannot run says why, as Docker does, and leaves nothing half-made."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docker.daemon import Daemon

pytestmark = [pytest.mark.docker, pytest.mark.core]


def elf(machine: int = 62, interpreter: bytes = b"", entry: int = 0x400078) -> bytes:
    """A tiny ELF executable: one load segment, and an interpreter if one is named."""
    count = 2 if interpreter else 1
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01" + bytes(9), 2, machine, 1, entry, 64, 0, 0, 64, 56, count, 64, 0, 0,
    )  # fmt: skip
    code = b"\xb8\x3c\x00\x00\x00\x31\xff\x0f\x05"  # exit(0)
    name = interpreter + b"\0" if interpreter else b""
    offset = 64 + 56 * count
    size = offset + len(name) + len(code)
    segments = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, size, size, 0x1000)
    if interpreter:
        where = (offset, 0x400000 + offset, 0x400000 + offset, len(name), len(name), 1)
        segments = struct.pack("<IIQQQQQQ", 3, 4, *where) + segments
    return header + segments + name + code


@pytest.fixture
def place(tmp_path: Path) -> Callable[[str, bytes, int], str]:
    """Put a file into the directory that `-v` binds at /host."""

    def put(name: str, content: bytes, mode: int = 0o755) -> str:
        path = tmp_path / name
        path.write_bytes(content)
        path.chmod(mode)
        return f"{tmp_path}:/host"

    return put


def test_unknown_image(docker: Daemon) -> None:
    done = docker("run --rm --pull never no-such-image-here true")
    assert done.status == 125
    assert "No such image: no-such-image-here:latest" in done.stderr


def test_unknown_program(docker: Daemon) -> None:
    done = docker("run --rm busybox no-such-program")
    assert done.status == 127
    assert 'exec: "no-such-program": executable file not found in $PATH' in done.stderr


def test_missing_file(docker: Daemon) -> None:
    done = docker("run --rm busybox /no/such/file")
    assert done.status == 127
    assert "no such file or directory" in done.stderr


def test_a_directory_is_not_a_program(docker: Daemon) -> None:
    done = docker("run --rm busybox /etc")
    assert done.status == 126
    assert "is a directory" in done.stderr or "permission denied" in done.stderr


def test_not_executable(docker: Daemon) -> None:
    done = docker("run --rm busybox /etc/passwd")
    assert done.status == 126
    assert "permission denied" in done.stderr


NO_PROGRAMS = {
    "wrong machine": elf(machine=183),
    "32 bit": b"\x7fELF\x01\x01\x01" + bytes(60),
    "truncated header": b"\x7fELF\x02\x01\x01",
    "truncated program headers": elf()[:80],
    "empty": b"",
    "text": b"just some text\n",
}


@pytest.mark.parametrize("what", NO_PROGRAMS)
def test_what_is_no_program(docker: Daemon, place: Callable[..., str], what: str) -> None:
    volume = place("program", NO_PROGRAMS[what])
    done = docker("run", "--rm", "-v", volume, "busybox", "/host/program")
    assert done.status in {125, 126, 255}
    assert "exec format error" in done.stderr
    # From a shell the errno is ENOEXEC; busybox's shell then reads it as a script.
    script = "/host/program; echo after $?"
    assert "after" in docker("run", "--rm", "-v", volume, "busybox", "sh", "-c", script).stdout


def test_a_tiny_program_runs(docker: Daemon, place: Callable[..., str]) -> None:
    volume = place("program", elf())
    assert docker("run", "--rm", "-v", volume, "busybox", "/host/program").status == 0


@pytest.mark.parametrize("cut", [40, 100, 5000])
def test_a_truncated_executable_is_an_error_or_a_crash_of_its_own(
    docker: Daemon, place: Callable[..., str], cut: int
) -> None:
    whole = docker("run --rm busybox cat /bin/busybox").stdout.encode(errors="surrogateescape")
    volume = place("busybox", whole[: -len(whole) + cut * 100 if cut > 100 else cut])
    script = "/host/busybox true; echo status $?"
    done = docker("run", "--rm", "-v", volume, "busybox", "sh", "-c", script)
    assert "status" in done.stdout
    assert "status 0" not in done.stdout


def test_missing_interpreter(docker: Daemon, place: Callable[..., str]) -> None:
    volume = place("program", elf(interpreter=b"/lib/no-such-loader.so"))
    done = docker("run", "--rm", "-v", volume, "busybox", "/host/program")
    assert done.status == 127
    assert "no such file or directory" in done.stderr
    shell = docker("run", "--rm", "-v", volume, "busybox", "sh", "-c", "/host/program; echo $?")
    assert shell.stdout == "127\n"


def test_a_script_whose_interpreter_is_missing(docker: Daemon, place: Callable[..., str]) -> None:
    volume = place("script", b"#!/no/such/interpreter\n")
    done = docker("run", "--rm", "-v", volume, "busybox", "/host/script")
    assert done.status == 127
    assert "no such file or directory" in done.stderr


@pytest.mark.parametrize(
    "flags",
    [
        "--memory lots",
        "--pids-limit many",
        "-p no:port",
        "--ulimit nofile=x",
        "-v relative/path:/x:bad-option",
        "--user nobody-by-this-name",
        "-w relative",
        "--name /bad//name",
        "--restart sometimes",
        "--network no-such-network",
    ],
)
def test_bad_flag_values(docker: Daemon, flags: str) -> None:
    done = docker(f"run --rm {flags} busybox true")
    assert done.status == 125, done
    assert done.stderr
    assert docker("ps -aq").stdout == ""


def test_a_second_container_of_the_same_name(docker: Daemon) -> None:
    assert docker("create --name taken busybox true").status == 0
    done = docker("run --name taken busybox true")
    assert done.status == 125
    assert 'The container name "/taken" is already in use' in done.stderr


def archive(*members: tuple[str, bytes | str | None], kind: bytes = b"") -> bytes:
    """A tar archive of files (bytes), symlinks (str) and directories (None)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.mode = 0o755
            if content is None:
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            elif isinstance(content, str):
                member.type = kind or tarfile.SYMTYPE
                member.linkname = content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def images(docker: Daemon) -> str:
    return docker("images -aq").stdout


@pytest.mark.parametrize(
    ("what", "content"),
    [
        ("not a tar", b"this is not a tar archive, whatever it claims" * 100),
        ("cut in a header", archive(("file", b"x" * 5000))[:700]),
        ("bad checksum", b"name" + bytes(96) + b"0000644\0" * 3 + bytes(388)),
    ],
)
def test_a_corrupt_archive_is_refused(docker: Daemon, what: str, content: bytes) -> None:
    before = images(docker)
    done = docker("import", "-", "broken:latest", stdin=content)
    assert done.status == 1, what
    assert done.stderr
    assert images(docker) == before
    done = docker("load", stdin=content)
    assert done.status == 1
    assert images(docker) == before


def test_a_layer_cannot_write_outside(docker: Daemon, tmp_path: Path) -> None:
    target = tmp_path / "written"
    up = "../" * 30 + str(target).lstrip("/")
    before = images(docker)
    done = docker("import", "-", "traversal:latest", stdin=archive((up, b"pwned")))
    assert not target.exists()
    if done.status == 0:  # Docker itself cleans the name and keeps the file inside
        assert docker("rmi traversal:latest").status == 0
    assert images(docker) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_layer_cannot_write_through_its_own_links(
    docker: Daemon, tmp_path: Path, kind: bytes
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "kept").write_text("kept")
    content = archive(
        ("door", str(victim)), ("door/kept", b"pwned"), ("door/new", b"pwned"), kind=kind
    )
    docker("import", "-", "links:latest", stdin=content)
    assert (victim / "kept").read_text() == "kept"
    assert not (victim / "new").exists()
    docker("rmi links:latest")


def test_absolute_symlinks_in_an_image_lead_inside(docker: Daemon, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("host only")
    busybox = docker("run --rm busybox cat /bin/busybox").stdout.encode(errors="surrogateescape")
    content = archive(
        ("bin", None),
        ("bin/busybox", busybox),
        ("bin/sh", "/bin/busybox"),
        ("bin/cat", "/../../../bin/busybox"),
        ("secret", str(tmp_path / "secret")),
        ("up", "../../../../../../../../.." + str(tmp_path / "secret")),
        ("etc", "/etc-inside"),
        ("etc-inside", None),
        ("etc-inside/file", b"inside\n"),
    )
    assert docker("import", "-", "symlinks:latest", stdin=content).status == 0
    done = docker("run --rm symlinks /bin/sh -c 'cat /etc/file /secret /up; exit 0'")
    assert done.stdout == "inside\n"
    assert docker("rmi symlinks:latest").status == 0


def test_the_daemon_survives_all_of_it(docker: Daemon) -> None:
    assert docker("run --rm busybox echo fine").stdout == "fine\n"
