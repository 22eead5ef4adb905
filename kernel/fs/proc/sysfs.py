"""/sys: processors, memory and devices as the host has them, and nothing else of the host.

Only the listed subtrees of the host's /sys are passed on, names and small text files below them.
Links are followed where they stay in such a subtree, so nobody walks out of it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from kernel.fs.node import Node
from kernel.fs.proc import host
from kernel.fs.synthetic import Directory, File, SyntheticFs, Table
from kernel.net.interfaces import interfaces

if TYPE_CHECKING:
    from kernel.net.interfaces import Interface
    from kernel.task import Task

_SUBTREES: Final = (
    "devices/system/cpu",
    "devices/system/node",
    "devices/system/clocksource",
    "kernel/mm/transparent_hugepage",
    "kernel/mm/hugepages",
    "kernel/mm/ksm",
)
_EMPTY: Final = (
    "block", "bus", "class/block", "class/net", "class/tty", "dev/block", "dev/char", "firmware",
    "fs/cgroup", "hypervisor", "kernel/security", "module", "power",
)  # fmt: skip


class SysFs(SyntheticFs):
    """sysfs, read-only."""

    def __init__(self, device: int) -> None:
        super().__init__(b"sysfs", 0x62656572, device)
        self.readonly = True
        self.options = [b"nosuid", b"nodev", b"noexec"]
        root = Directory(self, None, b"")
        self.root: Node = root
        for path in _EMPTY:
            _directory(root, path)
        for path in _SUBTREES:
            if os.path.isdir("/sys/" + path):
                above, _, name = path.rpartition("/")
                parent = _directory(root, above)
                parent.add(passed_on(parent, name.encode(), b"/sys/" + path.encode()))
        class_ = _directory(root, "class")
        class_.add(Table(class_, b"net", _device_names, _device))


def _directory(root: Directory, path: str) -> Directory:
    node = root
    for name in path.encode().split(b"/"):
        child = node.children.get(name)
        if child is None:
            child = node.add(Directory(node.fs, node, name))
        assert isinstance(child, Directory)
        node = child
    return node


def passed_on(parent: Node, name: bytes, path: bytes) -> Node:
    """A directory of the host's /sys: its subdirectories and readable files."""

    def names(_task: Task) -> list[bytes]:
        try:
            return sorted(os.listdir(path))
        except OSError:
            return []

    def find(directory: Node, entry: bytes) -> Node | None:
        below = path + b"/" + entry
        if entry == b"uevent" or os.path.islink(below):
            return None
        if os.path.isdir(below):
            return passed_on(directory, entry, below)
        if not os.access(below, os.R_OK):
            return None
        node = File(directory, entry, lambda _task: host.read(below))
        node.size = 4096
        return node

    return Table(parent, name, names, find, 0o755)


def _devices(task: Task) -> list[Interface]:
    network = getattr(task.process.container, "network", None)
    return interfaces(network) if network is not None else []


def _device_names(task: Task) -> list[bytes]:
    return [device.name for device in _devices(task)]


def _device(parent: Node, name: bytes) -> Node | None:
    if name not in (b"lo", b"eth0"):
        return None
    node = Directory(parent.fs, parent, name, 0o755)

    def value(attribute: str) -> File:
        def content(task: Task) -> bytes:
            for device in _devices(task):
                if device.name == name:
                    return _text(device, attribute)
            return b""

        return File(node, attribute.encode(), content)

    for attribute in ("address", "mtu", "ifindex", "iflink", "flags", "type", "operstate"):
        node.add(value(attribute))
    return node


def _text(device: Interface, attribute: str) -> bytes:
    values: dict[str, bytes] = {
        "address": device.hardware.hex(":").encode(),
        "mtu": b"%d" % device.mtu,
        "ifindex": b"%d" % device.index,
        "iflink": b"%d" % device.index,
        "flags": b"0x%x" % device.flags,
        "type": b"%d" % device.type,
        "operstate": b"unknown" if device.name == b"lo" else b"up",
    }
    return values[attribute] + b"\n"
