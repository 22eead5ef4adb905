"""`--user` as Docker reads it."""

from __future__ import annotations

import pytest

from kernel.users import UserError, resolve_user

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
# a comment
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin

app:x:1000:50:App:/home/app:/bin/sh
"""
GROUP = b"""root:x:0:
wheel:x:10:root
staff:x:50:
extra:x:60:app,root
"""


def look(spec: str, extra: list[str] | None = None) -> tuple[int, int, tuple[int, ...], bytes]:
    user = resolve_user(spec, PASSWD, GROUP, extra)
    return user.uid, user.gid, user.groups, user.home


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", (0, 0, (0, 10, 60), b"/root")),
        ("root", (0, 0, (0, 10, 60), b"/root")),
        ("app", (1000, 50, (50, 60), b"/home/app")),
        ("1000", (1000, 50, (50, 60), b"/home/app")),
        ("app:wheel", (1000, 10, (10,), b"/home/app")),
        ("app:77", (1000, 77, (77,), b"/home/app")),
        ("4711", (4711, 0, (0,), b"/")),
        ("4711:staff", (4711, 50, (50,), b"/")),
    ],
)
def test_spec(spec: str, expected: tuple[int, int, tuple[int, ...], bytes]) -> None:
    assert look(spec) == expected


def test_group_add_comes_last() -> None:
    assert look("app", ["wheel", "99"])[2] == (50, 60, 10, 99)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nosuch", "unable to find user nosuch: no matching entries in passwd file"),
        ("app:nosuch", "unable to find group nosuch: no matching entries in group file"),
        ("4294967296", "uids and gids must be in range 0-2147483647"),
        ("-1", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_errors_are_dockers(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_user(spec, PASSWD, GROUP)


def test_images_without_the_files_have_numeric_users_only() -> None:
    assert resolve_user("12:34", None, None).groups == (34,)
    assert resolve_user("", None, None).uid == 0
    with pytest.raises(UserError):
        resolve_user("root", None, None)
