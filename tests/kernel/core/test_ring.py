"""What the ring does between requests, and that nothing waits for ever."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from codegen.layout import BELLS_FIRST
from codegen.poll_layout import ENOUGH, IDLE
from kernel.credentials import Credentials
from kernel.records import Records
from kernel.ring import PATIENCE, Ring
from kernel.slot import SlotMemory


class Poller:
    """Returns what it is told to, one after the other."""

    def __init__(self, *returns: int) -> None:
        self.returns = list(returns)
        self.count = 0

    def poll(self) -> int:
        return self.returns.pop(0) if self.returns else IDLE

    def answered(self) -> int:
        return self.count

    def publish(self, address: int) -> int:
        return 0

    def set_count(self, count: int) -> None:
        pass


def ring_with(
    poller: Poller | None, serve: Callable[[Any], None], idle: Callable[[], None]
) -> Ring:
    return Ring(serve, idle, 62, Records(), cast(Any, poller))


def attach(ring: Ring, slot: SlotMemory) -> Any:
    task = SimpleNamespace(
        slot=slot,
        fs=SimpleNamespace(users={}, root_number=0, cwd_number=0),
        credentials=Credentials(),
        traps_seen=0,
        process=SimpleNamespace(channel=SimpleNamespace(fileno=0)),
    )
    ring.attach(cast(Any, task))
    return task


def test_an_ended_child_is_looked_at_in_traffic_without_a_pause() -> None:
    poller, looked = Poller(*[ENOUGH] * 100), list[int]()
    ring = ring_with(poller, lambda _: None, lambda: looked.append(100 - len(poller.returns)))
    ring.interrupted = True
    ring._pump()
    assert looked
    assert looked[0] <= 8
    ring.stop()


def test_it_is_looked_at_when_nothing_comes() -> None:
    looked = list[bool]()
    ring = ring_with(Poller(), lambda _: None, lambda: looked.append(True))
    ring.patience = PATIENCE
    ring.interrupted = True
    ring._pump()
    assert looked == [True]
    ring.stop()


def test_requests_come_before_what_nobody_waits_for() -> None:
    log = list[str]()
    slot = SlotMemory(0)
    ring = ring_with(Poller(IDLE, 0, IDLE, 0), lambda _: log.append("serve"), lambda: None)
    attach(ring, slot)
    ring.later(lambda: log.append("later"))
    ring._pump()
    assert log == ["serve", "serve", "later"]
    ring.stop()
    slot.close()


def test_answers_given_in_generated_code_are_traffic() -> None:
    """A kernel that answers much does not fall asleep between two requests."""

    class Busy(Poller):
        def poll(self) -> int:
            got = super().poll()
            self.count += bool(self.returns)
            return got

    poller = Busy(*[IDLE] * 50)
    ring = ring_with(poller, lambda _: None, lambda: None)
    ring._polls = 8
    ring._pump()
    assert not poller.returns
    ring.stop()


def test_python_polls_where_there_is_no_code() -> None:
    served = list[Any]()
    slots = [SlotMemory(n) for n in range(3)]
    ring = ring_with(None, served.append, lambda: None)
    tasks = [attach(ring, slot) for slot in slots]
    ring._next = BELLS_FIRST + 1
    for index in range(3):
        ring._bells[BELLS_FIRST + index] = 1
    ring._pump()
    assert served == [tasks[1], tasks[2], tasks[0]]
    assert ring._bells[BELLS_FIRST : BELLS_FIRST + 3] == bytes(3)
    ring.stop()
    for slot in slots:
        slot.close()


def test_an_ended_child_waits_for_a_pause_not_for_ever() -> None:
    """However long it was quiet before: patience counts from the last request on."""
    log = list[str]()
    slot = SlotMemory(0)

    class Late(Poller):
        rounds = 0

        def poll(self) -> int:
            if len(self.returns) == 3:
                ring.interrupted = True
            self.rounds += "idle" not in log
            return super().poll()

    poller = Late(*[IDLE] * 60, 0, 0, IDLE)
    ring = ring_with(poller, lambda _: log.append("serve"), lambda: log.append("idle"))
    ring.patience = PATIENCE
    attach(ring, slot)
    ring._pump()
    assert log == ["serve", "serve", "idle"]
    assert poller.rounds < 61 + 2 + PATIENCE // 16 + 4
    ring.stop()
    slot.close()
