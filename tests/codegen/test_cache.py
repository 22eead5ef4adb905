"""The translation cache: what it remembers, for whom, and what happens to it."""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from codegen import cache as cache_module
from codegen import cache_directory, patch, site_table
from codegen.cache import FileText, TranslationCache
from codegen.layout import (
    ENTRY_POINTER,
    JUMP_TABLE,
    PAGE,
    RETURN_TABLE,
    SITE_LIMIT,
    TRAMPOLINE_SIZE,
    TRAMPOLINES,
)
from codegen.patch_elf import Image
from codegen.site_table import SiteTable
from tests.codegen.elf import TEXT_OFFSET, assemble, elf

ENTRY = 0x6800_0000_0040
CODE = """
    mov eax, 39; syscall; cmp rdi, 7; and esi, 0x80; mov rdi, rbx; syscall
    lea rdi, [rip]; syscall; ret
"""
SITES = [TEXT_OFFSET + i for i in (5, 20, 29)]  # A, D, left on the trap


@pytest.fixture(autouse=True)
def files_are_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files just made count as settled long ago."""
    monkeypatch.setattr(cache_module, "_SETTLED_NS", -(10**18))
    monkeypatch.setattr(cache_module, "_LASTING_NS", -(10**18))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def program(directory: Path, name: str = "program", code: str = CODE) -> Path:
    text = assemble(code)
    path = directory / name
    path.write_bytes(elf(text, [(0, len(text))]))
    return path


class Open:
    """A file held open."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY)

    def __enter__(self) -> int:
        return self.fd

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


def look(cache: TranslationCache, path: Path) -> FileText:
    with Open(path) as fd:
        text = cache.lookup(fd)
    assert text is not None
    return text


def trap(cache: TranslationCache, path: Path, *sites: int) -> None:
    """As the kernel does: look the file up and record each site that traps."""
    with Open(path) as fd:
        text = cache.lookup(fd)
        assert text is not None
        for site in sites:
            if text.wants(site):
                cache.record(text, site, fd)


@pytest.fixture
def cache(home: Path) -> Iterator[TranslationCache]:
    cache = TranslationCache(home, ENTRY)
    yield cache
    cache.close()


# ------------------------------------------------------------------------------------- the cycle
def test_a_trap_leads_to_a_patched_text(cache: TranslationCache, tmp_path: Path) -> None:
    path = program(tmp_path)
    text = look(cache, path)
    assert (text.patched, text.wants(SITES[0])) == (None, True)
    trap(cache, path, SITES[0])
    assert cache.has_pending
    assert cache.flush() == 1
    assert cache.flush() == 0
    patched = look(cache, path).patched
    assert patched is not None
    assert patched.segment_offset == TEXT_OFFSET
    assert patched.length == PAGE
    assert [site.return_offset - 2 for site in patched.sites] == SITES[:2]
    data = os.pread(patched.fd, patched.length, 0)
    assert len(data) == PAGE
    assert data[:3] == b"\xff\x24\x25"
    assert data[5:7] == b"\x0f\x05"


def test_what_is_known_is_not_wanted_again(cache: TranslationCache, tmp_path: Path) -> None:
    path = program(tmp_path)
    trap(cache, path, *SITES)
    cache.flush()
    trap(cache, path, *SITES, 4711)
    assert not cache.has_pending


def test_the_site_table_leads_from_the_jump_to_the_entry(
    cache: TranslationCache, tmp_path: Path
) -> None:
    path = program(tmp_path)
    trap(cache, path, SITES[0])
    cache.flush()
    patched = look(cache, path).patched
    assert patched is not None
    fd = cache.site_table_fd()
    assert fd is not None

    def at(address: int, size: int = 8) -> bytes:
        return os.pread(fd, size, address - JUMP_TABLE)

    assert os.fstat(fd).st_size == site_table.SIZE
    assert at(ENTRY_POINTER) == struct.pack("<Q", ENTRY)
    for site in patched.sites:
        trampoline = TRAMPOLINES + site.slot * TRAMPOLINE_SIZE
        assert at(JUMP_TABLE + 8 * site.slot) == struct.pack("<Q", trampoline)
        code = at(trampoline, TRAMPOLINE_SIZE).rstrip(b"\xcc")
        assert code.endswith(
            b"\x48\x8b\x0c\x25" + struct.pack("<I", RETURN_TABLE + 8 * site.slot)
            + b"\xff\x24\x25" + struct.pack("<I", ENTRY_POINTER)
        )  # fmt: skip


