"""What becomes of a request whose service fails."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

import kernel.dispatch
from codegen.layout import Request, State
from kernel.dispatch import Dispatcher
from kernel.slot import SlotMemory
from kernel.task import Task


class Ring:
    """Records what is published."""

    def __init__(self) -> None:
        self.published = 0

    def publish(self, task: Any) -> None:
        self.published += 1


def dispatcher_and_task() -> tuple[Any, Any, Ring, list[int]]:
    ring, killed = Ring(), list[int]()
    container = SimpleNamespace(ring=ring, kill=lambda _process, signal: killed.append(signal))
    dispatcher: Any = object.__new__(Dispatcher)
    dispatcher._container = container
    process = SimpleNamespace(pid=1, ending=False, comm=b"t", container=container)
    task: Any = object.__new__(Task)
    task.__dict__.update(
        process=process, tid=1, call_nr=0, coroutine=None, sleeping_on=None, on_finish=None,
        recover=None,
    )  # fmt: skip
    return dispatcher, task, ring, killed


def test_a_failure_in_signal_delivery_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(task: Any) -> None:
        raise RuntimeError("a bug of ours")

    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr(kernel.dispatch, "deliver", broken)
    monkeypatch.setattr(kernel.dispatch, "deliverable", lambda _task: 0)
    dispatcher, task, ring, killed = dispatcher_and_task()
    dispatcher._special(task, Request.DELIVER)
    assert killed == [11]
    assert ring.published == 0


def test_a_failure_in_boot_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(task: Any) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(kernel.dispatch, "boot", broken)
    dispatcher, task, ring, killed = dispatcher_and_task()
    dispatcher._special(task, Request.BOOT)
    assert (killed, ring.published) == ([11], 0)


@pytest.mark.parametrize("number", [Request.CONTINUED, Request.FAILED + 1, (1 << 64) - 1])
def test_a_request_that_no_honest_stub_posts_ends_the_process(number: int) -> None:
    dispatcher, task, ring, killed = dispatcher_and_task()
    dispatcher._special(task, number)
    assert (killed, ring.published) == ([11], 0)


def test_nothing_is_served_twice() -> None:
    """A stray bell finds a slot whose state is not REQUESTED."""
    dispatcher, task, ring, killed = dispatcher_and_task()
    task.slot = SlotMemory(0)
    try:
        for state in (State.IDLE, State.PARKED, State.DONE, 77):
            task.slot.words[0] = state
            dispatcher.serve(task)
        assert (killed, ring.published) == ([], 0)
    finally:
        task.slot.close()
