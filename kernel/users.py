"""Which user a container's `--user` names, looked up in the guest's own passwd and group files.

The rules and the wording of errors are those of github.com/moby/sys/user (GetExecUser), because
`docker run --user nobody:nogroup` shows them to the user.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_ID = (1 << 31) - 1


class UserError(ValueError):
    """The user or group cannot be found; the text is Docker's."""


@dataclass(frozen=True, slots=True)
class User:
    """A resolved user: `groups` are the supplementary ones, the primary group first."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: bytes
    name: bytes


def resolve_user(
    spec: str, passwd: bytes | None, group: bytes | None, extra_groups: list[str] | None = None
) -> User:
    """Resolve "", "uid", "name", "uid:gid" or "name:group" and the --group-add list.

    `passwd` and `group` are the files' contents, None where there is no such file.
    """
    user_text, _, group_text = spec.partition(":")
    wanted = user_text.encode("utf-8", "surrogateescape")
    number = _number(user_text)
    uid, gid, home, name = 0, 0, b"/", b""
    for fields in _lines(passwd, 7):
        entry_uid = _number(fields[2].decode("ascii", "replace"))
        if wanted == b"":
            found = entry_uid == 0
        else:
            found = entry_uid == number if number is not None else fields[0] == wanted
        if found and entry_uid is not None:
            entry_gid = _number(fields[3].decode("ascii", "replace")) or 0
            uid, gid, home, name = entry_uid, entry_gid, fields[5] or b"/", fields[0]
            break
    else:
        if user_text:
            if number is None:
                raise UserError(
                    f"unable to find user {user_text}: no matching entries in passwd file"
                )
            uid = _in_range(number)
    supplementary: list[int] = []
    if group_text:
        gid = _group(group_text, group)
    elif name:
        supplementary = [entry for members, entry in _members(group) if name in members]
    supplementary += [_group(extra, group) for extra in extra_groups or []]
    return User(uid, gid, tuple(dict.fromkeys([gid, *supplementary])), home, name)


def _group(text: str, group: bytes | None) -> int:
    number = _number(text)
    if number is not None:
        return _in_range(number)
    wanted = text.encode("utf-8", "surrogateescape")
    for fields in _lines(group, 4):
        gid = _number(fields[2].decode("ascii", "replace"))
        if fields[0] == wanted and gid is not None:
            return gid
    raise UserError(f"unable to find group {text}: no matching entries in group file")


def _members(group: bytes | None) -> Iterator[tuple[list[bytes], int]]:
    for fields in _lines(group, 4):
        gid = _number(fields[2].decode("ascii", "replace"))
        if gid is not None:
            yield fields[3].split(b","), gid


def _lines(content: bytes | None, count: int) -> Iterator[list[bytes]]:
    """The colon-separated fields of each line, padded to `count`; comments and blanks skipped."""
    for line in (content or b"").split(b"\n"):
        stripped = line.strip()
        if stripped and not stripped.startswith(b"#"):
            fields = stripped.split(b":")
            yield fields + [b""] * (count - len(fields))


def _number(text: str) -> int | None:
    """As strconv.Atoi reads it, None if it is not a number."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    return int(text) if digits.isascii() and digits.isdigit() else None


def _in_range(number: int) -> int:
    if not 0 <= number <= MAX_ID:
        raise UserError("uids and gids must be in range 0-2147483647")
    return number
