"""`ddock trace CONTAINER`: a live strace of the calls that reach the container's kernel."""

from __future__ import annotations

import argparse
import sys

from api.engine.home import Home
from cli.client import Client


def main(home: Home, arguments: list[str]) -> int:
    """0 at the container's end."""
    parser = argparse.ArgumentParser(prog="ddock trace", description=__doc__)
    parser.add_argument("container", help="name, id or prefix of a running container")
    options = parser.parse_args(arguments)
    client = Client.for_home(home)
    for chunk in client.stream("POST", f"/containers/{options.container}/trace"):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    return 0
