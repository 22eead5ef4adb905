"""The generator's own rules, on input small enough to read; the real headers are `make tables`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.gen_tables import classify, model, overlay, packages, prototypes, render, sources
from tools.gen_tables.headers import Facts, Layout
from tools.gen_tables.overlay import Overlay, OverlayError

ROOT = Path(__file__).resolve().parent.parent.parent
OVERLAY = ROOT / "tables" / "overlay.toml"
FACTS = Facts(
    constants={"PROT_EXEC": 4, "F_OK": 0},
    ioctls={"TIOCSCTTY": 0x540E},
    structs={"point": Layout(16, 8, {}), "iovec": Layout(16, 8, {})},
)


def notes(**kinds: dict[str, str]) -> Overlay:
    empty: dict[str, str] = {}
    return Overlay(empty, empty, kinds, empty, {}, {}, {}, empty, empty, "")


def kinds_of(declaration: str, **corrections: str) -> list[str]:
    overlay_notes = notes(call=corrections)
    arguments = classify.arguments("call", prototypes.parse(declaration), FACTS, overlay_notes)
    return [f"{a.kind}{list(a.param) if a.param else ''}" for a in arguments]


@pytest.mark.parametrize(
    ("declaration", "kinds"),
    [
        ("void", []),
        ("int dfd, const char __user *filename, umode_t mode", ["dirfd", "path", "mode"]),
        ("const char __user *name", ["string"]),
        ("const char __user *const __user *argv", ["stringvector"]),
        ("const void __user *value, size_t size", ["inbuffer[1, 1]", "size"]),
        ("const struct iovec __user *vec, unsigned long vlen", ["iovec[1, 16]", "ulong"]),
        ("const struct point __user *p, struct point __user *q", ["instruct[16]", "pointer"]),
        ("unsigned int fd, unsigned int cmd", ["fd", "uint"]),
        ("pid_t pid, int sig, uid_t uid, loff_t pos", ["pid", "signal", "uid", "offset"]),
        ("unsigned long addr, int *, long", ["pointer", "pointer", "long"]),
    ],
)
def test_kinds_follow_from_prototypes(declaration: str, kinds: list[str]) -> None:
    assert kinds_of(declaration) == kinds


def test_the_overlay_corrects_a_kind() -> None:
    declaration = "struct point *points, unsigned n, char *dir"
    assert kinds_of(declaration, points="inbuffer n point", dir="path") == [
        "inbuffer[1, 16]",
        "uint",
        "path",
    ]
    assert kinds_of(declaration, points="instruct 24")[0] == "instruct[24]"


@pytest.mark.parametrize("wrong", ["inbuffer m", "instruct nothing", "patch", "iovec", "int 4"])
def test_a_mistake_in_a_kind_is_an_error(wrong: str) -> None:
    with pytest.raises(OverlayError):
        kinds_of("void *buf, size_t n", buf=wrong)


def test_a_correction_of_no_argument_is_an_error() -> None:
    with pytest.raises(OverlayError, match="has no argument buffer"):
        kinds_of("void *buf, size_t n", buffer="path")


def test_unnamed_parameters_and_kernel_names() -> None:
    parsed = prototypes.parse(
        "int, struct sockaddr __user *, int dfd, const char __user * pathname"
    )
    assert [(p.name, p.ctype) for p in parsed] == [
        ("arg0", "int"),
        ("arg1", "struct sockaddr *"),
        ("dirfd", "int"),
        ("path", "const char *"),
    ]


def test_prototypes_are_read_from_a_kernel_tree(tmp_path: Path) -> None:
    for header in prototypes.HEADERS:
        path = tmp_path / header
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("/* asmlinkage long sys_gone(int); */\n")
    path.write_text("asmlinkage long sys_newstat(const char __user *filename,\n\tint flag);\n")
    found = prototypes.read(tmp_path)
    assert list(found) == ["newstat"]
    assert prototypes.of_syscall("stat", found, {}) == found["newstat"]
    overlaid = prototypes.of_syscall("stat", found, {"stat": "int fd"})
    assert overlaid == (prototypes.Parameter("fd", "int"),)
    assert prototypes.of_syscall("tuxcall", found, {}) is None


def test_fragments_are_cut_out_of_kernel_headers(tmp_path: Path) -> None:
    (tmp_path / "x.h").write_text(
        "struct other { int a; };\nstruct wanted {\n\tint b; /* } */\n};\n"
        "#define SOCK_A 1\n#define SOCK_B \\\n 2\n#define OTHER 3\n#define SOCK_F(x) x\n"
    )
    text = sources.cut(sources.Fragment("x.h", ("struct wanted",), r"SOCK_\w+"), tmp_path)
    assert "int b;" in text
    assert "other" not in text
    assert "OTHER" not in text
    assert [line.split()[1] for line in text.splitlines() if "#define" in line] == [
        "SOCK_A",
        "SOCK_B",
    ]
    with pytest.raises(LookupError):
        sources.cut(sources.Fragment("x.h", ("struct absent",)), tmp_path)


def test_detours_are_read_and_checked() -> None:
    detours = model.detours("prot has PROT_EXEC; addr nonzero", ["addr", "prot"], FACTS)
    assert detours == [[1, "has", [4]], [0, "nonzero", []]]
    assert model.detours("cmd is TIOCSCTTY", ["cmd"], FACTS) == [[0, "is", [0x540E]]]
    for wrong in ("prot has NOTHING", "flags has PROT_EXEC", "prot seems PROT_EXEC"):
        with pytest.raises(OverlayError):
            model.detours(wrong, ["prot"], FACTS)


def test_the_overlay_names_only_what_exists() -> None:
    real = overlay.load(OVERLAY, "x86_64")
    with pytest.raises(OverlayError, match="no ISA has the syscall"):
        overlay.check_names(real, {"read"})


def test_one_call_in_two_planes_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "overlay.toml"
    path.write_text(OVERLAY.read_text().replace('slot = "', 'slot = "read '))
    with pytest.raises(OverlayError, match="read is both"):
        overlay.load(path, "x86_64")


def test_the_text_form_has_one_entry_a_line() -> None:
    table = {
        "isa": "x86_64",
        "sources": ["a package"],
        "syscalls": {"read": {"number": 0, "args": []}},
        "structs": {},
        "constants": {"A": 1, "B": 2},
        "errno": {},
        "ioctls": {},
    }
    lines = render.text(table).splitlines()
    assert '"read": {"number": 0, "args": []}' in lines
    assert '"A": 1,' in lines
    assert '"B": 2' in lines


@pytest.fixture
def no_pins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give a cache directory without packages and an apt that reaches no mirror."""
    fake = tmp_path / "bin"
    fake.mkdir()
    for program in ("apt-get", "apt-cache"):
        (fake / program).write_text("#!/bin/sh\necho 'no route to the mirror' >&2\nexit 100\n")
        (fake / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}:/usr/bin:/bin")
    return tmp_path / "cache"


def test_without_a_mirror_the_message_says_so(no_pins: Path) -> None:
    with pytest.raises(packages.FetchError, match="no route to the mirror"):
        packages.fetch(no_pins)


def test_a_package_with_other_bytes_is_not_taken_from_the_cache(no_pins: Path) -> None:
    no_pins.mkdir()
    for pin in packages.PINS.values():
        (no_pins / pin.filename).write_bytes(b"not the package")
    with pytest.raises(packages.FetchError):
        packages.fetch(no_pins)
