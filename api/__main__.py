"""`python -m api`: the daemon in the foreground. `ddock daemon` starts this in the background."""

from __future__ import annotations

import argparse
import ctypes
import sys
from pathlib import Path

from api.daemon import Daemon, DaemonError
from api.engine.home import Home
from api.versions import DEFAULT_ZYGOTE

_M_ARENA_MAX = -8  # malloc.h


def main() -> int:
    """Run the daemon; 1 when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m api", description=__doc__)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--socket", type=Path)
    parser.add_argument("--zygote", default=DEFAULT_ZYGOTE, help="module that forks kernels")
    options = parser.parse_args()
    # Worker threads that read and write layers would each keep an arena of glibc's for good.
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    home = Home(options.home.absolute()) if options.home else Home.default()
    try:
        Daemon(home, options.socket and options.socket.absolute(), options.zygote).run()
    except DaemonError as error:
        print(f"ddock: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
