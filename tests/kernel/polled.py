"""One slot of a container with a poll loop, and what posts requests in it."""

from __future__ import annotations

import mmap
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

import tables
from codegen.layout import BELLS_FIRST, PAYLOAD, Slot, State
from codegen.poll import build_poll
from kernel import isa
from kernel.fs.answers import Answers
from kernel.host.engines import host_isa
from kernel.host.linux import address_of
from kernel.poller import Poller
from kernel.records import Records
from kernel.slot import SlotPool

needs_code = pytest.mark.skipif(
    build_poll(host_isa(), None) is None, reason="the kernel polls in Python on this CPU"
)


class Guest:
    """Posts calls in slot 11 of 20."""

    def __init__(self, answers: Answers, context: Any, credentials: Any) -> None:
        self.abi = tables.load("x86_64")
        self.records = Records()
        self.answers = answers
        code = build_poll(host_isa(), None)
        assert code is not None
        self.poller = Poller(code, self.abi, isa.of("x86_64"), self.records, self.answers)
        self.bells = mmap.mmap(-1, 4096)
        self.poller.watch(address_of(self.bells) + BELLS_FIRST)
        self.pool = SlotPool(64, self.records)
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.slots = [slot for slot in (self.pool.take() for _ in range(20)) if slot is not None]
        self.poller.set_count(len(self.slots))
        self.slot = self.slots[11]
        channel = SimpleNamespace(fileno=self.ours.fileno())
        task = SimpleNamespace(
            slot=self.slot,
            fs=context,
            credentials=credentials,
            traps_seen=0,
            process=SimpleNamespace(channel=channel),
        )
        self.task = cast(Any, task)
        self.records.attach(self.task)

    def post(self, name: str, *arguments: bytes | int) -> int:
        """Post a call with its path copied in; what `poll` returns."""
        q, at = self.slot.q, 24
        for i, argument in enumerate(arguments):
            if isinstance(argument, bytes):
                q[Slot.IN // 8 + i] = len(argument) << 32 | at
                self.slot.mm[PAYLOAD + at : PAYLOAD + at + len(argument) + 1] = argument + b"\0"
                at += len(argument) + 9 & -8
            else:
                q[Slot.ARGS // 8 + i] = argument
        q[Slot.NR // 8] = self.abi.numbers[name]
        self.slot.words[0] = State.REQUESTED
        self.ring()
        return self.poller.poll()

    def ring(self) -> None:
        self.bells[BELLS_FIRST + self.slot.index] = 1

    @property
    def result(self) -> int:
        value: int = self.slot.q[Slot.RESULT // 8]
        return value - (1 << 64) if value >> 63 else value

    @property
    def done(self) -> bool:
        return bool(self.slot.words[0] == State.DONE)

    def out(self) -> tuple[int, bytes]:
        """Where to the answer's block is to be copied, and the block."""
        q = self.slot.q
        length = q[Slot.OUT_LENGTH // 8]
        return q[Slot.OUT_ADDRESS // 8], self.slot.mm[PAYLOAD : PAYLOAD + length]

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()
        for slot in self.slots:
            slot.close()
