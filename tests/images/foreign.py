"""arm64 packages on a machine of another instruction set, merged into a root file system archive.

Nothing is installed or configured: apt resolves and downloads with state of its own, and the
packages' archives are merged into one. Maintainer scripts cannot run here, so what they would have
left behind and programs need is written by hand (`_by_hand`). Works as any user: owners exist only
inside the archive.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools import debs

ARCHITECTURE = "arm64"
MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MERGED = ("bin", "lib", "sbin")  # links into /usr
UNUSED = tuple(f"usr/share/{name}/" for name in ("doc", "man", "locale", "info", "lintian", "bug"))
EPOCH = 1_700_000_000
# Links that postinst scripts or update-alternatives make.
LINKS = {
    "usr/bin/awk": "mawk",
    "usr/bin/sh": "dash",
    "etc/nsswitch.conf": "../usr/share/libc-bin/nsswitch.conf",
}
COPIES = {
    "etc/passwd": "usr/share/base-passwd/passwd.master",
    "etc/group": "usr/share/base-passwd/group.master",
}


def _apt(state: Path, suite: str) -> list[str]:
    """The beginning of an apt command that knows nothing of the machine's packages."""
    for folder in ("lists/partial", "cache/archives/partial", "empty"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    signed = f" [signed-by={KEYRING}]" if KEYRING.exists() else ""
    (state / "sources.list").write_text(f"deb{signed} {MIRROR} {suite} main\n")
    options = {
        "APT::Architecture": ARCHITECTURE,
        "APT::Architectures": ARCHITECTURE,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "1",
        "Dir::Cache": f"{state}/cache",
        "Dir::Etc::SourceList": f"{state}/sources.list",
        "Dir::Etc::SourceParts": f"{state}/empty",
        "Dir::State": f"{state}",
        "Dir::State::Lists": f"{state}/lists",
        "Dir::State::status": f"{state}/status",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    # Cleans up what it downloads unless told not to: docker images configure apt that way.
    return ["apt-get", "-q", "-y", *words, "-o", "APT::Keep-Downloaded-Packages=true"]


def download(packages: Sequence[str], suite: str, state: Path) -> list[Path]:
    """Download the packages and what they depend on into `state`; return the files.

    Raises debs.DebsError when apt cannot.
    """
    _run(_apt(state, suite), state, ["update"], ["install", "--download-only", *packages])
    return sorted((state / "cache/archives").glob("*.deb"))


def unpack(packages: Sequence[str], suite: str, prefix: Path) -> None:
    """Unpack the named packages, not what they depend on, below `prefix`.

    Raises debs.DebsError when apt cannot download them.
    """
    with tempfile.TemporaryDirectory(prefix="foreign-") as state:
        archives = Path(state, "archives")
        archives.mkdir()
        _run(_apt(Path(state), suite), archives, ["update"], ["download", *packages])
        for package in archives.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, prefix], check=True)


def _run(apt: Sequence[str], directory: Path, *commands: Sequence[str]) -> None:
    for words in commands:
        done = subprocess.run(
            [*apt, *words], cwd=directory, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise debs.DebsError(f"apt-get {words[0]} ({ARCHITECTURE}): {done.stderr.strip()}")


def _place(name: str) -> str:
    """Where a package's file lies in a tree whose /bin, /lib and /sbin are links."""
    name = name.removeprefix(".").strip("/")
    return f"usr/{name}" if name.partition("/")[0] in MERGED else name


def members(package: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """The entries of a package, under the names they have in the tree."""
    done = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE, check=True
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        for entry in archive:
            content = archive.extractfile(entry) if entry.isreg() else None
            entry.name = _place(entry.name)
            if entry.islnk():
                entry.linkname = _place(entry.linkname)
            if entry.name and not f"{entry.name}/".startswith(UNUSED):
                yield entry, content.read() if content else b""


class Root:
    """A root file system archive being written."""

    def __init__(self, path: Path) -> None:
        self.archive = tarfile.open(path, "w", format=tarfile.GNU_FORMAT)  # noqa: SIM115
        self.names: set[str] = set()
        self.kept: dict[str, bytes] = {}

    def add(self, entry: tarfile.TarInfo, content: bytes = b"") -> None:
        """Add an entry unless its name is taken (directories are in many packages)."""
        if entry.name in self.names:
            return
        self.names.add(entry.name)
        if entry.name in COPIES.values():
            self.kept[entry.name] = content
        self.archive.addfile(entry, io.BytesIO(content))

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Add a regular file of root's."""
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = len(content), mode, EPOCH
        self.add(entry, content)

    def link(self, name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> None:
        """Add a symbolic (or hard) link."""
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.mode, entry.mtime = kind, target, 0o777, EPOCH
        self.add(entry)

    def directory(self, name: str, mode: int = 0o755) -> None:
        """Add a directory."""
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, mode, EPOCH
        self.add(entry)

    def close(self) -> None:
        """Finish the archive."""
        self.archive.close()


def _control(package: Path) -> str:
    done = subprocess.run(
        ["dpkg-deb", "--field", package], capture_output=True, text=True, check=True
    )
    return done.stdout


def _by_hand(root: Root, status: list[str]) -> None:
    """What maintainer scripts and dpkg itself would have written."""
    for name, target in LINKS.items():
        root.link(name, target)
    for name, source in COPIES.items():
        root.file(name, root.kept.get(source, b""))
    root.file("etc/hostname", b"arm64\n")
    root.file("etc/ld.so.conf", b"include /etc/ld.so.conf.d/*.conf\n")
    root.file("var/lib/dpkg/status", "\n".join(status).encode())
    for name in ("mnt", "tmp"):
        root.directory(name, 0o1777 if name == "tmp" else 0o755)


def make(packages: Sequence[str], suite: str, target: Path) -> None:
    """Write the archive of a root file system with the packages, unpacked but not configured.

    Raises debs.DebsError when the packages cannot be had.
    """
    root = Root(target)
    root.directory("usr")
    for name in MERGED:
        root.directory(f"usr/{name}")
        root.link(name, f"usr/{name}")
    status = []
    with tempfile.TemporaryDirectory(prefix="foreign-") as state:
        for package in download(packages, suite, Path(state)):
            listed = ["/."]
            for entry, content in members(package):
                root.add(entry, content)
                listed.append(f"/{entry.name}")
            control = _control(package)
            name, _, rest = control.partition("\n")
            status.append(f"{name}\nStatus: install ok unpacked\n{rest}")
            owner = name.removeprefix("Package: ")
            if "\nMulti-Arch: same" in control:
                owner += f":{ARCHITECTURE}"
            text = "\n".join(listed) + "\n"
            root.file(f"var/lib/dpkg/info/{owner}.list", text.encode())
    _by_hand(root, status)
    root.close()
