"""A busybox root file system from the host's package manager, without root and without installing.

Debian's busybox-static is downloaded and unpacked in a temporary directory. The image is one layer:
the binary, a link per applet where busybox says it belongs, and the few files programs expect.
"""

from __future__ import annotations

import io
import os
import posixpath
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from api.engine.compression import decompressed
from kernel.host import engines

_PACKAGE = "busybox-static"
_DEBIAN = {"x86_64": "amd64", "arm64": "arm64"}  # Debian's names of our ISAs
_APT_ARCHITECTURE = ("APT::Architecture", "APT::Architectures")
_AR_MAGIC = b"!<arch>\n"
_DIRECTORIES = {
    "bin": 0o755,
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "lib": 0o755,
    "mnt": 0o755,
    "opt": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "sbin": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "usr": 0o755,
    "usr/bin": 0o755,
    "usr/sbin": 0o755,
    "usr/lib": 0o755,
    "usr/share": 0o755,
    "var": 0o755,
    "var/log": 0o755,
    "var/spool": 0o755,
    "var/tmp": 0o1777,
    "var/www": 0o755,
}
_FILES = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
        "bin:x:2:2:bin:/bin:/bin/false\nsys:x:3:3:sys:/dev:/bin/false\n"
        "mail:x:8:8:mail:/var/spool/mail:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\n"
        "operator:x:37:37:Operator:/var:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n"
    ),
    "etc/group": (
        "root:x:0:\ndaemon:x:1:\nbin:x:2:\nsys:x:3:\nadm:x:4:\ntty:x:5:\ndisk:x:6:\nmail:x:8:\n"
        "wheel:x:10:root\nwww-data:x:33:\noperator:x:37:\nusers:x:100:\nnogroup:x:65534:\n"
    ),
    "etc/shells": "/bin/sh\n/bin/ash\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/profile": "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
}


class NoBusybox(Exception):
    """No static busybox can be had here; the message says what was tried."""


def find_binary(scratch: Path, isa: str) -> bytes:
    """A static busybox for an ISA: the package's, else the host's own. Raises NoBusybox."""
    native = isa == engines.host_isa()
    tried = []
    for source in (_from_package, _from_own_lists, _from_host) if native else (_from_own_lists,):
        try:
            return source(scratch, isa)
        except NoBusybox as error:
            tried.append(str(error))
    raise NoBusybox("; ".join(tried))


def root_tar(binary: bytes, applets: list[str]) -> bytes:
    """The root file system as tar, owned by root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, mode in _DIRECTORIES.items():
            _add(tar, name, mode, kind=tarfile.DIRTYPE)
        _add(tar, "bin/busybox", 0o755, binary)
        for name, text in _FILES.items():
            _add(tar, name, 0o644, text.encode())
        for applet in applets:
            path = applet.lstrip("/")
            if path and path not in ("bin/busybox", "linuxrc"):
                target = posixpath.relpath("bin/busybox", posixpath.dirname(path) or ".")
                _add(tar, path, 0o777, kind=tarfile.SYMTYPE, link=target)
    return buffer.getvalue()


def applets_of(binary: bytes, scratch: Path, isa: str) -> list[str]:
    """Where busybox's applets belong ("bin/ls", ...), asked of itself. Raises NoBusybox."""
    engine = engines.find(isa)
    if engine is None:
        raise NoBusybox(f"this host has no engine for {isa} programs (see `ddock doctor`)")
    path = scratch / "busybox.run"
    path.write_bytes(binary)
    path.chmod(0o700)
    command = [*([engine.emulator] if engine.emulator else []), os.fspath(path), "--list-full"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise NoBusybox(f"busybox does not run here: {error}") from None
    names = listed.stdout.decode().split()
    known = set(_DIRECTORIES)
    return [n if posixpath.dirname(n) in known else f"bin/{posixpath.basename(n)}" for n in names]


def _from_package(scratch: Path, _: str) -> bytes:
    return _download(scratch, [])


def _from_own_lists(scratch: Path, isa: str) -> bytes:
    """The same with package lists of our own, which a fresh machine lacks as it does foreign ones.

    Nothing is installed and no architecture is added to the host's: apt is told of another one for
    this call, and that no package of it is installed.
    """
    if shutil.which("apt-get") is None:
        raise NoBusybox("no apt-get")
    for name in ("lists/partial", "cache/archives/partial"):
        (scratch / name).mkdir(parents=True)
    settings = [f"Dir::State::lists={scratch}/lists", f"Dir::Cache={scratch}/cache"]
    if isa != engines.host_isa():
        (scratch / "status").touch()
        settings.append(f"Dir::State::status={scratch}/status")
        settings += [f"{name}={_DEBIAN[isa]}" for name in _APT_ARCHITECTURE]
    options = [word for setting in settings for word in ("-o", setting)]
    try:
        command = ["apt-get", *options, "-q", "update"]
        subprocess.run(command, capture_output=True, check=True, timeout=180)
    except (OSError, subprocess.SubprocessError):
        raise NoBusybox(f"apt-get update fails for {_DEBIAN[isa]}") from None
    return _download(scratch, options)


def _download(scratch: Path, options: list[str]) -> bytes:
    if shutil.which("apt-get") is None:
        raise NoBusybox("no apt-get")
    command = ["apt-get", *options, "-q", "download", _PACKAGE]
    try:
        subprocess.run(command, cwd=scratch, capture_output=True, check=True, timeout=180)
    except (OSError, subprocess.SubprocessError):
        raise NoBusybox(f"apt-get download {_PACKAGE} fails") from None
    package = next(iter(scratch.glob(f"{_PACKAGE}_*.deb")), None)
    if package is None:
        raise NoBusybox(f"apt-get download left no {_PACKAGE} package")
    with package.open("rb") as file, tarfile.open(fileobj=data_archive(file), mode="r|") as tar:
        for member in tar:
            if posixpath.basename(member.name) == "busybox" and member.isfile():
                extracted = tar.extractfile(member)
                if extracted is not None:
                    return extracted.read()
    raise NoBusybox(f"no busybox in {package.name}")


def data_archive(package: BinaryIO) -> BinaryIO:
    """The data.tar of a Debian package (deb(5): an ar archive). Raises NoBusybox."""
    for name, content in _ar_members(package):
        if name.startswith("data.tar"):
            return decompressed(cast(BinaryIO, io.BytesIO(content)))
    raise NoBusybox("not a Debian package")


def _ar_members(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise NoBusybox("not a Debian package")
    while len(header := file.read(60)) == 60:
        size = int(header[48:58])
        yield header[:16].decode().strip().rstrip("/"), file.read(size)
        file.read(size % 2)


def _from_host(_: Path, __: str) -> bytes:
    found = shutil.which("busybox")
    if found is None:
        raise NoBusybox("no busybox on this host")
    data = Path(os.path.realpath(found)).read_bytes()
    if b"/lib64/ld-linux" in data[:4096] or b"/ld-musl" in data[:4096]:
        raise NoBusybox(f"{found} is not static")
    return data


def _add(
    tar: tarfile.TarFile,
    name: str,
    mode: int,
    data: bytes = b"",
    *,
    kind: bytes = tarfile.REGTYPE,
    link: str = "",
) -> None:
    info = tarfile.TarInfo(name)
    info.mode, info.type, info.linkname, info.size = mode, kind, link, len(data)
    info.uname = info.gname = "root"
    info.mtime = int(time.time())
    tar.addfile(info, io.BytesIO(data))
