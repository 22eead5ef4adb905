"""Fail when regenerating tables/ or the coverage page would change what is committed.

The regenerated files are left in place, so that `git diff` shows what changed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GENERATORS = {
    ROOT / "tools/gen_syscalls.py": ["tables"],
    ROOT / "tools/gen_coverage.py": ["docs/syscalls.md"],
}


def fingerprint(paths: list[str]) -> dict[Path, bytes]:
    """Read every file the generator owns."""
    found: dict[Path, bytes] = {}
    for name in paths:
        path = ROOT / name
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        found |= {
            file: file.read_bytes()
            for file in files
            if file.is_file() and "__pycache__" not in file.parts
        }
    return found


def main() -> int:
    """Run every generator and name the files that came out different."""
    failed = False
    for generator, outputs in GENERATORS.items():
        before = fingerprint(outputs)
        done = subprocess.run([sys.executable, generator], cwd=ROOT, check=False)
        if done.returncode:
            print(f"{generator.relative_to(ROOT)} failed")
            failed = True
            continue
        after = fingerprint(outputs)
        for path in sorted(before.keys() | after.keys()):
            if before.get(path) != after.get(path):
                print(f"{path.relative_to(ROOT)} is not what {generator.name} generates")
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
