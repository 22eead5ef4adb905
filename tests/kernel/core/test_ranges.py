"""Address ranges with values, and turns."""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace
from typing import Any

from codegen.layout import Slot
from kernel.ranges import RangeMap
from kernel.scanned import Turn
from kernel.task import Task, Waiter


def test_ranges_agree_with_a_value_for_every_address() -> None:
    rng = random.Random(7)
    ranges: RangeMap[int] = RangeMap()
    plain: dict[int, int] = {}
    for _ in range(3000):
        start = rng.randrange(60)
        end = start + rng.randrange(12)
        if rng.random() < 0.6:
            value = rng.randrange(3)
            ranges.set(start, end, value)
            plain.update(dict.fromkeys(range(start, end), value))
        else:
            ranges.clear(start, end)
            for address in range(start, end):
                plain.pop(address, None)
        items = list(ranges)
        assert {a: v for s, e, v in items for a in range(s, e)} == plain
        assert all(s < e for s, e, _ in items)
        pairs = itertools.pairwise(items)
        assert all(one[1] < two[0] or one[1:] != (two[0], two[2]) for one, two in pairs)
        address = rng.randrange(72)
        found = ranges.at(address)
        assert (found[2] if found else None) == plain.get(address)
        part = {a: v for s, e, v in ranges.over(start, end) for a in range(s, e)}
        assert part == {a: v for a, v in plain.items() if start <= a < end}


def thread() -> Any:
    made: Any = object.__new__(Task)
    made.__dict__.update(
        tid=1, call_nr=0, coroutine=None, sleeping_on=None, on_finish=None,
        slot=SimpleNamespace(words=[0] * (Slot.PENDING // 4 + 1)),
    )  # fmt: skip
    return made


def test_turns_come_in_order_and_pass_over_threads_that_have_ended() -> None:
    turn, log = Turn(), list[str]()
    gates = {name: Waiter() for name in "abc"}

    async def work(name: str) -> None:
        async with turn:
            log.append(name)
            await gates[name]

    threads = {name: thread() for name in "abc"}
    for name, task in threads.items():
        task.start(work(name), lambda _task, _answer: None)
    assert log == ["a"]
    threads["b"].abandon()
    gates["a"].wake()
    assert log == ["a", "c"]
    threads["c"].abandon()
    late = thread()
    gates["d"] = Waiter()
    late.start(work("d"), lambda _task, _answer: None)
    assert log == ["a", "c", "d"]
