"""`ddock image bootstrap NAME`: see that a base image exists, with or without a registry."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from api.engine.errors import InvalidParameter
from api.engine.home import Home
from api.engine.platforms import Platform, parse_platform
from api.engine.references import Reference, parse_reference
from cli.busybox import NoBusybox, applets_of, find_binary, root_tar
from cli.client import Client, ClientError
from kernel.host import engines

_BUILT_HERE = "docker.io/library/busybox"


def main(home: Home, arguments: list[str]) -> int:
    """0 when the image is there."""
    parser = argparse.ArgumentParser(prog="ddock image", description=__doc__)
    parser.add_argument("action", choices=["bootstrap"])
    parser.add_argument("name", help="busybox, or any image that a registry has")
    parser.add_argument("--offline", action="store_true", help="ask no registry")
    parser.add_argument("--platform", default="", help="linux/arm64, for example; else the host's")
    options = parser.parse_args(arguments)
    try:
        platform = parse_platform(options.platform)
    except InvalidParameter as error:
        parser.error(str(error))
    client = Client.for_home(home)
    reference = parse_reference(options.name).tagged()
    if _exists(client, options.name, platform):
        print(f"ddock: {reference.familiar} is there already")
        return 0
    if not options.offline and _pulled(client, reference, platform):
        return 0
    if reference.repository != _BUILT_HERE:
        print(
            f"ddock: no registry has {reference.familiar}, and only busybox can be made here",
            file=sys.stderr,
        )
        return 1
    try:
        image = build_busybox(client, reference.familiar, platform)
    except NoBusybox as error:
        print(f"ddock: cannot make busybox: {error}", file=sys.stderr)
        return 1
    where = f" for {platform}" if platform else ""
    print(f"ddock: made {reference.familiar}{where} from the host's packages ({image[:19]})")
    return 0


def build_busybox(client: Client, name: str, platform: Platform | None) -> str:
    """Import busybox under a name; the image's id. Raises NoBusybox, ClientError."""
    isa = platform.isa if platform else engines.host_isa()
    if isa is None:
        raise NoBusybox(f"there is none for {platform}, only for linux/amd64 and linux/arm64")
    with tempfile.TemporaryDirectory(prefix="ddock-busybox-") as directory:
        scratch = Path(directory)
        binary = find_binary(scratch, isa)
        archive = root_tar(binary, applets_of(binary, scratch, isa))
    query = {
        "fromSrc": "-",
        "repo": name,
        "message": "busybox-static as an image",
        "platform": str(platform or ""),
        "changes": [
            'CMD ["sh"]',
            "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ],
    }
    messages = list(client.messages("POST", "/images/create", query, archive))
    return str(messages[-1]["status"])


def _exists(client: Client, name: str, platform: Platform | None) -> bool:
    query = {"platform": json.dumps(platform.to_json())} if platform else {}
    try:
        client.request("GET", f"/images/{name}/json", query)
    except ClientError as error:
        if error.status != 404:
            raise
        return False
    return True


def _pulled(client: Client, reference: Reference, platform: Platform | None) -> bool:
    query = {
        "fromImage": reference.familiar_name,
        "tag": reference.tag,
        "platform": str(platform or ""),
    }
    try:
        for message in client.messages("POST", "/images/create", query):
            if not message.get("progressDetail"):
                print(message["status"])
    except ClientError as error:
        if not error.status:
            raise
        print(f"ddock: no registry answers ({error})", file=sys.stderr)
        return False
    return platform is None or _exists(client, reference.familiar, platform)
