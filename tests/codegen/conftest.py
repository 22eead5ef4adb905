"""The stub's tests run once an instruction set, and for arm64's variant (codegen.variant)."""

from __future__ import annotations

import pytest

from tests.codegen.arm64_machine import MachineArm64
from tests.codegen.stub_machine import Machine
from tests.codegen.variant_machine import MachineVariant
from tests.codegen.x86_64_machine import MachineX86


@pytest.fixture(
    params=[MachineX86, MachineArm64, MachineVariant],
    ids=["x86_64", "arm64", "arm64-variant"],
    scope="session",
)
def make(request: pytest.FixtureRequest) -> type[Machine]:
    """The class of the machine: for tests that need several, or one an example."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def machine(make: type[Machine]) -> Machine:
    """A thread in the stub of each instruction set."""
    return make()
