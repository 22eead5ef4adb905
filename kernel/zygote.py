"""The zygote: has imported everything, and forks a kernel process for each container.

    python -m kernel.zygote FD CACHE

FD is a SEQPACKET socket to the daemon, CACHE the directory of its caches. A fork of a warm process
takes a few milliseconds and shares its memory; a Python start takes hundreds. The zygote runs no
event loop and opens nothing that a kernel would have to close but its socket. When the daemon hangs
up, the zygote ends.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack

import tables
from codegen import svc_texts
from codegen.cache import TranslationCache
from codegen.image import StubImage, build_stub, encodings
from codegen.poll import build_poll
from codegen.svc_patch import Entries
from codegen.variant import ORDINARY
from kernel import isa as instruction_sets
from kernel import session
from kernel.fs import tmpfs
from kernel.host import engines
from kernel.marshal import rows
from kernel.packets import receive_packet
from kernel.spec import ContainerSpec

_log = logging.getLogger("ddock.zygote")


class Zygote:
    """The fork server."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._stubs: dict[tuple[str, str], tuple[StubImage, TranslationCache]] = {}
        self._kernels: dict[int, tuple[str, str]] = {}  # pid -> container id, runtime directory
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def warm_up(self, cache: str) -> None:
        """Make what the host's own guests need, and let every kernel share it."""
        session.warm_up()
        try:
            self._stub(cache, engines.host_isa())
        except Exception:  # noqa: BLE001 - the start of a container will tell the user
            _log.exception("no stub in %s", cache)
        gc.collect()
        gc.freeze()

    def serve(self) -> None:
        """Fork kernels until the daemon hangs up."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
                self._reap()
            if self._socket.fileno() in ready:
                data, fds = receive_packet(self._socket)
                if not data:
                    return
                self._boot(msgpack.unpackb(data, unicode_errors="surrogateescape"), fds)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            identity = self._kernels.pop(pid, None)
            if identity is not None:
                self._discard(pid, *identity)
            self._send({"op": "died", "pid": pid, "status": os.waitstatus_to_exitcode(status)})

    @staticmethod
    def _discard(pid: int, container: str, runtime: str) -> None:
        """Remove what a killed kernel could not."""
        try:
            tmpfs.discard(container, runtime, pid)
        except OSError as error:
            _log.warning("left behind by kernel %d: %s", pid, error)

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._socket.send(msgpack.packb(message, unicode_errors="surrogateescape"))
        except OSError as error:
            _log.warning("daemon does not listen: %s", error)

    def _boot(self, message: dict[str, Any], fds: list[int]) -> None:
        try:
            spec = ContainerSpec.from_dict(message["spec"])
            stub, cache = self._stub(spec.cache, spec.isa)
            pid = os.fork()
        except Exception as error:  # noqa: BLE001 - told to the daemon
            _log.exception("boot failed")
            self._send({"ok": False, "error": {"kind": "internal", "message": str(error)}})
        else:
            self._kernels[pid] = (spec.id, spec.runtime)
            if pid == 0:
                self._become_kernel(spec, stub, cache, fds)
            self._send({"ok": True, "pid": pid})
        finally:
            for fd in fds:
                os.close(fd)

    def _become_kernel(
        self, spec: ContainerSpec, stub: StubImage, cache: TranslationCache, fds: list[int]
    ) -> None:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._socket.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            session.run(spec, stub, cache, fds)
            status = 0
        except BaseException:  # noqa: BLE001 - the end of this process
            _log.exception("kernel of %s failed", spec.id[:12])
        finally:
            logging.shutdown()
            os._exit(status)

    def _stub(self, directory: str, isa: str) -> tuple[StubImage, TranslationCache]:
        """An ISA's stub and the translation cache of a cache directory, made on first use."""
        found = self._stubs.get((directory, isa))
        if found is None:
            abi = tables.load(isa)
            engine = engines.find(isa)
            variant = engine.variant if engine is not None else ORDINARY
            parts = isa, abi.numbers, rows(abi), Path(directory), variant
            poll = engines.host_isa(), Path(directory)
            if not (encodings(isa, Path(directory)).exists() and encodings(*poll).exists()):
                _run_apart(lambda: (build_stub(*parts), build_poll(*poll)))
            stub = build_stub(*parts)
            build_poll(*poll)  # kept there for the kernels
            if engine is not None and instruction_sets.of(isa).scanned:
                svc_texts.remove_others(
                    directory, Entries.of_stub(stub.symbols), engine.profile.page_size
                )
            found = stub, TranslationCache(directory, stub.entry, renew=True)
            self._stubs[directory, isa] = found
        return found


def _run_apart(function: Callable[[], object]) -> None:
    """Run it in a child, for what it leaves on disk: what it had loaded (Keystone) goes with it."""
    pid = os.fork()
    if pid == 0:
        try:
            function()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def main() -> None:
    """Serve the socket whose number is the first argument."""
    logging.basicConfig(
        level=os.environ.get("DDOCK_LOG", "WARNING"), format="%(asctime)s %(name)s %(message)s"
    )
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    zygote = Zygote(sock)
    zygote.warm_up(sys.argv[2])
    zygote.serve()


if __name__ == "__main__":
    main()
