"""The poll loop in generated code, as Python functions (codegen.templates.*.poll)."""

from __future__ import annotations

import mmap
from os import O_CLOEXEC, O_NOCTTY, O_NONBLOCK
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final

from codegen.poll_layout import KIND_LIMIT, Entry, Kind, Poll
from kernel.channel import one_descriptor
from kernel.host.builtins import METH_NOARGS, METH_O, Code, c_function
from kernel.host.linux import address_of
from kernel.isa import canonical
from kernel.isa.openflags import O_LARGEFILE

if TYPE_CHECKING:
    from collections.abc import Callable

    from codegen.poll import PollCode
    from kernel.fs.answers import Answers
    from kernel.isa import Isa
    from kernel.records import Records
    from tables import Table

_KINDS: Final = {
    "stat": Kind.STAT,
    "lstat": Kind.STAT | Kind.NOFOLLOW,
    "newfstatat": Kind.STAT | Kind.AT | Kind.FLAGS,
    "open": Kind.OPEN,
    "openat": Kind.OPEN | Kind.AT,
    "access": Kind.ACCESS,
    "faccessat": Kind.ACCESS | Kind.AT,
    "readlink": Kind.READLINK | Kind.NOFOLLOW,
    "fstat": Kind.FSTAT,
    "readlinkat": Kind.READLINK | Kind.AT | Kind.NOFOLLOW,
}
_LIMIT = 16  # answers before Python looks whether a child has ended
_LOOK_NS = 2400  # how long a `poll` in vain shall take
_ANSWERED = Poll.ANSWERED // 8
_TRIAL, _TRIALS, _MOST_LOOKS = 64, 8, 4096


class Poller:
    """The control block and the functions that use it. OSError: this host cannot have them."""

    def __init__(
        self, code: PollCode, abi: Table, isa: Isa, records: Records, answers: Answers
    ) -> None:
        self._block = mmap.mmap(-1, Poll.SIZE)
        self._words = memoryview(self._block).cast("Q")
        self._kinds = mmap.mmap(-1, KIND_LIMIT)
        self._of_number = {
            abi.numbers[name]: kind for name, kind in _KINDS.items() if name in abi.numbers
        }
        if isa.stat is not canonical:  # the layout that generated code edits
            del self._of_number[abi.numbers["fstat"]]
        self.know(True)
        plain = O_CLOEXEC | O_NONBLOCK | O_NOCTTY | isa.open_flags.to_guest(O_LARGEFILE)
        for field, value in (
            (Poll.LIMIT, _LIMIT),
            (Poll.KINDS, address_of(self._kinds)),
            (Poll.RECORDS, records.address),
            (Poll.ENTRIES, answers.address),
            (Poll.STAT_SIZE, len(isa.stat(bytes(Entry.STAT_SIZE)))),
            (Poll.NOT_PLAIN, ~plain & 0xFFFF_FFFF),
            (Poll.PY_LONG, c_function("PyLong_FromLong")),
            (Poll.PY_ADDRESS, c_function("PyLong_AsUnsignedLongLong")),
        ):
            self._words[field // 8] = value
        for cloexec in (False, True):
            at = Poll.DESCRIPTOR + cloexec * Poll.DESCRIPTOR_SIZE
            ops = one_descriptor(cloexec, flagged=False)
            self._block[at : at + len(ops)] = ops
        self._code = Code(code.placed(address_of(self._block)))
        functions = self._code.builtins(
            code.symbols, {"next_request": METH_NOARGS, "publish": METH_O}
        )
        self.poll: Callable[[], int] = functions["next_request"]
        self.publish: Callable[[int], int] = functions["publish"]

    def watch(self, bells: int) -> None:
        """The bells lie at that address; none of them is anybody's yet."""
        self._words[Poll.BELLS // 8] = bells
        self._words[Poll.BUDGET // 8] = _TRIAL
        took = min(self._vain_ns() for _ in range(_TRIALS))
        self._words[Poll.BUDGET // 8] = max(1, min(_TRIAL * _LOOK_NS // took, _MOST_LOOKS))

    def _vain_ns(self) -> int:
        started = perf_counter_ns()
        self.poll()
        return perf_counter_ns() - started

    def answered(self) -> int:
        """How many requests it has answered so far."""
        return self._words[_ANSWERED]

    def set_count(self, count: int) -> None:
        """So many slots are in use."""
        self._words[Poll.COUNT // 8] = count

    def know(self, known: bool) -> None:
        """Whether answers are given here; else Python sees every request."""
        for number, kind in self._of_number.items():
            self._kinds[number] = kind if known else 0
