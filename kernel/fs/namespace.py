"""The mounts a container starts with, from its spec: what runc and dockerd set up for Docker.

Root overlay, /proc, /dev with pts, shm and mqueue, /sys, the three generated files in /etc, then
the user's binds, volumes and tmpfs in their order. Everything that fails raises OSError or
ValueError naming the host path; what was opened until then is given back.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from kernel import isa
from kernel.credentials import Credentials
from kernel.errors import LinuxError
from kernel.fs import tmpfs
from kernel.fs.bind import BindFs
from kernel.fs.context import FsContext
from kernel.fs.devices import TerminalFs, populate
from kernel.fs.layerindex import Layer
from kernel.fs.metadata import DIRECTORY, REGULAR, SYMLINK
from kernel.fs.mounts import MountTable
from kernel.fs.node import Node
from kernel.fs.overlay import OverlayFs
from kernel.fs.owners import Journal
from kernel.fs.proc.cgroup import CgroupFs
from kernel.fs.proc.sysfs import SysFs
from kernel.fs.proc.tree import ProcFs
from kernel.fs.resolver import walk
from kernel.host.linux_fs import copy_data
from kernel.net.plan import container_address

if TYPE_CHECKING:
    from kernel.spec import ContainerSpec, MountEntry
    from kernel.task import Task

_SIZE_UNITS = {"k": 10, "m": 20, "g": 30}
_FLAG_WORDS = ("nosuid", "nodev", "noexec")
_FILES = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")


class Boot:
    """Stands for a task while the kernel itself walks and makes names: root, with all rights."""

    def __init__(self, mounts: MountTable) -> None:
        self.fs: FsContext = mounts.context()
        self.fs.umask = 0
        self.credentials = Credentials(effective=(1 << 41) - 1)

    @property
    def task(self) -> Task:
        """This object, for functions that ask for a Task."""
        return self  # type: ignore[return-value]


def open_root(layers: list[bytes], upper: bytes, device: int = os.makedev(0, 0xFF)) -> OverlayFs:
    """The overlay of layer directories (topmost first) and a container's upper directory.

    The upper directory gets its parts on first use. Raises OSError or ValueError.
    """
    root, work = upper + b"/root", upper + b"/work"
    os.makedirs(root, mode=0o755, exist_ok=True)
    tmpfs.remove_tree(work)
    os.mkdir(work, 0o700)
    opened = [Layer(directory) for directory in layers]
    journal = Journal(upper + b"/index.journal", os.stat(root).st_ino)
    try:
        return OverlayFs(opened, root, journal, work, device)
    except BaseException:
        journal.close()
        raise


def build(spec: ContainerSpec, console: bytes | None = None) -> MountTable:
    """All mounts of a container. `console`: the host path of its terminal (`docker run -t`)."""
    os.umask(0)  # modes are what the guests' umasks leave
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 10_000))  # trees may be deep
    tmpfs.discard_stale(spec.id, spec.runtime)
    layers = [os.fsencode(layer) for layer in spec.layers]
    root = open_root(layers, os.fsencode(spec.upper))
    mounts = MountTable(root, isa.of(spec.isa).stat)
    builder = _Builder(mounts, spec, console)
    try:
        builder.standard()
        targets = [entry["target"].rstrip("/") for entry in spec.mounts]
        builder.generated([name for name in _FILES if name not in targets])
        for entry in sorted(spec.mounts, key=lambda entry: entry["target"].count("/")):
            builder.entry(entry)
    except BaseException:
        mounts.close()
        tmpfs.discard(spec.id, spec.runtime, os.getpid())
        raise
    if spec.readonly_rootfs:
        root.readonly = True
    return mounts


class _Builder:
    def __init__(self, mounts: MountTable, spec: ContainerSpec, console: bytes | None) -> None:
        self.mounts = mounts
        self.spec = spec
        self.boot = Boot(mounts)
        self.private = mounts.private = tmpfs.private_directory(spec.id, spec.runtime)
        self.console = console

    def standard(self) -> None:
        """What every container has."""
        spec, mounts = self.spec, self.mounts
        self.file(b"/.dockerenv")
        mounts.proc = ProcFs(mounts.new_device())
        mounts.mount(mounts.proc, self.directory(b"/proc"))
        mounts.mount(SysFs(mounts.new_device()), self.directory(b"/sys"))
        mounts.mount(CgroupFs(mounts.new_device()), self.directory(b"/sys/fs/cgroup"))
        dev = self.mounts.new_tmpfs(0o755, 64 << 20)
        dev.options = [b"nosuid", b"size=65536k", b"mode=755"]
        mounts.device_nodes = populate(dev.root, self.console is not None)
        mounts.mount(dev, self.directory(b"/dev"))
        mounts.terminals = terminals = TerminalFs(mounts.new_device(), self.console)
        terminals.options = [b"nosuid", b"noexec", *terminals.options]
        mounts.mount(terminals, self.directory(b"/dev/pts"))
        shm = self.mounts.new_tmpfs(0o1777, spec.shm_size_bytes)
        shm.source = b"shm"
        shm.options = [b"nosuid", b"nodev", b"noexec", b"size=%dk" % (spec.shm_size_bytes >> 10)]
        mounts.mount(shm, self.directory(b"/dev/shm"))
        mqueue = self.mounts.new_tmpfs(0o1777)
        mqueue.type, mqueue.source, mqueue.magic = b"mqueue", b"mqueue", 0x19800202
        mqueue.options = [b"nosuid", b"nodev", b"noexec"]
        mounts.mount(mqueue, self.directory(b"/dev/mqueue"))

    def generated(self, names: list[str]) -> None:
        """/etc/hostname, hosts and resolv.conf: files of ours, writable in the container."""
        contents = {
            "/etc/hostname": self.spec.hostname + "\n",
            "/etc/hosts": hosts(self.spec),
            "/etc/resolv.conf": resolv_conf(self.spec),
        }
        for name in names:
            path = self.private + b"/" + os.path.basename(os.fsencode(name))
            with open(path, "wb") as file:
                file.write(contents[name].encode(errors="surrogateescape"))
            os.chmod(path, 0o644)
            self.mounts.mount(BindFs(path), self.file(os.fsencode(name)))

    def entry(self, entry: MountEntry) -> None:
        """One mount of the user's."""
        target = os.fsencode(entry["target"])
        words = entry["options"]
        if entry["type"] == "tmpfs":
            fs = self.mounts.new_tmpfs(_number(words, "mode", 8, 0o1777), _size(words))
            fs.options = [b"nosuid", b"nodev", b"noexec"]
            fs.options += [os.fsencode(word) for word in words if "=" in word]
            fs.options = [o for o in fs.options if o.decode() not in _allowed(words)]
            fs.readonly = entry["readonly"] or "ro" in words
            self.mounts.mount(fs, self.directory(target))
            return
        bind = BindFs(os.fsencode(entry["source"]), volume="volume" in words)
        bind.options = [os.fsencode(word) for word in _FLAG_WORDS if word in words]
        if bind.root.kind == DIRECTORY:
            point = self.directory(target)
            if "copy" in words:
                _copy_up_to_volume(self.boot.task, point, bind.root)
        else:
            point = self.file(target)
        bind.readonly = entry["readonly"] or "ro" in words
        self.mounts.mount(bind, point)

    def directory(self, path: bytes) -> Node:
        """The directory at `path`, made with its parents if it is missing."""
        return self._place(path, DIRECTORY)

    def file(self, path: bytes) -> Node:
        """The file at `path`, made (empty) if it is missing."""
        return self._place(path, REGULAR)

    def _place(self, path: bytes, kind: int) -> Node:
        names = [name for name in path.split(b"/") if name]
        node: Node = self.mounts.root.root
        for i, _ in enumerate(names):
            prefix = b"/" + b"/".join(names[: i + 1])
            node = walk(self.boot.task, node, prefix)
            if node.kind:
                continue
            parent = node.parent
            assert parent is not None
            before = parent.attributes()
            try:
                if i + 1 < len(names) or kind == DIRECTORY:
                    parent.make_directory(node, 0o755, (0, 0))
                else:
                    os.close(parent.create(node, 0o644, (0, 0), os.O_RDONLY))
                parent.set_times(before.atime_ns, before.mtime_ns)  # `docker diff` ignores this
            except LinuxError as error:
                raise OSError(error.errno, os.strerror(error.errno), os.fsdecode(prefix)) from None
        if (node.kind == DIRECTORY) != (kind == DIRECTORY):
            code = errno.ENOTDIR if kind == DIRECTORY else errno.EISDIR
            raise OSError(code, "mounting a directory on a file or the reverse", os.fsdecode(path))
        return node


