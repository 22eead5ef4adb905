"""Fetch and unpack the pinned Debian header packages, as an ordinary user.

apt runs with a private state directory and both architectures enabled, so that it needs neither
root nor `dpkg --add-architecture`; proxies and the mirror are the host's. What was fetched stays in
the user's cache directory: a second run needs no network. Each package is identified by its sha256.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SUITE = "bookworm"
VERSION = "6.1.176-1"
HEADERS_PACKAGE = "linux-headers-6.1.0-50-common"
DEFAULT_MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class FetchError(Exception):
    """A header package can be had neither from the cache nor from the mirror."""


@dataclass(frozen=True)
class Package:
    """One Debian binary package; `sha256` is empty for a version that is not the pinned one."""

    name: str
    version: str
    architecture: str
    sha256: str

    @property
    def filename(self) -> str:
        """The name under which `apt-get download` stores the package."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"

    @property
    def apt_name(self) -> str:
        """The package's name as apt wants it."""
        return self.name if self.architecture == "all" else f"{self.name}:{self.architecture}"


PINS = {
    "x86_64": Package(
        "linux-libc-dev",
        VERSION,
        "amd64",
        "8bb258735b9dffbb111da778ebdd024750878e435ffd9dfcadcb6762ede6b4cf",
    ),
    "arm64": Package(
        "linux-libc-dev",
        VERSION,
        "arm64",
        "eeca5ec13bed7206f8171fab9a48e84119dcc20cc79557f104628447a524ad10",
    ),
    "kernel": Package(
        HEADERS_PACKAGE,
        VERSION,
        "all",
        "7f6f7bee50efbc36dc02c976be5982b96cf36abe544f03f09368e98cfcc5ac3b",
    ),
}


@dataclass(frozen=True)
class Headers:
    """The unpacked headers one ISA's tables are made of."""

    uapi: Path  # .../usr/include of linux-libc-dev
    asm: Path  # .../usr/include/<triplet>
    kernel: Path  # the source tree part of linux-headers-*-common
    packages: tuple[Package, Package]

    @property
    def pinned(self) -> bool:
        """Whether these are the pinned packages, not what the mirror has instead of them."""
        return all(package in PINS.values() for package in self.packages)


