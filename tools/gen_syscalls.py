"""Generate tables/: what Linux's headers say about the system call ABI, for every ISA.

    python tools/gen_syscalls.py           write tables/<isa>.json and tables/<isa>.msgpack
    python tools/gen_syscalls.py --check   exit 1 with a diff if that would change them

The output depends only on the pinned header packages and tables/overlay.toml. Exit status 2: the
headers cannot be had, or the overlay is wrong.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # so that it runs as a file, from any directory

from tools.gen_tables import model, overlay, packages, render  # noqa: E402

TABLES = ROOT / "tables"
ISAS = ("x86_64", "arm64")


def main() -> int:
    """Generate, and write or compare. Returns the exit status."""
    parser = argparse.ArgumentParser(description="Generate tables/ from Linux headers.")
    parser.add_argument("--check", action="store_true", help="compare only; 1 if they differ")
    parser.add_argument(
        "--cache", type=Path, default=packages.cache_directory(), help="where packages are kept"
    )
    options = parser.parse_args()
    try:
        files = generate(options.cache)
    except (packages.FetchError, overlay.OverlayError, OSError, ValueError, LookupError) as error:
        print(f"gen_syscalls: {error}", file=sys.stderr)
        return 2
    if options.check:
        return compare(files)
    for name, content in files.items():
        path = TABLES / name
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
            print(f"wrote tables/{name}: {len(content)} bytes")
    return 0


def generate(cache: Path) -> dict[str, bytes]:
    """Return the content of every generated file, by name."""
    sources = packages.fetch(cache)
    notes = {isa: overlay.load(TABLES / "overlay.toml", isa) for isa in ISAS}
    tables = {isa: model.build(isa, sources[isa], notes[isa]) for isa in ISAS}
    known = {name for table in tables.values() for name in table["syscalls"]}
    files = {}
    for isa, table in tables.items():
        overlay.check_names(notes[isa], known)
        if not sources[isa].pinned:
            _keep_sources(table)
        files[f"{isa}.json"] = render.text(table).encode()
        files[f"{isa}.msgpack"] = render.packed(table)
    return files


def _keep_sources(table: dict[str, Any]) -> None:
    """Name the committed packages as the source if others of their kind say exactly the same.

    So a mirror that no longer has the pinned version fails nobody until the ABI itself differs.
    """
    path = TABLES / f"{table['isa']}.json"
    if not path.exists():
        return
    committed = path.read_text()
    as_committed = {**table, "sources": json.loads(committed)["sources"]}
    if render.text(as_committed) == committed:
        table["sources"] = as_committed["sources"]


def compare(files: dict[str, bytes]) -> int:
    """Print how the committed files differ from `files`; 0 if they do not."""
    status = 0
    for name, content in files.items():
        path = TABLES / name
        old = path.read_bytes() if path.exists() else b""
        if old == content:
            continue
        status = 1
        if name.endswith(".json"):
            before, after = (text.decode().splitlines(keepends=True) for text in (old, content))
            diff = difflib.unified_diff(before, after, f"a/tables/{name}", f"b/tables/{name}", n=1)
            sys.stdout.writelines(diff)
        else:
            print(f"tables/{name} differs")
    if status:
        print("run `make tables` and commit the result", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
