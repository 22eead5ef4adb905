"""The id and capability rules, against this machine's own kernel: same calls, same outcome."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.capabilities import (
    ALL_CAPABILITIES,
    CAP_NET_BIND_SERVICE,
    CAP_SETPCAP,
    CAP_SETUID,
    DOCKER_DEFAULT,
    docker_capabilities,
    mask,
)
from kernel.credentials import KEEP, Credentials, container_credentials
from kernel.errors import LinuxError

LIBC = ctypes.CDLL(None, use_errno=True)
NUMBERS = {
    "setuid": 105, "setgid": 106, "setreuid": 113, "setregid": 114, "setresuid": 117,
    "setresgid": 119, "setfsuid": 122, "setfsgid": 123,
}  # fmt: skip
Call = tuple[str, tuple[int, ...]]


def native_state(result: int) -> list[int]:
    ids: dict[str, list[int]] = {}
    capabilities: dict[str, int] = {}
    with open("/proc/thread-self/status", encoding="ascii") as status:
        for line in status:
            key, _, value = line.partition(":")
            if key in ("Uid", "Gid"):
                ids[key] = [int(word) for word in value.split()]
            elif key in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
                capabilities[key] = int(value, 16)
    names = ("CapPrm", "CapEff", "CapInh", "CapAmb")
    return [result, *ids["Uid"], *ids["Gid"], *(capabilities[name] for name in names)]


def run_natively(calls: list[Call]) -> list[list[int]]:
    """The state after each call, made by a child that ends with it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            states = [native_state(0)]
            for name, args in calls:
                number = NUMBERS[name]
                result = LIBC.syscall(number, *(ctypes.c_long(a) for a in args))
                states.append(native_state(-ctypes.get_errno() if result < 0 else result))
            os.write(writer, json.dumps(states).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        data = answers.read()
    os.waitpid(child, 0)
    return json.loads(data)  # type: ignore[no-any-return]


def run_ours(start: list[int], calls: list[Call]) -> list[list[int]]:
    uid, euid, suid, fsuid, gid, egid, sgid, fsgid = start[1:9]
    who = Credentials(
        uid, euid, suid, fsuid, gid, egid, sgid, fsgid, permitted=start[9], effective=start[10],
        inheritable=start[11], ambient=start[12], bounding=ALL_CAPABILITIES,
    )  # fmt: skip
    states = [start]
    for name, args in calls:
        result = 0
        before = who
        try:
            who = getattr(who, name)(*args)
        except LinuxError as error:
            result = -error.errno
        if name == "setfsuid":
            result = before.fsuid
        elif name == "setfsgid":
            result = before.fsgid
        states.append(
            [
                result, who.uid, who.euid, who.suid, who.fsuid, who.gid, who.egid, who.sgid,
                who.fsgid, who.permitted, who.effective, who.inheritable, who.ambient,
            ]
        )  # fmt: skip
    return states


IDS = [0, 1000, 2000, 65534, KEEP]
ONE = ("setuid", "setgid", "setfsuid", "setfsgid")
TWO = ("setreuid", "setregid")


def random_calls(seed: int) -> list[Call]:
    source = random.Random(seed)
    calls: list[Call] = []
    for _ in range(6):
        name = source.choice(list(NUMBERS))
        count = 1 if name in ONE else 2 if name in TWO else 3
        calls.append((name, tuple(source.choice(IDS) for _ in range(count))))
    return calls


@pytest.mark.parametrize("seed", range(60))
def test_random_id_calls_do_what_this_kernel_does(seed: int) -> None:
    calls = random_calls(seed)
    native = run_natively(calls)
    assert run_ours(native[0], calls) == native


def test_root_that_becomes_a_user_for_good_loses_everything() -> None:
    who = container_credentials(0, 0, [0]).setresuid(1000, 1000, 1000)
    assert (who.permitted, who.effective) == (0, 0)
    with pytest.raises(LinuxError) as refusal:
        who.setuid(0)
    assert refusal.value.errno == errno.EPERM


def test_root_that_keeps_its_saved_id_gets_its_capabilities_back() -> None:
    who = container_credentials(0, 0, [0]).setresuid(KEEP, 1000, KEEP)
    assert (who.effective, who.permitted) == (0, DOCKER_DEFAULT)
    assert who.setresuid(KEEP, 0, KEEP).effective == DOCKER_DEFAULT


def test_keep_caps_leaves_permitted_to_a_new_user() -> None:
    who = container_credentials(0, 0, []).with_keep_caps(True).setresuid(7, 7, 7)
    assert (who.permitted, who.effective) == (DOCKER_DEFAULT, 0)


@given(st.integers(0, ALL_CAPABILITIES), st.integers(0, ALL_CAPABILITIES))
@settings(max_examples=200)
def test_capset_never_raises_permitted(effective: int, permitted: int) -> None:
    who = container_credentials(0, 0, [])
    try:
        after = who.capset(effective, permitted, 0)
    except LinuxError:
        assert permitted & ~who.permitted or effective & ~permitted
    else:
        assert after.permitted & ~who.permitted == 0
        assert after.effective & ~after.permitted == 0


def test_capset_may_not_add_an_inheritable_beyond_the_bounding_set() -> None:
    who = container_credentials(0, 0, [])
    with pytest.raises(LinuxError):
        who.capset(who.effective, who.permitted, ALL_CAPABILITIES)
    dropped = who.drop_bounding(CAP_NET_BIND_SERVICE)
    assert not dropped.bounding >> CAP_NET_BIND_SERVICE & 1


def test_setuid_root_file_gives_a_user_the_bounding_set() -> None:
    user = container_credentials(1000, 1000, [1000])
    execution = user.executing(0o104755, 0, 0)
    assert execution.secure
    new = execution.credentials
    assert (new.uid, new.euid, new.suid, new.fsuid) == (1000, 0, 0, 0)
    assert new.effective == new.permitted == DOCKER_DEFAULT


@pytest.mark.parametrize("blocked", ["nosuid", "no_new_privs"])
def test_setuid_file_gives_nothing_where_it_may_not(blocked: str) -> None:
    user = container_credentials(1000, 1000, [1000], no_new_privs=blocked == "no_new_privs")
    execution = user.executing(0o106755, 0, 0, nosuid=blocked == "nosuid")
    assert not execution.secure
    assert execution.credentials == user


def test_setgid_needs_group_execute() -> None:
    user = container_credentials(1000, 1000, [1000])
    assert user.executing(0o102745, 0, 7).credentials.egid == 1000
    assert user.executing(0o102755, 0, 7).credentials.egid == 7


def attribute(permitted: int, effective: bool) -> bytes:
    low, high = permitted & 0xFFFFFFFF, permitted >> 32
    return struct.pack("<IIIII", 0x02000000 | effective, low, 0, high, 0)


def test_file_capabilities_are_given_to_a_user_within_the_bounding_set() -> None:
    user = container_credentials(1000, 1000, [])
    granted = user.executing(0o755, 0, 0, attribute(mask(CAP_SETUID), True))
    assert granted.secure
    assert granted.credentials.effective == mask(CAP_SETUID)
    with pytest.raises(LinuxError):  # ping with cap_sys_admin in a container that has none
        user.executing(0o755, 0, 0, attribute(mask(21), True))
    assert user.executing(0o755, 0, 0, attribute(mask(21), False)).credentials.permitted == 0


def test_ambient_capabilities_survive_a_plain_exec_only() -> None:
    user = container_credentials(0, 0, [])
    user = user.capset(user.effective, user.permitted, mask(CAP_SETPCAP))
    user = user.raise_ambient(CAP_SETPCAP).with_keep_caps(True).setresuid(5, 5, 5)
    assert user.ambient == 0  # leaving root clears it
    user = user.capset(user.permitted, user.permitted, user.inheritable).raise_ambient(CAP_SETPCAP)
    assert user.executing(0o755, 0, 0).credentials.effective == mask(CAP_SETPCAP)
    assert user.executing(0o104755, 9, 0).credentials.effective == 0


def test_securebits_lock() -> None:
    who = container_credentials(0, 0, []).with_securebits(0b11)
    with pytest.raises(LinuxError):
        who.with_securebits(0)


@pytest.mark.parametrize(
    ("add", "drop", "expected"),
    [
        ([], [], DOCKER_DEFAULT),
        (["ALL"], [], ALL_CAPABILITIES),
        (["ALL"], ["SETUID"], ALL_CAPABILITIES & ~mask(CAP_SETUID)),
        (["CAP_SETUID"], ["all"], mask(CAP_SETUID)),
        (["sys_admin"], [], DOCKER_DEFAULT | mask(21)),
        ([], ["SETPCAP"], DOCKER_DEFAULT & ~mask(CAP_SETPCAP)),
    ],
)
def test_docker_flags(add: list[str], drop: list[str], expected: int) -> None:
    assert docker_capabilities(add, drop, False) == expected


def test_unknown_capability_is_named() -> None:
    with pytest.raises(ValueError, match="unknown capability: 'FLY'"):
        docker_capabilities(["FLY"], [], False)


def test_the_default_set_is_dockers() -> None:
    assert DOCKER_DEFAULT == 0xA80425FB