def test_return_addresses_for_a_base(cache: TranslationCache, tmp_path: Path) -> None:
    path = program(tmp_path)
    trap(cache, path, SITES[0])
    cache.flush()
    patched = look(cache, path).patched
    assert patched is not None
    base = 0x7F12_3456_7000 - TEXT_OFFSET
    table = bytearray(8 * SITE_LIMIT)
    for address, data in patched.return_addresses(base):
        start = address - RETURN_TABLE
        table[start : start + len(data)] = data
    for site in patched.sites:
        (value,) = struct.unpack_from("<Q", table, 8 * site.slot)
        assert value == base + site.return_offset


def test_part_of_a_mapping_is_patched(cache: TranslationCache, tmp_path: Path) -> None:
    path = program(tmp_path)
    trap(cache, path, SITES[0])
    cache.flush()
    patched = look(cache, path).patched
    assert patched is not None
    assert patched.part_of(TEXT_OFFSET, 10) == (0, 0, PAGE)
    assert patched.part_of(TEXT_OFFSET, PAGE) == (0, 0, PAGE)
    assert patched.part_of(0, 3 * PAGE) == (TEXT_OFFSET, 0, PAGE)
    assert patched.part_of(0, TEXT_OFFSET) is None
    assert patched.part_of(TEXT_OFFSET + PAGE, PAGE) is None


def test_an_address_in_a_trampoline_is_somewhere_in_the_file(
    cache: TranslationCache, tmp_path: Path
) -> None:
    path = program(tmp_path)
    trap(cache, path, SITES[0])
    cache.flush()
    patched, table = look(cache, path).patched, cache.site_table
    assert patched is not None
    assert table is not None
    base = 0x7F00_0000_0000
    slot, offset = patched.sites[1]  # and esi, 0x80 (6 bytes); mov rdi, rbx (3)
    trampoline, returns_to = TRAMPOLINES + slot * TRAMPOLINE_SIZE, base + offset
    assert site_table.slot_at(trampoline + 31) == slot
    assert site_table.slot_at(JUMP_TABLE) is None
    for within, before_return in [(0, 11), (6, 5), (9, 2), (17, 2)]:
        got = table.original_address(trampoline + within, returns_to)
        assert returns_to - got == before_return


# ---------------------------------------------------------------------------------- who shares it
def test_the_next_process_finds_it(home: Path, tmp_path: Path) -> None:
    path = program(tmp_path)
    first = TranslationCache(home, ENTRY)
    trap(first, path, SITES[0])
    first.flush()
    second = TranslationCache(home, ENTRY)
    patched = look(second, path).patched
    assert patched is not None
    assert patched.sites == look(first, path).patched.sites  # type: ignore[union-attr]
    for cache in (first, second):
        cache.close()


def test_a_running_process_sees_what_another_adds(home: Path, tmp_path: Path) -> None:
    path = program(tmp_path)
    first, second = TranslationCache(home, ENTRY), TranslationCache(home, ENTRY)
    assert look(second, path).patched is None
    trap(first, path, SITES[0])
    first.flush()
    assert look(second, path).patched is not None
    for cache in (first, second):
        cache.close()