def hosts(spec: ContainerSpec) -> str:
    """The content of /etc/hosts."""
    lines = [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::\tip6-localnet",
        "ff00::\tip6-mcastprefix",
        "ff02::1\tip6-allnodes",
        "ff02::2\tip6-allrouters",
        *spec.hosts,
    ]
    if not any(spec.hostname in line.split()[1:] for line in lines):
        bridged = spec.address and spec.network == "bridge"
        address = container_address(spec.address) if bridged else "127.0.0.1"
        lines.append(f"{address}\t{spec.hostname}")
    return "\n".join(lines) + "\n"


def resolv_conf(spec: ContainerSpec) -> str:
    """The content of /etc/resolv.conf: the user's servers, else the container's own."""
    lines = [f"nameserver {server}" for server in spec.dns or ["127.0.0.11"]]
    if spec.dns_search:
        lines.append("search " + " ".join(spec.dns_search))
    options = spec.dns_options or ["ndots:0"]
    return "\n".join([*lines, "options " + " ".join(options)]) + "\n"


def _number(words: list[str], name: str, base: int, default: int) -> int:
    for word in words:
        if word.startswith(name + "="):
            return int(word.partition("=")[2], base)
    return default


def _size(words: list[str]) -> int:
    for word in words:
        if word.startswith("size="):
            text = word[5:].lower()
            shift = _SIZE_UNITS.get(text[-1:], 0)
            return int(text[:-1] if shift else text) << shift
    return 0


