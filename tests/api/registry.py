"""A registry in a thread, with the faults that a client must survive."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import zstandard

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """Holds blobs and manifests by name; `faults` maps a path's end to what goes wrong there."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.requests: list[str] = []
        self.token = ""  # when set, a bearer token is needed
        self.basic = ""  # "user:password" that the token service wants
        self.redirect_blobs = False
        self.truncate_once: set[str] = set()
        self.alter: Callable[[str, bytes], bytes] = lambda _, data: data
        handler = type("Handler", (_Handler,), {"registry": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def add_blob(self, data: bytes) -> dict[str, Any]:
        self.blobs[digest_of(data)] = data
        return {"digest": digest_of(data), "size": len(data)}

    def add_manifest(self, content: dict[str, Any], media_type: str, *names: str) -> dict[str, Any]:
        data = json.dumps({"schemaVersion": 2, "mediaType": media_type, **content}).encode()
        for name in (*names, digest_of(data)):
            self.manifests[name] = (media_type, data)
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    def add_image(
        self,
        *tags: str,
        layers: list[bytes],
        compression: str = "gzip",
        architecture: str = "amd64",
        media_type: str = OCI_MANIFEST,
        **settings: Any,
    ) -> dict[str, Any]:
        """An image of plain tars; its manifest's descriptor."""
        config = {
            "architecture": architecture,
            "os": "linux",
            "created": "2026-01-02T03:04:05Z",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
        }
        kinds: dict[str, Callable[[bytes], bytes]] = {
            "gzip": gzip.compress,
            "zstd": zstandard.ZstdCompressor().compress,
            "none": lambda data: data,
        }
        content = {
            "config": self.add_blob(json.dumps(config).encode()),
            "layers": [self.add_blob(kinds[compression](layer)) for layer in layers],
        }
        return self.add_manifest(content, media_type, *tags)


class _Handler(BaseHTTPRequestHandler):
    registry: Registry
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        registry, path = self.registry, self.path
        registry.requests.append(path)
        if path.startswith("/token"):
            self._token()
        elif registry.token and self.headers.get("Authorization") != f"Bearer {registry.token}":
            challenge = (
                f'Bearer realm="http://{registry.host}/token",service="test",'
                'scope="repository:team/app:pull"'
            )
            self._answer(401, b"{}", {"WWW-Authenticate": challenge})
        elif path == "/v2/":
            self._answer(200, b"{}")
        elif "/manifests/" in path:
            self._manifest(path.rpartition("/")[2])
        elif path.startswith("/elsewhere/"):
            self._blob(path.rpartition("/")[2])
        elif "/blobs/" in path and registry.redirect_blobs:
            target = f"http://{registry.host}/elsewhere/{path.rpartition('/')[2]}"
            self._answer(307, b"", {"Location": target})
        elif "/blobs/" in path:
            self._blob(path.rpartition("/")[2])
        else:
            self._answer(404, b"{}")

    def _token(self) -> None:
        registry = self.registry
        expected = "Basic " + base64.b64encode(registry.basic.encode()).decode()
        if registry.basic and self.headers.get("Authorization") != expected:
            self._answer(401, b"{}")
            return
        self._answer(200, json.dumps({"token": registry.token}).encode())

    def _manifest(self, name: str) -> None:
        found = self.registry.manifests.get(name)
        if found is None:
            self._answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
            return
        media_type, data = found
        headers = {"Content-Type": media_type, "Docker-Content-Digest": digest_of(data)}
        self._answer(200, self.registry.alter(self.path, data), headers)

    def _blob(self, digest: str) -> None:
        data = self.registry.blobs.get(digest)
        if data is None:
            self._answer(404, b"{}")
            return
        data = self.registry.alter(self.path, data)
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        status = 206 if start else 200
        if digest in self.registry.truncate_once:
            self.registry.truncate_once.discard(digest)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            self.wfile.write(data[start : start + (len(data) - start) // 2])
            self.close_connection = True
            return
        self._answer(status, data[start:])

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
