"""The control operations on files: `docker cp`, `export`, `diff`, whether guests run or not.

Trees are streamed in small steps between which the guests are served; a tar to unpack is first
spooled, so that a slow client cannot hold up the kernel.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgpack

from kernel.capabilities import ALL_CAPABILITIES
from kernel.credentials import container_credentials
from kernel.errors import LinuxError
from kernel.fs import archive
from kernel.fs.changes import changes
from kernel.fs.metadata import DIRECTORY, SYMLINK
from kernel.fs.resolver import walk

if TYPE_CHECKING:
    from kernel.container import Container
    from kernel.fs.node import Node
    from kernel.look import Look

_CHUNK_BYTES = 1 << 18
_TEXT: dict[str, Any] = {"unicode_errors": "surrogateescape"}


class Archives:
    """File operations on one container, as its root."""

    def __init__(self, container: Container) -> None:
        self._container = container

    def _look(self) -> Look:
        who = container_credentials(0, 0, [], ALL_CAPABILITIES)
        return self._container.look(who, self._container.mounts.context())

    def _node(self, look: Look, path: str, follow: bool) -> Node:
        node = walk(look.task, look.fs.root, b"/" + os.fsencode(path), follow)
        if not node.kind:
            raise LinuxError(2)
        return node

    def stat(self, path: str) -> dict[str, Any]:
        """name, size, mode (st_mode), mtime_ns and link_target; a last link is not followed."""
        look = self._look()
        node = self._node(look, path, follow=False)
        a = node.attributes()
        target = node.readlink(look.task) if node.kind == SYMLINK else b""
        name = os.path.basename(path.rstrip("/")) or "/"
        return {
            "name": name, "size": a.size, "mode": a.mode, "mtime_ns": a.mtime_ns,
            "link_target": os.fsdecode(target),
        }  # fmt: skip

    async def changes(self, fd: int) -> None:
        """Write what differs from the image to `fd`: msgpack maps of `kind` and `path`."""
        found = changes(self._container.mounts.root)  # type: ignore[arg-type]
        packed = (
            msgpack.packb({"kind": c.kind, "path": os.fsdecode(c.path)}, **_TEXT) for c in found
        )
        await _pour(packed, fd)

    async def layer(self, fd: int) -> None:
        """Write what differs from the image to `fd`, as the tar of an image layer."""
        overlay = self._container.mounts.root
        found = changes(overlay)  # type: ignore[arg-type]
        await _pour(archive.layer(self._look().task, overlay.root, found), fd)

    async def get(self, path: str, fd: int) -> None:
        """Write the tar of `path` to `fd`."""
        look = self._look()
        node = self._node(look, path, follow=False)
        name = os.fsencode(os.path.basename(path.rstrip("/"))) or b"."
        await _pour(archive.get(look.task, node, name), fd)

    async def export(self, fd: int) -> None:
        """Write the tar of the root file system to `fd`."""
        look = self._look()
        await _pour(archive.export(look.task, self._container.mounts.root.root), fd)

    async def put(self, path: str, fd: int, *, keep_kind: bool) -> None:
        """Unpack the tar that comes from `fd` below the directory `path`."""
        look = self._look()
        node = self._node(look, path, follow=True)
        if node.kind != DIRECTORY:
            raise LinuxError(20)
        with tempfile.TemporaryFile(dir=self._container.spec.runtime) as spool:
            loop = asyncio.get_running_loop()
            while data := await loop.run_in_executor(None, os.read, fd, _CHUNK_BYTES):
                spool.write(data)
            spool.seek(0)
            for _ in archive.put(look.task, node, spool, keep_kind=keep_kind):
                await asyncio.sleep(0)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _pour(chunks: Iterator[bytes], fd: int) -> None:
    """Write the chunks to a pipe without blocking the loop. BrokenPipeError: nobody reads."""
    os.set_blocking(fd, False)
    loop = asyncio.get_running_loop()
    for chunk in chunks:
        view = memoryview(chunk)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                ready: asyncio.Future[None] = loop.create_future()
                loop.add_writer(fd, _settle, ready)
                try:
                    await ready
                finally:
                    loop.remove_writer(fd)
        await asyncio.sleep(0)