def _allowed(words: list[str]) -> set[str]:
    """Flags that words like `exec` take back."""
    return {"no" + word for word in words if "no" + word in _FLAG_WORDS}


def _copy_up_to_volume(task: Task, source: Node, target: Node) -> None:
    """Fill a new volume with what the image has at its target."""
    for entry in source.entries(task):
        with suppress(LinuxError):
            _copy_node(task, source.lookup(entry.name), target.lookup(entry.name), target)
    source.refresh()
    target.change_owner(source.uid, source.gid, source.mode & 0o7777)


def _copy_node(task: Task, node: Node, copy: Node, directory: Node) -> None:
    if copy.kind:
        return
    a = node.attributes()
    owner, mode = (a.uid, a.gid), a.mode & 0o7777
    if node.kind == DIRECTORY:
        directory.make_directory(copy, mode, owner)
        _copy_up_to_volume(task, node, copy)
    elif node.kind == SYMLINK:
        directory.make_symlink(copy, node.readlink(task), owner)
    elif node.kind == REGULAR:
        source, _ = node.open(task, os.O_RDONLY)
        try:
            target = directory.create(copy, mode, owner, os.O_WRONLY)
            try:
                copy_data(source, target, a.size)
            finally:
                os.close(target)
        finally:
            os.close(source)
    else:
        directory.make_node(copy, a.mode, a.rdev, owner)
    directory.lookup(copy.name).set_times(a.atime_ns, a.mtime_ns)
