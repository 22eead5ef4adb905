"""The patcher on this host's own libraries."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from codegen import patch
from codegen.asm.decode import sweep
from codegen.patch import Patcher
from codegen.patch_elf import Image, read_image
from codegen.patch_text import Code

LIBC = Path("/lib/x86_64-linux-gnu/libc.so.6")
LOADER = Path("/lib64/ld-linux-x86-64.so.2")


def image_of(path: Path) -> Image:
    if not path.exists():
        pytest.skip(f"no {path} on this host")
    image = read_image(path.read_bytes())
    assert image is not None
    return image


@pytest.mark.parametrize("path", [LIBC, LOADER])
def test_nearly_every_site_is_patched(path: Path) -> None:
    image = image_of(path)
    plan = Patcher(image).plan()
    sites = len(plan.patches) + len(plan.unpatchable)
    assert len(plan.patches) >= 0.96 * sites
    patched = patch.apply(image, dict(enumerate(plan.patches)))
    changed = sum(x != y for x, y in zip(image.text, patched, strict=True))
    assert changed <= sum(7 + sum(len(d) for _, d in p.fixed) for p in plan.patches)


@pytest.mark.parametrize("path", [LIBC, LOADER])
def test_return_addresses_still_follow_a_jump_or_a_syscall(path: Path) -> None:
    image = image_of(path)
    plan = Patcher(image).plan()
    patched = patch.apply(image, dict(enumerate(plan.patches)))
    for p in plan.patches:
        site = patched[p.site : p.returns_to]
        assert site == b"\x0f\x05" or site[0] == 0xEB
        if site[0] != 0xEB:
            last = sweep(patched, p.jump, p.returns_to)
            assert [i.mnemonic for i in last] == ["jmp"]


def test_agreement_proves_only_what_is_described() -> None:
    """Without descriptions the sweeps find no boundary that is none."""
    image = image_of(LIBC)
    described = Code(image)
    alone = Code(dataclasses.replace(image, function_starts=[], _descriptions=[]))
    rng = random.Random(5)
    offsets = [rng.randrange(image.start + 4096, image.end) for _ in range(400)]
    found = 0
    for offset in offsets:
        if image.function_at(offset - 1) is None or image.starts_function(offset):
            continue
        agreed, known = alone.before(offset), described.before(offset)
        if agreed is not None:
            found += 1
            assert known is not None
            shared = min(len(agreed), len(known))
            assert agreed[-shared:] == known[-shared:]
    assert found > 40
