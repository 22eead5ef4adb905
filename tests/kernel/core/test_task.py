"""Which sleeps a signal ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from codegen.layout import Slot
from kernel.errors import Interrupted
from kernel.task import Task, Waiter


@pytest.fixture
def task() -> Any:
    made: Any = object.__new__(Task)
    words = [0] * (Slot.PENDING // 4 + 1)
    made.__dict__.update(
        tid=1, call_nr=0, coroutine=None, sleeping_on=None, on_finish=None,
        slot=SimpleNamespace(words=words),
    )  # fmt: skip
    return made


@pytest.mark.parametrize("signal_comes_first", [True, False])
@pytest.mark.parametrize("interruptible", [True, False])
def test_a_signal_ends_only_interruptible_sleeps(
    task: Any, interruptible: bool, signal_comes_first: bool
) -> None:
    async def call() -> Any:
        return await waiter

    waiter = Waiter(interruptible)
    answers: list[Any] = []
    task.slot.words[Slot.PENDING // 4] = int(signal_comes_first)
    task.start(call(), lambda _task, answer: answers.append(answer))
    if not signal_comes_first:
        assert task.interrupt() is interruptible
    assert bool(answers) is interruptible
    waiter.wake("news")
    if interruptible:
        assert isinstance(answers[0], Interrupted)
    else:
        assert answers == ["news"]
