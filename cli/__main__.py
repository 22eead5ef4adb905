"""The `ddock` command line. Each subcommand is imported when it is asked for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from api.engine.home import Home
from cli.client import ClientError

_COMMANDS = {
    "daemon": ("cli.daemon", "start the daemon in the background"),
    "stop": ("cli.stop", "stop the daemon and its containers"),
    "run": ("cli.run", "run a container; takes the flags of `docker run`"),
    "image": ("cli.bootstrap", "`image bootstrap NAME`: make sure a small base image exists"),
    "doctor": ("cli.doctor", "what this host offers, and what follows from it"),
    "trace": ("cli.trace", "print the calls that reach a container's kernel"),
}
Command = Callable[[Home, list[str]], int]


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand; its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="ddock",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n" + "\n".join(f"  {n:8} {text}" for n, (_, text) in _COMMANDS.items()),
    )
    parser.add_argument("--home", type=Path, help="default: $DDOCK_HOME or ~/.ddock")
    parser.add_argument("--version", action="version", version=_version())
    parser.add_argument("command", choices=_COMMANDS, metavar="COMMAND")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    options = parser.parse_args(words)
    home = Home(options.home.absolute()) if options.home else Home.default()
    command: Command = import_module(_COMMANDS[options.command][0]).main
    try:
        return command(home, options.arguments)
    except ClientError as error:
        print(f"ddock: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141


def _version() -> str:
    try:
        return f"ddock {version('ddock')}"
    except PackageNotFoundError:
        return "ddock (not installed)"


if __name__ == "__main__":
    sys.exit(main())
