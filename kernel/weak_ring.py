"""The ring on a CPU that does not keep the order of stores and loads (arm64).

What orders them is generated code: `publish` and `fence` of the stub's text
(codegen.templates.arm64.ordering), mapped into the kernel and called through ctypes. The kernel's
side of each crossing, and what pairs with it in the stub:

    answer    all of the slot, then STATE = DONE (store-release)    STATE (load-acquire), then all
    sleep     STATE = DONE, fence, SLEEPING                         SLEEPING = 1, fence, STATE
    request   the bell, fence, all of the slot                      all, then the bell (release)
    doze      AWAKE = 0, fence, the bells                           the bell, fence, AWAKE
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

from codegen.layout import STUB_BASE, Slot, State
from kernel.host.linux import futex_wake, map_code
from kernel.ring import Ring

if TYPE_CHECKING:
    from collections.abc import Callable

    from codegen.image import StubImage
    from kernel.records import Records
    from kernel.task import Task


class Ordering:
    """The generated functions of a stub that is built for the kernel's own CPU."""

    def __init__(self, stub: StubImage) -> None:
        """OSError: the stub's file cannot be mapped."""
        with stub.path.open("rb") as file:
            base = map_code(file.fileno(), os.fstat(file.fileno()).st_size) - STUB_BASE
        # PyDLL's calling convention: the lock is kept, these take nanoseconds.
        self.publish = ctypes.PYFUNCTYPE(
            ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p
        )(base + stub.symbols["publish"])
        self.fence = ctypes.PYFUNCTYPE(None)(base + stub.symbols["fence"])

    def __enter__(self) -> None:
        """As a lock in a `with`: a fence."""
        self.fence()

    def __exit__(self, *_: object) -> None:
        """Nothing to undo."""


class WeakRing(Ring):
    """A ring whose crossings are ordered by generated code."""

    def __init__(
        self,
        serve: Callable[[Task], None],
        idle: Callable[[], None],
        kick_signal: int,
        records: Records,
        ordering: Ordering,
    ) -> None:
        def serve_seen(task: Task) -> None:
            ordering.fence()
            serve(task)

        super().__init__(serve_seen, idle, kick_signal, records, fence=ordering)
        self._release = ordering.publish

    def publish(self, task: Task) -> None:
        """See Ring."""
        state = task.slot.futex_address
        if self._release(state, State.DONE, state + Slot.SLEEPING - Slot.STATE):
            futex_wake(state)