def cache_directory() -> Path:
    """Where fetched packages are kept between runs, outside the repository."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "ddock" / "headers"


def fetch(cache: Path) -> dict[str, Headers]:
    """Return the headers of both ISAs, fetching and unpacking whatever `cache` lacks.

    A pinned version that left the mirror is replaced by the newest one there, with a warning.
    Safe against other runs with the same cache. Raises FetchError.
    """
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise FetchError(f"{program} is not here: the headers come from Debian packages")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        packages = _packages(cache)
        trees = {role: _unpack(package, cache) for role, package in packages.items()}
    (kernel,) = (trees["kernel"] / "usr" / "src").glob("linux-headers-*")
    triplets = {"x86_64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
    return {
        isa: Headers(
            uapi=trees[isa] / "usr" / "include",
            asm=trees[isa] / "usr" / "include" / triplet,
            kernel=kernel,
            packages=(packages[isa], packages["kernel"]),
        )
        for isa, triplet in triplets.items()
    }


def _packages(cache: Path) -> dict[str, Package]:
    missing = [pin for pin in PINS.values() if not _is_cached(pin, cache)]
    if not missing:
        return PINS
    apt = _Apt(cache)
    apt.update()
    return PINS if apt.download(missing) else apt.download_newest()


def _is_cached(package: Package, cache: Path) -> bool:
    path = cache / package.filename
    return path.exists() and _sha256(path) == package.sha256


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _unpack(package: Package, cache: Path) -> Path:
    """Unpack once into a directory named by content, so that a changed package is never mixed."""
    tree = cache / f"{package.filename.removesuffix('.deb')}-{package.sha256[:12]}"
    if not tree.exists():
        partial = tree.with_name(f"{tree.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        subprocess.run(["dpkg-deb", "-x", cache / package.filename, partial], check=True)
        partial.rename(tree)
    return tree


class _Apt:
    """apt-get with a state directory of its own below `cache`."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        root = cache / "apt"
        for part in ("lists/partial", "archives/partial"):
            (root / part).mkdir(parents=True, exist_ok=True)
        (root / "status").touch()
        signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
        (root / "sources.list").write_text(f"deb {signed}{_mirror()} {SUITE} main\n")
        (root / "apt.conf").write_text(
            'APT::Architecture "amd64"; APT::Architectures { "amd64"; "arm64"; };\n'
            'APT::Sandbox::User ""; Acquire::Languages "none";\n'
            f'Dir::State "{root}"; Dir::State::lists "{root}/lists";\n'
            f'Dir::State::status "{root}/status"; Dir::Cache "{root}";\n'
            f'Dir::Etc::sourcelist "{root}/sources.list"; Dir::Etc::sourceparts "/dev/null";\n'
        )
        self.environment = {**os.environ, "APT_CONFIG": str(root / "apt.conf"), "LC_ALL": "C"}

    def update(self) -> None:
        """Fetch the package lists of both architectures. Raises FetchError."""
        result = self._run("apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update")
        if result.returncode:
            raise FetchError(f"apt-get update failed:\n{result.stderr.strip()}")

    def download(self, packages: list[Package]) -> bool:
        """Fetch exactly these versions; False if the mirror lacks one or sends other bytes."""
        wanted = [f"{package.apt_name}={package.version}" for package in packages]
        result = self._run("apt-get", "-q", "download", *wanted)
        return result.returncode == 0 and all(_is_cached(p, self.cache) for p in packages)

    def download_newest(self) -> dict[str, Package]:
        """Fetch the newest version the mirror has, say so, and return what was fetched."""
        version = self._newest_version()
        common = self._common_package(version)
        newest = {}
        for role, pin in PINS.items():
            name = common if role == "kernel" else pin.name
            package = Package(name, version, pin.architecture, "")
            result = self._run("apt-get", "-q", "download", f"{package.apt_name}={version}")
            if result.returncode:
                raise FetchError(f"cannot fetch {package.apt_name}: {result.stderr.strip()}")
            digest = _sha256(self.cache / package.filename)
            newest[role] = Package(name, version, pin.architecture, digest)
        pins = "\n".join(f"  {p.filename}  {p.sha256}" for p in newest.values())
        print(
            f"warning: {SUITE} no longer has the pinned headers {VERSION}; using {version}.\n"
            f"To pin them, change tools/gen_tables/packages.py:\n{pins}",
            file=sys.stderr,
        )
        return newest

    def _newest_version(self) -> str:
        listing = self._run("apt-cache", "madison", "linux-libc-dev:amd64").stdout
        for line in listing.splitlines():
            return line.split("|")[1].strip()
        raise FetchError(f"{SUITE} on {_mirror()} has no linux-libc-dev at all")

    def _common_package(self, version: str) -> str:
        """Find the headers package of this version: its name holds Debian's ABI number."""
        names = self._run("apt-cache", "pkgnames", "linux-headers-").stdout.split()
        for name in sorted(name for name in names if name.endswith("-common")):
            listing = self._run("apt-cache", "madison", name).stdout
            if any(line.split("|")[1].strip() == version for line in listing.splitlines()):
                return name
        raise FetchError(f"no linux-headers-*-common of version {version} in {SUITE}")

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.cache,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )


def _mirror() -> str:
    """Return the Debian mirror this host uses for any suite, or the public one."""
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(LABEL) $(COMPONENT)"],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in listing.stdout.splitlines():
        site, _, rest = line.partition(" ")
        if rest == "Debian main" and "security" not in site:
            return site
    return DEFAULT_MIRROR
