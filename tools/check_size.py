"""Fail when a module has grown past the gate: split it where it has two subjects.

Generated modules (everything in tables/ except the hand-written overlay) do not count.

Usage: python -m tools.check_size [--limit LINES]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_LINES = 600
HAND_WRITTEN = {"overlay.py", "__init__.py", "load.py"}


def modules() -> list[Path]:
    """List the Python and C files of the working tree that git knows or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    paths = [ROOT / name.decode() for name in listed.split(b"\0") if name]
    return sorted(path for path in paths if path.suffix in {".py", ".c"} and path.is_file())


def generated(path: Path) -> bool:
    """Tell whether a generator wrote the file."""
    relative = path.relative_to(ROOT)
    return relative.parts[0] == "tables" and relative.name not in HAND_WRITTEN


def main() -> int:
    """Print every module over the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=LIMIT_LINES)
    limit = parser.parse_args().limit
    failed = False
    for path in modules():
        lines = len(path.read_bytes().splitlines())
        if lines > limit and not generated(path):
            print(f"{path.relative_to(ROOT)}: {lines} lines, the gate is {limit}")
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
