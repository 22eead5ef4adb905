"""`ddock image bootstrap NAME`: see that a base image exists, with or without a registry."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from api.engine.home import Home
from api.engine.references import parse_reference
from cli.busybox import NoBusybox, applets_of, find_binary, root_tar
from cli.client import Client, ClientError

_BUILT_HERE = "docker.io/library/busybox"


def main(home: Home, arguments: list[str]) -> int:
    """0 when the image is there."""
    parser = argparse.ArgumentParser(prog="ddock image", description=__doc__)
    parser.add_argument("action", choices=["bootstrap"])
    parser.add_argument("name", help="busybox, or any image that a registry has")
    parser.add_argument("--offline", action="store_true", help="ask no registry")
    options = parser.parse_args(arguments)
    client = Client.for_home(home)
    reference = parse_reference(options.name).tagged()
    if _exists(client, options.name):
        print(f"ddock: {reference.familiar} is there already")
        return 0
    if not options.offline and _pulled(client, reference.familiar_name, reference.tag):
        return 0
    if reference.repository != _BUILT_HERE:
        print(
            f"ddock: no registry has {reference.familiar}, and only busybox can be made here",
            file=sys.stderr,
        )
        return 1
    try:
        image = build_busybox(client, reference.familiar)
    except NoBusybox as error:
        print(f"ddock: cannot make busybox: {error}", file=sys.stderr)
        return 1
    print(f"ddock: made {reference.familiar} from the host's packages ({image[:19]})")
    return 0


def build_busybox(client: Client, name: str) -> str:
    """Import busybox under a name; the image's id. Raises NoBusybox, ClientError."""
    with tempfile.TemporaryDirectory(prefix="ddock-busybox-") as directory:
        scratch = Path(directory)
        binary = find_binary(scratch)
        archive = root_tar(binary, applets_of(binary, scratch))
    query = {
        "fromSrc": "-",
        "repo": name,
        "message": "busybox-static as an image",
        "changes": [
            'CMD ["sh"]',
            "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ],
    }
    messages = list(client.messages("POST", "/images/create", query, archive))
    return str(messages[-1]["status"])


def _exists(client: Client, name: str) -> bool:
    try:
        client.request("GET", f"/images/{name}/json")
    except ClientError as error:
        if error.status != 404:
            raise
        return False
    return True


def _pulled(client: Client, name: str, tag: str) -> bool:
    try:
        for message in client.messages("POST", "/images/create", {"fromImage": name, "tag": tag}):
            if not message.get("progressDetail"):
                print(message["status"])
    except ClientError as error:
        if not error.status:
            raise
        print(f"ddock: no registry answers ({error})", file=sys.stderr)
        return False
    return True
