"""Make `.venv` with the project in it, on a machine that has Python and nothing else of ours.

Debian splits `ensurepip` into a package of its own, so pip may come from the interpreter, from
a wheel the machine has, or from the package python3-pip-whl, which any user may unpack. Runs on
the machine's own interpreter: standard library only.

Usage: python3 -m tools.make_venv [EXTRA]
"""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import venv
from pathlib import Path

from tools import debs

FLOOR = (3, 11)
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
WHEELS = Path("usr/share/python-wheels")


def _pip_wheel() -> Path:
    """Find a pip wheel on the machine, or fetch Debian's."""
    for prefix in (Path("/"), ROOT / ".cache/pip-wheel"):
        for wheel in sorted((prefix / WHEELS).glob("pip-*.whl"), reverse=True):
            return wheel
    prefix = ROOT / ".cache/pip-wheel"
    debs.fetch(["python3-pip-whl"], prefix)
    return max((prefix / WHEELS).glob("pip-*.whl"))


def _runs(*arguments: str) -> bool:
    done = subprocess.run([PYTHON, *arguments], capture_output=True, check=False)
    return done.returncode == 0


def _ensure_pip() -> None:
    if _runs("-m", "pip", "--version"):
        return
    if importlib.util.find_spec("ensurepip") is not None and _runs("-m", "ensurepip"):
        return
    wheel = _pip_wheel()
    subprocess.run([PYTHON, f"{wheel}/pip", "install", "-q", "--no-index", str(wheel)], check=True)


def _of_another_python() -> bool:
    """Tell whether `.venv` was made by another interpreter: the two must not be mixed."""
    try:
        lines = (VENV / "pyvenv.cfg").read_text().splitlines()
    except OSError:
        return False
    settings = dict(line.split(" = ", 1) for line in lines if " = " in line)
    # The interpreter itself lies there, whichever name or link it was started by.
    own = str(Path(sys._base_executable).resolve().parent)  # type: ignore[attr-defined]
    return Path(settings.get("home", "")).resolve() != Path(own) or not _runs("-c", "import zlib")


def _fingerprint(extra: str) -> str:
    text = (ROOT / "pyproject.toml").read_bytes() + extra.encode() + sys.version.encode()
    return hashlib.sha256(text).hexdigest()


def main(arguments: list[str]) -> int:
    """Create or complete the environment; do nothing when it is already right."""
    if sys.version_info < FLOOR:
        print(f"ddock needs Python {FLOOR[0]}.{FLOOR[1]} or newer; PYTHON=... names another")
        return 1
    extra = arguments[0] if arguments else ""
    stamp = VENV / f".installed-{extra or 'run'}"
    fingerprint = _fingerprint(extra)
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == fingerprint:
        return 0
    print(f"installing ddock into {VENV}", flush=True)
    try:
        venv.create(VENV, with_pip=False, symlinks=True, clear=_of_another_python())
        _ensure_pip()
    except debs.DebsError as error:
        print(f"no pip for {sys.executable}: {error}\ninstall python3-venv and try again")
        return 1
    target = f"{ROOT}[{extra}]" if extra else str(ROOT)
    command = [str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    command += ["-e", target]
    if subprocess.run(command, check=False).returncode:
        print("pip could not install the project's requirements (see above)")
        return 1
    stamp.write_text(fingerprint)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
