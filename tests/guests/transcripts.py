"""The transcript every guest program must produce.

`python -m tests.guests.transcripts [NAME...]` writes them anew from native runs; look at the diff
before committing it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.guests import build
from tests.images import debian, native

EXPECTED = build.SOURCES / "expected"


def expected(name: str) -> str:
    """Return the committed transcript of the program."""
    return (EXPECTED / f"{name}.txt").read_text()


def natively(programs: Path, variant: str, name: str) -> native.Run:
    """Run one program on the machine's own kernel."""
    with tempfile.TemporaryDirectory(prefix="native-") as scratch:
        Path(scratch).chmod(0o1777)
        machine = native.Native(debian.tree(), Path(scratch), binds=[(programs, "/mnt/guests")])
        return machine.run([f"/mnt/guests/{variant}/{name}"], timeout=60)


def main(names: list[str]) -> int:
    """Write the transcripts."""
    programs = build.compiled()
    EXPECTED.mkdir(exist_ok=True)
    for name in names or build.names():
        run = natively(programs, build.VARIANTS[0], name)
        if run.status or run.stderr:
            print(f"{name}: status {run.status}, stderr {run.stderr!r}")
        (EXPECTED / f"{name}.txt").write_bytes(run.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
