"""`ddock stop`: stop the daemon and, as `docker stop` would, its containers."""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
from pathlib import Path

from api.daemon import daemon_pid
from api.engine.home import Home


def main(home: Home, arguments: list[str]) -> int:
    """0 when no daemon runs (any more)."""
    parser = argparse.ArgumentParser(prog="ddock stop", description=__doc__)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait")
    options = parser.parse_args(arguments)
    if options.home:
        home = Home(options.home.absolute())
    pid = daemon_pid(home)
    if not pid:
        print(f"ddock: no daemon is running for {home.root}")
        return 0
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return 0
    try:
        signal.pidfd_send_signal(process, signal.SIGTERM)
        # Not until it lets go of its lock: until it is gone.
        ended, _, _ = select.select([process], [], [], options.timeout)
    except ProcessLookupError:
        return 0
    finally:
        os.close(process)
    if not ended:
        print(f"ddock: the daemon (pid {pid}) is still stopping", file=sys.stderr)
        return 1
    return 0
