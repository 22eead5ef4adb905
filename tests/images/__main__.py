"""`python -m tests.images`: make everything the tests need ahead of them, and say what it is."""

from __future__ import annotations

import sys
import time

from tests.images import client, debian, emulation, native
from tools.debs import DebsError


def main() -> int:
    """Make the Debian tree and find a docker CLI."""
    started = time.monotonic()
    try:
        print(f"docker CLI: {client.path()}", flush=True)
        print(f"Debian tree: {debian.tree()}", flush=True)
    except (debian.DebianError, DebsError) as error:
        print(f"tests.images: {error}", file=sys.stderr)
        return 1
    unemulated = emulation.ensure()
    if unemulated:
        print(f"NO ARM64 GUESTS: their tests will not run: {unemulated}")
    reason = native.available()
    if reason:
        print(f"NO ORACLE: comparisons with a native chroot will not run: {reason}")
    print(f"ready after {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
