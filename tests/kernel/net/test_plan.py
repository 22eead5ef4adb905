"""The address plan is a bijection that everybody can compute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.net import plan
from kernel.net.claim import claim

OWNERS = st.integers(0x10000, 0xFFFFF)
KINDS = st.integers(0, 6)
PORTS = st.integers(1, 65535)


@given(OWNERS, KINDS, PORTS)
def test_a_host_endpoint_decodes_to_what_it_was_made_from(owner: int, kind: int, port: int) -> None:
    address, host_port = plan.host_endpoint(owner, kind, port)
    assert 1024 <= host_port <= 65535
    assert plan.decode(address, host_port) == plan.Endpoint(owner, kind, port)


@pytest.mark.parametrize("owner", [0x10002, 0xFFFFE])
def test_no_two_ports_share_a_host_endpoint(owner: int) -> None:
    endpoints = {plan.host_endpoint(owner, 0, port) for port in range(1, 65536)}
    assert len(endpoints) == 65535


@given(OWNERS, PORTS)
def test_published_ports_do_not_lie_on_the_same_host_port(owner: int, port: int) -> None:
    assert plan.host_endpoint(owner, plan.ANY4, port)[1] != port


@given(OWNERS)
def test_loopback_names_the_owner(owner: int) -> None:
    assert plan.owner_of(plan.loopback_of(owner)) == owner


@given(OWNERS, st.integers(32768, 60999))
def test_ports_the_host_chose_stay_ephemeral(owner: int, port: int) -> None:
    assert 32768 <= plan.to_guest(owner, port) <= 60999


def test_neighbours_are_on_the_bridge() -> None:
    owner = plan.owner_of("127.1.0.2")
    assert plan.ethernet_of(owner) == bytes((172, 17, 0, 2))
    assert plan.neighbour(owner, bytes((172, 17, 0, 3))) == plan.owner_of("127.1.0.3")
    assert plan.neighbour(owner, bytes((10, 0, 0, 1))) is None


def test_the_hosts_own_loopback_belongs_to_nobody() -> None:
    assert plan.decode(bytes((127, 0, 0, 1)), 80) is None
    with pytest.raises(ValueError):
        plan.owner_of("127.0.0.1")


def test_a_publisher_tries_every_kind_a_listener_may_have() -> None:
    owner = plan.owner_of("127.1.0.2")
    kinds = [
        plan.decode(bytes(map(int, a.split("."))), p) for a, p in plan.listeners("127.1.0.2", 80)
    ]
    assert [k and k.kind for k in kinds] == [plan.ETHERNET4, plan.ANY4, plan.ANY6]
    assert all(k and k.owner == owner and k.port == 80 for k in kinds)


def test_an_address_is_claimed_once() -> None:
    held = claim("127.15.99.99")
    assert held is not None
    assert claim("127.15.99.99") is None
    held.close()
    again = claim("127.15.99.99")
    assert again is not None
    again.close()
