"""Generate tables/: what Linux's headers say about the system call ABI, for every ISA.

    python tools/gen_syscalls.py           write tables/<isa>.json and tables/<isa>.msgpack
    python tools/gen_syscalls.py --check   exit 1 with a diff if that would change them

The output depends only on the pinned header packages and tables/overlay.toml.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

from gen_tables import model, overlay, packages, render

TABLES = Path(__file__).resolve().parent.parent / "tables"
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
    except (packages.FetchError, overlay.OverlayError, ValueError, LookupError) as error:
        print(f"gen_syscalls: {error}", file=sys.stderr)
        return 2
    if options.check:
        return compare(files)
    for name, content in files.items():
        (TABLES / name).write_bytes(content)
        print(f"wrote tables/{name}: {len(content)} bytes")
    return 0


def generate(cache: Path) -> dict[str, bytes]:
    """The content of every generated file, by name."""
    sources = packages.fetch(cache)
    notes = {isa: overlay.load(TABLES / "overlay.toml", isa) for isa in ISAS}
    tables = {isa: model.build(isa, sources[isa], notes[isa]) for isa in ISAS}
    for isa in ISAS:
        overlay.check_names(notes[isa], model.known_names(tables))
    files = {}
    for isa, table in tables.items():
        files[f"{isa}.json"] = render.text(table).encode()
        files[f"{isa}.msgpack"] = render.packed(table)
    return files


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
            lines = (text.decode().splitlines(keepends=True) for text in (old, content))
            sys.stdout.writelines(difflib.unified_diff(*lines, f"a/tables/{name}", f"b/tables/{name}"))
        else:
            print(f"tables/{name} differs")
    if status:
        print("run `make tables` and commit the result", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
