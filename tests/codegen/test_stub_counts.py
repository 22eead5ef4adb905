"""How many instructions the stub adds to a call of the data plane: what costs without a kernel.

`pytest -rP` shows the figures. arm64: from the site's branch until it is back, the trampoline
included; x86_64: the stub alone.
"""

from __future__ import annotations

import pytest

from codegen.layout import Slot
from tests.codegen.stub_machine import MEMORY, Machine, says, unicorn

LIMIT = 60
CALLS = {
    "read": (5, MEMORY, 1),
    "write": (5, MEMORY, 1),
    "pread64": (5, MEMORY, 1, 0),
    "futex": (MEMORY, 0x80, 1),
    "epoll_pwait": (5, MEMORY, 1, 0, 0),
    "getpid": (),
    "clock_gettime": (1, MEMORY),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_data_plane_call_adds_few_instructions(machine: Machine, name: str) -> None:
    machine.host = says(1)
    machine.set(Slot.PID, 1)
    seen: list[int] = []
    machine.uc.hook_add(unicorn.UC_HOOK_CODE, lambda _uc, at, *_: seen.append(at))
    assert machine.call(name, *CALLS[name]) == 1
    added = len(seen) - len(machine.calls)
    print(f"{machine.isa} {name}: {added}")
    assert added < LIMIT
