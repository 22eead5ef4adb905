"""What is known of one process's executable memory where the kernel has to look at all of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple

from codegen import svc_patch, x18
from codegen.layout import Trampoline
from codegen.svc_patch import Site
from kernel.ranges import RangeMap
from kernel.task import Waiter
from kernel.texts import PROT_EXEC, PROT_WRITE

FEW_AREAS = 64  # so many that nothing leads to may stay
FEW_RANGES = 256  # so many may be remembered where nothing is mapped any more


class Pages(NamedTuple):
    """Pages for which the guest has asked PROT_EXEC."""

    prot: int  # as asked
    executable: bool  # they are; then they are not writable

    @property
    def writable(self) -> bool:
        """The guest may write them when they are not executable."""
        return bool(self.prot & PROT_WRITE)


class Area(NamedTuple):
    """Trampolines of the text at [text, text + size), one a site.

    `size` 0: it is not known what leads here, so it is never given back.
    """

    start: int
    text: int
    sites: Sequence[Site]
    size: int = 0
    head: bytes = b""  # how the area begins

    def find(self, pc: int) -> tuple[int, Site] | None:
        """The trampoline that holds `pc`: its address and its site."""
        number = (pc - self.start) // Trampoline.SIZE
        if not 0 <= number < len(self.sites):
            return None
        return self.start + number * Trampoline.SIZE, self.sites[number]

    def find_body(self, pc: int) -> tuple[int, Site] | None:
        """The body (codegen.x18) that holds `pc`: its address and its site."""
        first = self.start + len(self.sites) * Trampoline.SIZE
        number = (pc - first) // x18.BODY_SIZE
        with_body = svc_patch.bodies(self.sites) if number >= 0 else ()
        if not 0 <= number < len(with_body):
            return None
        return first + number * x18.BODY_SIZE, with_body[number]


class Turn:
    """Changes of a process's executable memory happen one after the other."""

    def __init__(self) -> None:
        self._held = False
        self._waiting: deque[Waiter] = deque()

    async def __aenter__(self) -> None:
        if not self._held:
            self._held = True
            return
        waiter = Waiter(interruptible=False)
        self._waiting.append(waiter)
        try:
            await waiter
        except BaseException:  # the thread has ended
            if waiter.done:
                self._release()
            else:
                self._waiting.remove(waiter)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._release()

    def _release(self) -> None:
        if self._waiting:
            self._waiting.popleft().wake()  # it holds the turn now
        else:
            self._held = False


@dataclass
class Scanned:
    """Bookkeeping of one process. It knows what reaches the kernel: calls with PROT_EXEC, faults.

    So a range may be stale, after a native munmap(2) or mprotect(2): then it says more than is true
    about what the guest wanted, never about what was looked at.
    """

    pages: RangeMap[Pages] = field(default_factory=RangeMap)
    areas: RangeMap[Area] = field(default_factory=RangeMap)
    by_text: dict[int, int] = field(default_factory=dict)  # text -> its latest area, if it is there
    sweep_at: int = FEW_AREAS  # with so many areas, those not in use are looked for
    look_at: int = FEW_RANGES  # with so many ranges of pages, unmapped ones are looked for
    trapped: dict[int, int] = field(default_factory=dict)  # site -> trampoline (kernel.trap_net)
    turn: Turn = field(default_factory=Turn)
    # Faults that another thread's change seemed to have settled: (pc, address) by thread.
    repeated: dict[int, tuple[int, int]] = field(default_factory=dict)

    def copy(self) -> Scanned:
        """For a forked child."""
        return Scanned(
            self.pages.copy(), self.areas.copy(), dict(self.by_text), self.sweep_at,
            self.look_at, self.trapped.copy(),
        )  # fmt: skip

    def asked(self, start: int, end: int, prot: int, executable: bool) -> None:
        """The guest wants `prot` for [start, end)."""
        if prot & PROT_EXEC:
            self.pages.set(start, end, Pages(prot & 7, executable))
        else:
            self.pages.clear(start, end)

    def mapped(self, area: Area, end: int) -> None:
        """Trampolines of text lie at [area.start, end) now."""
        self.areas.set(area.start, end, area)
        self.by_text[area.text] = area.start

    def trampoline(self, pc: int) -> tuple[Area, int, Site] | None:
        """The trampoline that holds `pc`: its area, address and site."""
        found = self.areas.at(pc)
        if found is None:
            return None
        inside = found[2].find(pc)
        return (found[2], *inside) if inside is not None else None

    def body(self, pc: int) -> tuple[Area, int, Site] | None:
        """The same for a trampoline's body."""
        found = self.areas.at(pc)
        if found is None:
            return None
        inside = found[2].find_body(pc)
        return (found[2], *inside) if inside is not None else None
