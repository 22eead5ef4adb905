"""What is kept of patched texts for the next kernel."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from codegen.svc_patch import Entries, Site, pack_sites, unpack_sites
from codegen.svc_texts import TextStore, remove_others

PAGE = 4096
SVC, MSR_X3, NOP, RET = 0xD400_0001, 0xD51B_D043, 0xD503_201F, 0xD65F_03C0
MOV_X18_X0 = 0xAA00_03F2
ENTRIES = Entries(0x6800_0000_1000, 0x6800_0000_1100, 0x6800_0000_1200)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "text"
    path.write_bytes(struct.pack("<5I", NOP, SVC, MOV_X18_X0, MSR_X3, RET).ljust(PAGE, b"\0"))
    os.utime(path, (1, 1))
    return path


def sites(store: TextStore, path: Path) -> tuple[Site, ...]:
    with path.open("rb") as opened:
        text = store.look(opened.fileno(), 0, PAGE)
    assert text is not None
    assert text.copy is not None
    return text.sites


def test_sites_come_back_from_a_file() -> None:
    made = (Site(0, None), Site(8, 31), Site(0xFFFF_FFFC, None, 0xFFFF_FFFF))
    assert unpack_sites(pack_sites(made)) == made
    with pytest.raises(struct.error):
        unpack_sites(pack_sites(made)[:-1])


def test_the_search_for_x18_is_made_once(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = sites(TextStore(tmp_path / "cache", ENTRIES, PAGE), file)
    assert found == (Site(4, None), Site(8, None, MOV_X18_X0), Site(12, 3))

    def refuse(*_: object) -> None:
        raise AssertionError("it was searched again")

    monkeypatch.setattr("codegen.svc_patch.find_sites", refuse)
    assert sites(TextStore(tmp_path / "cache", ENTRIES, PAGE), file) == found
    with pytest.raises(AssertionError):
        sites(TextStore(tmp_path / "other", ENTRIES, PAGE), file)


def test_texts_are_patched_where_nothing_can_be_kept(tmp_path: Path, file: Path) -> None:
    (tmp_path / "no-directory").write_bytes(b"")
    found = sites(TextStore(tmp_path / "no-directory", ENTRIES, PAGE), file)
    assert [site.offset for site in found] == [4, 8, 12]
    assert sites(TextStore(None, ENTRIES, PAGE), file) == found


@pytest.mark.parametrize("strict", [False, True])
def test_data_beside_code_is_left_alone_unless_nothing_else_holds(strict: bool) -> None:
    store = TextStore(None, Entries(0x1000, 0x2000), PAGE, strict=strict)
    code = struct.pack("<5I", SVC, NOP, SVC, MSR_X3, SVC)
    found = [site.offset for site in store.find_sites(code, [(4, 8), (12, 16)])]
    assert found == ([0, 8, 12, 16] if strict else [12])


def test_what_other_versions_have_kept_goes(tmp_path: Path, file: Path) -> None:
    remove_others(tmp_path / "nothing-there", ENTRIES, PAGE)
    store = TextStore(tmp_path, ENTRIES, PAGE)
    before = sites(store, file)
    other = tmp_path / "svc" / "old"
    other.mkdir()
    (other / "text").write_bytes(b"x")
    remove_others(tmp_path, ENTRIES, PAGE)
    assert len(list((tmp_path / "svc").iterdir())) == 1
    assert sites(TextStore(tmp_path, ENTRIES, PAGE), file) == before
    remove_others(tmp_path, ENTRIES, 4 * PAGE)
    assert not list((tmp_path / "svc").iterdir())
    assert sites(store, file) == before, "what is open stays"
