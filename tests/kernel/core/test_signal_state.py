"""Pending sets and dispositions (signal(7), "Queueing and delivery semantics")."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.signals.state import (
    COUNT,
    IGNORED_BY_DEFAULT,
    SI_QUEUE,
    SI_TIMER,
    SI_USER,
    SIG_DFL,
    SIG_IGN,
    SIGCHLD,
    SIGHUP,
    SIGINT,
    SIGKILL,
    SIGRTMIN,
    SIGSEGV,
    SIGUSR1,
    SYNCHRONOUS,
    TIMER_BODY,
    Action,
    Info,
    Pending,
    Signals,
    bit,
)

EVERY = (1 << COUNT) - 1
NUMBERS = st.integers(1, COUNT)


def queued(signal: int, value: int) -> Info:
    return Info(signal, SI_QUEUE, 0, value.to_bytes(4, "little"))


def test_a_standard_signal_is_kept_once_with_its_first_sender() -> None:
    pending = Pending()
    assert pending.add(queued(SIGUSR1, 1))
    assert not pending.add(queued(SIGUSR1, 2))
    assert pending.take(EVERY) == queued(SIGUSR1, 1)
    assert pending.take(EVERY) is None
    assert pending.add(queued(SIGUSR1, 3))


def test_real_time_signals_queue_in_order() -> None:
    pending = Pending()
    for value in (1, 2, 3):
        assert pending.add(queued(SIGRTMIN + 2, value))
        assert pending.add(queued(SIGRTMIN + 1, value))
    taken = [pending.take(EVERY) for _ in range(6)]
    assert taken == [queued(SIGRTMIN + n, v) for n in (1, 2) for v in (1, 2, 3)]
    assert (pending.mask, len(pending.queue)) == (0, 0)


def test_synchronous_signals_come_first_then_the_lowest() -> None:
    pending = Pending()
    for signal in (SIGUSR1, SIGHUP, SIGSEGV, SIGRTMIN):
        pending.add(Info(signal, SI_USER))
    order = [info.signal for _ in range(4) if (info := pending.take(EVERY))]
    assert order == [SIGSEGV, SIGHUP, SIGUSR1, SIGRTMIN]


def test_only_wanted_signals_are_taken() -> None:
    pending = Pending()
    pending.add(Info(SIGINT, SI_USER))
    assert pending.take(~bit(SIGINT)) is None
    assert pending.mask == bit(SIGINT)
    assert pending.take(bit(SIGINT)) is not None


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), NUMBERS),
            st.tuples(st.just("take"), st.integers(0, EVERY)),
            st.tuples(st.just("drop"), st.integers(0, EVERY)),
        ),
        max_size=60,
    )
)
@settings(max_examples=150, deadline=None)
def test_against_a_plain_model(steps: list[tuple[str, int]]) -> None:
    pending = Pending()
    model: list[Info] = []
    for serial, (what, value) in enumerate(steps):
        if what == "add":
            info = queued(value, serial)
            lost = value < SIGRTMIN and any(i.signal == value for i in model)
            assert pending.add(info) is not lost
            if not lost:
                model.append(info)
        elif what == "take":
            ready = [i for i in model if bit(i.signal) & value]
            first = min(ready, key=lambda i: (not bit(i.signal) & SYNCHRONOUS, i.signal),
                        default=None)  # fmt: skip
            assert pending.take(value) == first
            if first is not None:
                model.remove(first)
        else:
            pending.drop(value)
            model = [i for i in model if not bit(i.signal) & value]
        assert list(pending.queue) == model
        assert pending.mask == sum({bit(i.signal) for i in model})


def test_a_timers_signal_counts_expiries_while_it_waits() -> None:
    pending = Pending()
    for timer in (1, 2):
        assert pending.add(Info(SIGUSR1, SI_TIMER, 0, TIMER_BODY.pack(timer, 0, 7)))
    assert pending.overrun(SIGUSR1, 2, 3)
    assert pending.overrun(SIGUSR1, 2, 1)
    assert not pending.overrun(SIGUSR1, 3, 1)
    assert not pending.overrun(SIGINT, 1, 1)
    bodies = [TIMER_BODY.unpack(info.body) for _ in range(2) if (info := pending.take(EVERY))]
    assert bodies == [(1, 0, 7), (2, 4, 7)]
    assert pending.mask == 0


def test_a_siginfo_is_128_bytes() -> None:
    raw = Info(SIGSEGV, -6, 5, b"body" * 50).pack()
    assert len(raw) == 128
    assert struct.unpack_from("<iii", raw) == (SIGSEGV, 5, -6)
    assert raw[16:20] == b"body"
    assert Info(SIGINT, SI_USER).pack()[12:] == bytes(116)


def test_exec_resets_caught_signals_and_keeps_ignored_ones() -> None:
    signals = Signals()
    signals.actions[SIGINT] = Action(0x1234, 4, 5, 6)
    signals.actions[SIGHUP] = Action(SIG_IGN, 4)
    signals.pending.add(Info(SIGUSR1, SI_USER))
    child = signals.copy()
    assert child.actions == signals.actions
    assert child.pending.mask == 0
    child.reset_for_exec()
    assert child.actions[SIGINT] == Action(SIG_DFL)
    assert child.actions[SIGHUP].handler == SIG_IGN
    assert signals.actions[SIGINT].handler == 0x1234, "the parent's stay"


@given(NUMBERS)
def test_what_is_ignored(signal: int) -> None:
    signals = Signals()
    assert signals.ignores(signal) == bool(bit(signal) & IGNORED_BY_DEFAULT)
    signals.actions[signal] = Action(SIG_IGN)
    assert signals.ignores(signal)
    signals.actions[signal] = Action(0x1000)
    assert not signals.ignores(signal)


def test_the_masks() -> None:
    assert bit(SIGKILL) == 0x100
    assert bit(SIGCHLD) & IGNORED_BY_DEFAULT
    assert not bit(SIGKILL) & IGNORED_BY_DEFAULT
