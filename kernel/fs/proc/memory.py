"""/proc/PID/maps and its relatives: the host's, without the stub and with the container's paths.

Hidden are the stub with its slots, and the low tables that patched text jumps through. Text that
runs from the translation cache is shown as the file it was made from, which the mapping before it
or behind it names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from codegen.svc_texts import MEMFD_NAME
from kernel.fs.proc import host

if TYPE_CHECKING:
    from kernel.fs.node import FileSystem
    from kernel.process import Process

STUB: Final = range(0x6800_0000_0000, 0x6801_0000_0000)
LOW_TABLES: Final = range(0x050F_0000, 0x0516_0000)
COPY: Final = b"/memfd:" + MEMFD_NAME.encode()  # of text, made by the kernel
_PAGE_SIZE = re.compile(rb"(?m)^(KernelPageSize: *|MMUPageSize: *)\d+ kB$")
_LINE = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+) *(.*)")


def maps(process: Process) -> bytes:
    """/proc/PID/maps."""
    return b"".join(line for line, _ in _mappings(process, b"maps"))


def smaps(process: Process) -> bytes:
    """/proc/PID/smaps."""
    text = b"".join(line + details for line, details in _mappings(process, b"smaps"))
    if process.container.larger_pages:
        text = _PAGE_SIZE.sub(rb"\g<1>%d kB" % (process.container.page_size >> 10), text)
    return text


def smaps_rollup(process: Process) -> bytes:
    """/proc/PID/smaps_rollup: the sums of smaps."""
    totals: dict[bytes, int] = {}
    first, last = None, b"0"
    for line, details in _mappings(process, b"smaps"):
        start, _, rest = line.partition(b"-")
        first = first or start
        last = rest.partition(b" ")[0]
        for row in details.splitlines():
            name, _, value = row.partition(b":")
            fields = value.split()
            if len(fields) == 2 and fields[1] == b"kB" and not name.endswith(b"PageSize"):
                totals[name] = totals.get(name, 0) + int(fields[0])
    totals.pop(b"Size", None)
    out = [b"%s-%s ---p 00000000 00:00 0 %25s\n" % (first or b"0", last, b"[rollup]")]
    out += [b"%-16s%8d kB\n" % (name + b":", value) for name, value in totals.items()]
    return b"".join(out)


def _mappings(process: Process, name: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(header line, detail lines) of each mapping the guest may see."""
    cache = os.fsencode(getattr(process.container.spec, "cache", "")) or b"\0"
    header = b""
    details: list[bytes] = []
    before = (0, 0, b"", b"")  # end, next file offset, device and inode, path of the last mapping
    skipped = False  # the details are of a mapping that is not shown by itself
    lines = host.read_of(process, name).splitlines(keepends=True)
    headers = {int(match[1], 16): match for match in map(_LINE.match, lines) if match}
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            if not skipped:
                details.append(line)
            continue
        if header and _continues(process, match, before):
            header = header.replace(b"-%s " % match[1], b"-%s " % match[2], 1)
            before = (int(match[2], 16), *before[1:])
            skipped = True
            continue
        skipped = False
        if header:
            yield header, b"".join(details)
        header, details = b"", []
        start, end, offset = (int(match[i], 16) for i in (1, 2, 4))
        path, identity = match[7], match[5] + b" " + match[6]
        if _hidden(process, start, end, path):
            continue
        if path.startswith((cache, COPY)):
            if before[0] == start:
                offset, identity, path = before[1:]
            else:
                offset, identity, path = _continued(process, headers.get(end), end - start)
        elif not path and start <= process.stack_at < end:
            path = b"[stack]"  # an emulator's host does not know it
        elif path.startswith(b"/"):
            path, identity = _translate(process, path, match[5], match[6])
        before = (end, offset + end - start, identity, path)
        allowed = _permissions(process, start, match[3])
        text = b"%s-%s %s %08x %s " % (match[1], match[2], allowed, offset, identity)
        header = text.ljust(73) + path + b"\n" if path else text + b"\n"
    if header:
        yield header, b"".join(details)


def _continues(
    process: Process, match: re.Match[bytes], before: tuple[int, int, bytes, bytes]
) -> bool:
    """Whether this is the end of a file's last page, past the host's last page of it."""
    start = int(match[1], 16)
    return start % process.container.page_size > 0 and start == before[0] and not match[7]


def _continued(
    process: Process, following: re.Match[bytes] | None, size: int
) -> tuple[int, bytes, bytes]:
    """(offset, identity, path) of copied text that the mapping behind it continues, if it does."""
    if following is None or not following[7].startswith(b"/") or int(following[4], 16) < size:
        return 0, b"00:00 0", b""
    path, identity = _translate(process, following[7], following[5], following[6])
    return int(following[4], 16) - size, identity, path


def _hidden(process: Process, start: int, end: int, name: bytes) -> bool:
    if process.container.engine.is_own(start, name):
        return True
    if start < STUB.stop and end > STUB.start:
        return True
    if start % process.container.page_size:  # the emulator's: what guests map lies at whole pages
        return True
    return process.patchable and start < LOW_TABLES.stop and end > LOW_TABLES.start


def _permissions(process: Process, start: int, host: bytes) -> bytes:
    """As the guest asked: the host's may lack x until the page is executed.

    What calls that never reach the kernel have made of the range since is not known here.
    """
    scanned = process.texts.scanned
    found = scanned.pages.at(start) if scanned is not None and host[:3] == b"r--" else None
    return host[:2] + b"x" + host[3:] if found is not None and found[2].prot & 4 else host


def _translate(process: Process, path: bytes, device: bytes, ino: bytes) -> tuple[bytes, bytes]:
    mounts = process.container.mounts
    plain = path.replace(b"\\012", b"\n")
    if plain.startswith((b"/memfd:", b"/SYSV", b"/dev/zero", b"/dev/shm/ddock-slot")):
        return path, device + b" " + ino
    found = mounts.locate(plain)
    if found is None:
        return (path if plain.startswith(b"/dev/") else b""), b"00:00 0"
    fs: FileSystem = found[0]
    guest = mounts.guest_path(plain) or b""
    shown = b"%02x:%02x %s" % (os.major(fs.device), os.minor(fs.device), ino)
    return guest.replace(b"\n", b"\\012"), shown