def test_one_process_decides_for_all_that_met_the_same_file(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path)
    caches = [TranslationCache(home, ENTRY) for _ in range(4)]
    planned: list[object] = []
    real = patch.Patcher

    def counted(image: Image) -> patch.Patcher:
        planned.append(image)
        time.sleep(0.05)  # the others come meanwhile
        return real(image)

    monkeypatch.setattr(patch, "Patcher", counted)
    for cache in caches:
        trap(cache, path, SITES[0])
    with ThreadPoolExecutor(len(caches)) as threads:
        assert sum(threads.map(TranslationCache.flush, caches)) == 1
    assert len(planned) == 1
    for cache in caches:
        assert look(cache, path).patched is not None
        cache.close()


def test_equal_content_is_shared_and_different_content_is_not(
    cache: TranslationCache, tmp_path: Path
) -> None:
    one, same = program(tmp_path, "one"), program(tmp_path, "same")
    other = program(tmp_path, "other", "mov eax, 40; syscall; ret")
    trap(cache, one, SITES[0])
    cache.flush()
    assert look(cache, same) is look(cache, one)
    assert look(cache, other).patched is None
    trap(cache, other, SITES[0])
    cache.flush()
    patched, others = look(cache, one).patched, look(cache, other).patched
    assert patched is not None
    assert others is not None
    assert {s.slot for s in patched.sites}.isdisjoint(s.slot for s in others.sites)


def test_a_changed_file_is_another_file(cache: TranslationCache, tmp_path: Path) -> None:
    path = program(tmp_path)
    trap(cache, path, SITES[0])
    cache.flush()
    assert look(cache, path).patched is not None
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[TEXT_OFFSET + 1] ^= 1  # another system call number
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a guest could
    assert look(cache, path).patched is None


