"""Crossings of the ring on a CPU that reorders: everything is in place before it is announced."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from codegen.layout import BELLS_FIRST, Slot, State
from kernel import weak_ring
from kernel.credentials import Credentials
from kernel.records import Records
from kernel.slot import SlotMemory
from kernel.weak_ring import WeakRing


class Ordering:
    """Instead of the generated functions: notes when they are called, and on what."""

    def __init__(self, slot: SlotMemory, log: list[str]) -> None:
        self._slot, self._log = slot, log

    def publish(self, state: int, value: int, sleeping: int) -> int:
        assert (state, sleeping) == (
            self._slot.futex_address, self._slot.futex_address + Slot.SLEEPING - Slot.STATE
        )  # fmt: skip
        assert self._slot.words[Slot.STATE // 4] != value, "the store is ours alone"
        self._slot.words[Slot.STATE // 4] = value
        self._log.append("publish")
        return int(self._slot.words[Slot.SLEEPING // 4])

    def fence(self) -> None:
        self._log.append("fence")

    def __enter__(self) -> None:
        self.fence()

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("sleeping", [0, 1])
def test_an_answer_is_published_by_generated_code(
    sleeping: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot, log = SlotMemory(0), list[str]()
    monkeypatch.setattr(weak_ring, "futex_wake", lambda address: log.append(f"wake {address:#x}"))
    ordering: Any = Ordering(slot, log)
    ring = WeakRing(lambda _: None, lambda: None, 62, Records(), ordering)
    slot.words[Slot.SLEEPING // 4] = sleeping
    task: Any = SimpleNamespace(slot=slot)
    ring.publish(task)
    assert slot.words[Slot.STATE // 4] == State.DONE
    assert log == ["publish"] + [f"wake {slot.futex_address:#x}"] * sleeping
    ring.stop()
    slot.close()


def test_a_request_is_read_behind_its_bell(monkeypatch: pytest.MonkeyPatch) -> None:
    slot, log = SlotMemory(0), list[str]()
    ordering: Any = Ordering(slot, log)
    ring = WeakRing(lambda _: log.append("serve"), lambda: None, 62, Records(), ordering)
    task: Any = SimpleNamespace(
        slot=slot,
        fs=SimpleNamespace(users={}, root_number=0, cwd_number=0),
        credentials=Credentials(),
        traps_seen=0,
        process=SimpleNamespace(channel=SimpleNamespace(fileno=0)),
    )
    ring.attach(task)
    ring._bells[BELLS_FIRST] = 1
    ring._pump()
    assert log[:2] == ["fence", "serve"]
    assert log[2:] in ([], ["fence"]), "before it sleeps, if it does"
    ring.stop()
    slot.close()
