"""A container's files as tar, for `docker cp`, `export`, `diff`; bytes go through pipes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import msgpack

from api.engine.container import Container
from api.engine.errors import EngineError, Forbidden, InvalidParameter, NotFound
from api.engine.lifecycle import Lifecycle
from api.engine.pipes import read_pipe, write_pipe
from api.engine.runtime import KernelError


class FileService:
    """Reads and writes the files of running and of stopped containers."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    async def stat(self, container: Container, path: str) -> dict[str, Any]:
        """What the path is: name, size, mode (st_mode), mtime_ns, link_target. Raises NotFound."""
        async with self._lifecycle.kernel_for_files(container) as kernel:
            try:
                answer: dict[str, Any] = await kernel.call("archive-stat", path=path)
            except KernelError as error:
                raise _translate(error, container, path) from None
            return answer

    async def changes(self, container: Container) -> list[dict[str, Any]]:
        """What differs from the image, by path: maps of `kind` and `path`.

        The kernel answers with a list or, where that would not fit a message, writes the maps
        one after the other to the pipe.
        """
        async with self._lifecycle.kernel_for_files(container) as kernel:
            reading, writing = os.pipe2(os.O_CLOEXEC)
            try:
                call = kernel.submit("changes", (writing,))
            finally:
                os.close(writing)
            unpacker = msgpack.Unpacker(unicode_errors="surrogateescape")
            async for chunk in read_pipe(reading):
                unpacker.feed(chunk)
            answer = await call
            return answer if isinstance(answer, list) else list(unpacker)

    async def get(
        self, container: Container, path: str
    ) -> tuple[dict[str, Any], AsyncIterator[bytes]]:
        """A path's stat and its tar. Raises NotFound."""
        stat = await self.stat(container, path)
        return stat, self._read(container, "archive-get", path=path)

    def export(self, container: Container) -> AsyncIterator[bytes]:
        """The whole root file system as tar."""
        return self._read(container, "export")

    def layer(self, container: Container) -> AsyncIterator[bytes]:
        """What the container changed, as the tar of an image layer (with whiteouts)."""
        return self._read(container, "layer")

    async def put(
        self,
        container: Container,
        path: str,
        chunks: AsyncIterator[bytes],
        *,
        keep_kind: bool,
        copy_ids: bool,
    ) -> None:
        """Unpack a tar below a directory. Raises NotFound, InvalidParameter, Forbidden."""
        if container.host["ReadonlyRootfs"] and not _on_mount(container, path):
            raise Forbidden("container rootfs is marked read-only")
        async with self._lifecycle.kernel_for_files(container) as kernel:
            reading, writing = os.pipe2(os.O_CLOEXEC)
            try:
                call = kernel.submit(
                    "archive-put",
                    (reading,),
                    path=path,
                    no_overwrite_dir_non_dir=keep_kind,
                    copy_uid_gid=copy_ids,
                )
            finally:
                os.close(reading)
            feeding = asyncio.ensure_future(write_pipe(writing, chunks))
            try:
                await call
            except KernelError as error:
                raise _translate(error, container, path) from None
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)

    async def _read(
        self, container: Container, operation: str, **arguments: Any
    ) -> AsyncGenerator[bytes, None]:
        async with AsyncExitStack() as stack:
            kernel = await stack.enter_async_context(self._lifecycle.kernel_for_files(container))
            reading, writing = os.pipe2(os.O_CLOEXEC)
            try:
                call = kernel.submit(operation, (writing,), **arguments)
            finally:
                os.close(writing)
            try:
                async for chunk in read_pipe(reading):
                    yield chunk
                await call
            finally:
                call.cancel()


def go_file_mode(st_mode: int) -> int:
    """Go's os.FileMode of a Linux st_mode: `X-Docker-Container-Path-Stat` carries that."""
    kinds = {
        0o040000: 1 << 31,
        0o120000: 1 << 27,
        0o060000: 1 << 26,
        0o010000: 1 << 25,
        0o140000: 1 << 24,
        0o020000: 1 << 26 | 1 << 21,
    }
    mode = st_mode & 0o777 | kinds.get(st_mode & 0o170000, 0)
    for bit, flag in ((0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)):
        if st_mode & bit:
            mode |= flag
    return mode


def _on_mount(container: Container, path: str) -> bool:
    clean = "/" + path.strip("/")
    return any(
        point.writable and (clean + "/").startswith(point.destination.rstrip("/") + "/")
        for point in container.record.mounts
    )


def _translate(error: KernelError, container: Container, path: str) -> EngineError:
    match error.kind:
        case "not-found":
            return NotFound(f"Could not find the file {path} in container {container.name}")
        case "not-directory":
            return InvalidParameter("extraction point is not a directory")
        case "invalid":
            return InvalidParameter(str(error))
    return error