def test_a_file_that_just_changed_is_hashed_again(
    cache: TranslationCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_SETTLED_NS", 10**18)
    path = program(tmp_path)
    hashed: list[int] = []
    real = cache_module._hash

    def counted(fd: int, identity: tuple[int, ...]) -> tuple[bytes, int]:
        hashed.append(fd)
        return real(fd, identity)

    monkeypatch.setattr(cache_module, "_hash", counted)
    look(cache, path)
    look(cache, path)
    assert len(hashed) == 2


def test_identities_are_remembered_by_the_next_process(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path)
    first = TranslationCache(home, ENTRY)
    look(first, path)
    first.flush()
    second = TranslationCache(home, ENTRY)
    monkeypatch.setattr(cache_module, "_hash", None)
    assert look(second, path).digest == look(first, path).digest
    for cache in (first, second):
        cache.close()


def test_large_files_are_hashed_by_flush(
    cache: TranslationCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "_HASH_AT_ONCE", 100)
    path = program(tmp_path)
    assert look(cache, path).digest is None
    trap(cache, path, SITES[0])
    assert cache.flush() == 1
    assert look(cache, path).patched is not None


# ------------------------------------------------------------------------------------ other files
@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fEL", b"MZ" * 100])
def test_other_files_are_nothing(cache: TranslationCache, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with Open(path) as fd:
        assert cache.lookup(fd) is None


@pytest.mark.parametrize("size", [4, 64, 100, 200, TEXT_OFFSET, TEXT_OFFSET + 10])
def test_truncated_programs_are_left_alone(
    cache: TranslationCache, tmp_path: Path, size: int
) -> None:
    path = program(tmp_path)
    os.truncate(path, size)
    trap(cache, path, SITES[0])
    cache.flush()
    text = look(cache, path)
    assert (text.patched, text.wants(SITES[0])) == (None, False)


def test_a_program_in_the_way_of_the_tables_is_left_alone(
    cache: TranslationCache, tmp_path: Path
) -> None:
    path = tmp_path / "program"
    data = bytearray(elf(assemble(CODE), fixed=True))
    at = data.index(struct.pack("<QQ", 0x40_3000, 0x40_3000))
    data[at : at + 16] = struct.pack("<QQ", JUMP_TABLE + 0x3000, JUMP_TABLE + 0x3000)
    path.write_bytes(data)
    trap(cache, path, SITES[0])
    cache.flush()
    assert look(cache, path).patched is None


# ---------------------------------------------------------------------------------------- scarcity
def many(count: int, number: int) -> str:
    return "; ".join(f"mov eax, {number + i}; syscall" for i in range(count)) + "; ret"


def test_when_slots_are_scarce_only_trapped_sites_get_one(
    cache: TranslationCache, tmp_path: Path
) -> None:
    big = program(tmp_path, "big", many(1800, 16))
    trap(cache, big, TEXT_OFFSET + 5)
    cache.flush()
    assert cache.stats().sites == 1800
    second = program(tmp_path, "second", many(1700, 5000))
    trap(cache, second, TEXT_OFFSET + 5, TEXT_OFFSET + 12)
    cache.flush()
    text = look(cache, second)
    first = text.patched
    assert first is not None
    assert (first.version, len(first.sites)) == (1, 2)
    assert not text.complete
    trap(cache, second, TEXT_OFFSET + 19)
    cache.flush()
    later = look(cache, second).patched
    assert later is not None
    assert (later.version, len(later.sites)) == (2, 3)
    assert set(first.sites) < set(later.sites)
    slots = [s.slot for s in later.sites]
    assert slots == list(range(slots[0], slots[0] + 3))


def test_when_slots_are_gone_sites_stay_on_the_trap(
    cache: TranslationCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "SITE_LIMIT", 20)
    path = program(tmp_path, "many", many(40, 16))
    sites = [TEXT_OFFSET + 5 + 7 * i for i in range(40)]
    trap(cache, path, *sites)
    cache.flush()
    text = look(cache, path)
    assert text.patched is not None
    assert len(text.patched.sites) == 20
    assert not any(text.wants(site) for site in sites)
    assert cache.stats().refused == 20
    trap(cache, path, *sites)
    assert not cache.has_pending


def test_a_used_up_epoch_is_renewed_and_removed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path)
    first = TranslationCache(home, ENTRY)
    trap(first, path, SITES[0])
    first.flush()
    monkeypatch.setattr(cache_directory, "_SLOTS_LIMIT", 1)
    second = TranslationCache(home, ENTRY, renew=True)
    assert second.path != first.path
    assert first.path.exists()  # in use
    assert look(second, path).patched is None
    assert look(first, path).patched is not None
    first.close()
    second.close()
    TranslationCache(home, ENTRY, renew=True).close()
    assert not first.path.exists()


# --------------------------------------------------------------------------------------- mishaps
def test_a_torn_record_ends_the_journal(home: Path, tmp_path: Path) -> None:
    one, two = program(tmp_path), program(tmp_path, "two", many(3, 7))
    cache = TranslationCache(home, ENTRY)
    trap(cache, one, SITES[0])
    cache.flush()
    with (cache.path / "journal").open("r+b") as file:
        file.seek(0, os.SEEK_END)
        end = file.tell()
        file.write(b"\x40\0\0\0garbage that power left behind" * 3)
        file.seek(8)
        file.write(struct.pack("<Q", end + 60))
    cache.close()
    again = TranslationCache(home, ENTRY)
    assert look(again, one).patched is not None
    trap(again, two, TEXT_OFFSET + 5)
    assert again.flush() == 1
    assert look(again, two).patched is not None
    again.close()
    last = TranslationCache(home, ENTRY)
    assert look(last, two).patched is not None
    last.close()


def test_a_file_that_is_no_journal_disables_the_cache(home: Path) -> None:
    cache = TranslationCache(home, ENTRY)
    cache.close()
    (cache.path / "journal").write_bytes(b"x" * 8192)
    other = TranslationCache(home, ENTRY)
    assert other.site_table_fd() is None
    assert other.lookup(0) is None
    assert other.stats().path is None


def test_a_directory_others_can_write_is_not_trusted(home: Path) -> None:
    cache = TranslationCache(home, ENTRY)
    cache.close()
    cache.path.chmod(0o777)
    assert TranslationCache(home, ENTRY).site_table_fd() is None


def test_another_stub_has_another_table(home: Path) -> None:
    one, two = TranslationCache(home, ENTRY), TranslationCache(home, ENTRY + 16)
    assert one.path != two.path
    with pytest.raises(OSError, match="another stub"):
        SiteTable(str(one.path / "table"), ENTRY + 16, writable=False)
    for cache in (one, two):
        cache.close()


def test_a_place_that_cannot_be_made_disables_the_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = TranslationCache(tmp_path / "file" / "cache", ENTRY)
    assert cache.site_table_fd() is None
    assert not cache.writable


def test_a_read_only_cache_is_read(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path)
    first = TranslationCache(home, ENTRY)
    trap(first, path, SITES[0])
    first.flush()
    first.close()
    real = os.open

    def read_only(name: str, flags: int, *rest: int) -> int:
        if str(name).startswith(str(home)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(30, "Read-only file system")
        return real(name, flags, *rest)

    monkeypatch.setattr(os, "open", read_only)
    cache = TranslationCache(home, ENTRY)
    assert not cache.writable
    assert look(cache, path).patched is not None
    other = program(tmp_path, "other", many(2, 3))
    trap(cache, other, TEXT_OFFSET + 5)
    assert not cache.has_pending
    assert cache.flush() == 0
    cache.close()


def test_a_guest_cannot_make_its_mapping_writable(cache: TranslationCache) -> None:
    fd = cache.site_table_fd()
    assert fd is not None
    with pytest.raises(PermissionError):
        mmap.mmap(fd, PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)


# ------------------------------------------------------------------------------------ concurrency
def test_many_processes_at_once(home: Path, tmp_path: Path) -> None:
    count = 4
    paths = [program(tmp_path, f"p{i}", many(20 + i, 100 + 100 * i)) for i in range(6)]
    script = f"""
import os, sys
sys.path.insert(0, {os.getcwd()!r})
from pathlib import Path
import codegen.cache as c
c._SETTLED_NS = c._LASTING_NS = -10**18
cache = c.TranslationCache({str(home)!r}, {ENTRY})
order = {[str(p) for p in paths]!r}
n = int(sys.argv[1])
for path in order[n:] + order[:n]:
    fd = os.open(path, os.O_RDONLY)
    text = cache.lookup(fd)
    if text.wants({TEXT_OFFSET + 5}):
        cache.record(text, {TEXT_OFFSET + 5}, fd)
    cache.flush()
    os.close(fd)
"""
    running = [subprocess.Popen([sys.executable, "-c", script, str(n)]) for n in range(count)]
    assert [p.wait(60) for p in running] == [0] * count
    cache = TranslationCache(home, ENTRY)
    used: set[int] = set()
    for i, path in enumerate(paths):
        patched = look(cache, path).patched
        assert patched is not None
        assert patched.version == 1
        slots = {s.slot for s in patched.sites}
        assert len(slots) == 20 + i
        assert used.isdisjoint(slots)
        used |= slots
    cache.close()


def test_flush_in_a_thread(cache: TranslationCache, tmp_path: Path) -> None:
    paths = [program(tmp_path, f"p{i}", many(5 + i, 100 + 100 * i)) for i in range(5)]
    for path in paths:
        trap(cache, path, TEXT_OFFSET + 5)
        thread = threading.Thread(target=cache.flush)
        thread.start()
        while thread.is_alive():
            look(cache, path)
        thread.join()
        assert look(cache, path).patched is not None


def test_a_forked_child_shares_nothing_it_could_break(home: Path, tmp_path: Path) -> None:
    path = program(tmp_path)
    script = f"""
import os, sys
sys.path.insert(0, {os.getcwd()!r})
import codegen.cache as c
c._SETTLED_NS = c._LASTING_NS = -10**18
cache = c.TranslationCache({str(home)!r}, {ENTRY})
child = os.fork()
fd = os.open({str(path)!r}, os.O_RDONLY)
text = cache.lookup(fd)
if text.wants({SITES[0]}):
    cache.record(text, {SITES[0]}, fd)
cache.flush()
if child:
    assert os.waitpid(child, 0)[1] == 0
assert cache.lookup(fd).patched.version == 1
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
