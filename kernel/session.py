"""One container's kernel process, from the fork to its end.

It builds the container, serves the daemon's control socket and ends when init has ended or the
daemon has hung up. Its descriptors: the control socket and the first process's stdio.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket

import uvloop

import tables
from codegen.cache import TranslationCache
from codegen.emulator_filter import build_filter
from codegen.image import StubImage
from codegen.layout import STUB_FDS
from kernel import families
from kernel.capabilities import docker_capabilities
from kernel.confinement import Confinement
from kernel.container import Container
from kernel.control import Control
from kernel.fs import namespace
from kernel.host import engines
from kernel.host.landlock import landlock_version
from kernel.host.linux import become_subreaper
from kernel.host.walls import Walls
from kernel.net.interfaces import socket_ioctl
from kernel.net.network import Network
from kernel.packets import Message, PacketChannel
from kernel.patching import Translations
from kernel.scanning import Scanner
from kernel.spec import ContainerSpec
from kernel.syscalls.declare import decoders

_log = logging.getLogger("ddock.kernel")


def warm_up() -> None:
    """Import and load everything a kernel needs: done once, in the zygote."""
    families.load()
    decoders(tables.load(engines.host_isa()))
    landlock_version()


def run(spec: ContainerSpec, stub: StubImage, cache: TranslationCache, fds: list[int]) -> None:
    """Be the kernel of `spec` until its end. `fds`: control socket, stdin, stdout, stderr."""
    os.setsid()
    os.umask(0)
    _raise_descriptor_limit()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(_serve(spec, stub, cache, fds))
    loop.close()


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # The stub's numbers are taken here too: no descriptor of ours can be confused with them.
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    for number in STUB_FDS:
        os.dup2(null, number, inheritable=False)
    os.close(null)


async def _serve(
    spec: ContainerSpec, stub: StubImage, cache: TranslationCache, fds: list[int]
) -> None:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int | None] = loop.create_future()

    def end(status: int | None) -> None:
        if not ended.done():
            ended.set_result(status)

    sock = socket.socket(fileno=fds[0])
    try:
        mounts = namespace.build(spec, _console(fds[1]) if spec.terminal else None)
    except (OSError, ValueError) as error:
        await _refuse(sock, str(error))
        return
    engine = engines.find(spec.isa)
    if engine is None:
        await _refuse(sock, f"no engine for {spec.isa} guests on this host")
        return
    if engine.forks_twice:
        become_subreaper()
    container = Container(spec, tables.load(spec.isa), stub, mounts, end, engine)
    container.capabilities = docker_capabilities(spec.cap_add, spec.cap_drop, spec.privileged)
    if spec.address or spec.network == "host":  # none where only files are looked at
        container.network = Network(spec.address, spec.id, spec.network)
    container.ioctl_handler = socket_ioctl
    container.translations = translations = (
        Scanner(stub, spec.cache, container.page_size)
        if container.isa.scanned
        else Translations(container, cache)
    )
    if engine.emulator is not None:
        code = build_filter(tables.load(engines.host_isa()))
        container.walls = Walls(engine.emulator, str(stub.path), code)
    container.confinement = Confinement(container, landlock_version() > 0)
    container.start(loop)
    container.memory.set(spec.memory_bytes)
    control = Control(container, fds[1:4])
    channel = PacketChannel(sock, control.received, lambda: end(None))
    control.channel = channel
    try:
        status = await ended
        container.close()
        mounts.close()  # before the daemon hears of the end: it may start the next kernel
        if status is not None and channel.is_open:
            channel.send(
                {
                    "event": "exit",
                    "code": exit_code(status),
                    "oom": container.oom_killed,
                    "error": "",
                    "calls": {
                        "entered": container.calls_entered,
                        "trapped": container.calls_trapped,
                    },
                    "unimplemented": container.dispatcher.unimplemented,
                }
            )
            await channel.drained()
        await translations.close()
    finally:
        channel.close()
        mounts.close()


def _console(fd: int) -> bytes | None:
    return os.fsencode(os.ttyname(fd)) if os.isatty(fd) else None


async def _refuse(sock: socket.socket, why: str) -> None:
    """The container cannot be assembled: say so to whatever the daemon asks first, and end."""
    asked: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def settle(number: int) -> None:
        if not asked.done():
            asked.set_result(number)

    def received(message: Message, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        settle(message.get("id", 0))

    channel = PacketChannel(sock, received, lambda: settle(0))
    number = await asked
    if channel.is_open:
        channel.send({"id": number, "error": {"kind": "invalid", "message": why}})
        await channel.drained()
    channel.close()


def exit_code(status: int) -> int:
    """Docker's exit code of a wait status: 128 + signal for a killed process."""
    return 128 + (status & 0x7F) if status & 0x7F else status >> 8 & 0xFF
