"""An emulator's process behind its walls, running a program whose calls nobody intercepts.

That is the worst a guest could do: reach the emulator's own `svc`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import tables
from codegen.emulator_filter import build_filter
from kernel.host import engines
from kernel.host.landlock import landlock_version
from kernel.host.walls import Walls
from tests.guests import cross

_ENGINE = engines.find("arm64")
_WHY = cross.available() or ("" if _ENGINE and _ENGINE.emulator else "no emulator")
pytestmark = pytest.mark.skipif(bool(_WHY), reason=_WHY)
SOURCE = Path(__file__).parent / "hostile" / "walls.c"
BY_FILTER = {
    'chmod("/tmp/ddock-walls-target", 0777)': "EPERM",
    'setxattr("/tmp/ddock-walls-target", "user.x", "y", 1, 0)': "EPERM",
    "socket(AF_INET, SOCK_DGRAM, 0)": "EPERM",
    "socket(AF_UNIX, SOCK_STREAM, 0)": "EPERM",
}
BY_LANDLOCK = {
    'open("/etc/passwd", O_RDONLY)': "EACCES",
    'open("/tmp/ddock-walls", O_WRONLY | O_CREAT, 0600)': "EACCES",
    'mkdir("/tmp/ddock-walls", 0700)': "EACCES",
    'unlink("/tmp/ddock-walls-target")': "EACCES",
    'truncate("/tmp/ddock-walls-target", 0)': "EACCES",
    'execl("/bin/true", "true", (char *)NULL)': "EACCES",
    "kill(getppid(), 0)": "EPERM",
}
SCOPES_ABI = 6  # of Landlock: signals only within


def behind_walls(program: Path) -> dict[str, str]:
    assert _ENGINE is not None
    assert _ENGINE.emulator is not None
    walls = Walls(_ENGINE.emulator, str(program), build_filter(tables.load(engines.host_isa())))
    read, write = os.pipe()
    null = os.open("/dev/null", os.O_RDONLY)
    command = (_ENGINE.emulator, ["emulator", str(program)], dict[str, str]())
    pid = walls.spawn(command, [(null, 0), (write, 1), (write, 2)])
    os.close(write)
    os.close(null)
    walls.close()
    with os.fdopen(read) as output:
        lines = output.read().splitlines()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, lines
    return dict(line.rsplit(": ", 1) for line in lines if ": " in line) | {
        "last": lines[-1] if lines else ""
    }


def test_nothing_but_descriptors_is_in_reach(tmp_path: Path) -> None:
    program = tmp_path / "walls"
    cross.compile_one(SOURCE, program, "-static")
    target = Path("/tmp/ddock-walls-target")
    target.write_text("kept")
    try:
        said = behind_walls(program)
        assert target.read_text() == "kept"
    finally:
        target.unlink()
    expected = dict(BY_FILTER)
    if landlock_version() >= SCOPES_ABI:
        expected |= BY_LANDLOCK
    assert {call: said.get(call) for call in expected} == expected
    assert said["pipe(ends)"] == "0"
    assert said["last"] == "child exited 5"
