"""Answers about paths that generated code gives again without asking Python (kernel.poller).

What is here was answered twice by the resolver and holds until it is forgotten: `Node.packed`
and `Node.vanish` forget what is known of one name, `Memory.clear` forgets all. Paths that not
everybody may take, and files that not everybody may read, say which capability that takes.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from codegen.poll_layout import FILES, Entry, hashed
from kernel.fs.metadata import REGULAR, SYMLINK
from kernel.host.linux import address_of

if TYPE_CHECKING:
    from kernel.fs.node import Node

# What a call wants to be answered again with; less is not worth an entry.
ATTRIBUTES: Final = Entry.NEGATIVE | Entry.HAS_STAT
EXISTENCE: Final = Entry.NEGATIVE | Entry.HAS_LINK | Entry.NO_LINK
TEXT: Final = EXISTENCE  # a link has one, what is none has none
CONTENT: Final = Entry.NEGATIVE | Entry.HAS_FILE

_MOST_PATHS = 64  # by which one name is known
_HEADER = 64  # its last word is the generation; entries follow
_COUNT = Entry.BUCKET << Entry.BUCKET_BITS
_FIELDS = struct.Struct(f"<QQQIIQ{Entry.PATH_SIZE}s{Entry.STAT_SIZE}s{Entry.TEXT_SIZE}s")
_KEY = struct.Struct("<QQQ")
_FILE = struct.Struct("<QQ")
_FILES_KEY = FILES << 1
_MOST_ASKED = 4096


class Answers:
    """A table of entries by start and path. A bucket has two; a third one replaces either."""

    def __init__(self, to_guest: Callable[[bytes], bytes]) -> None:
        """`to_guest`: canonical attributes as the guests' struct stat."""
        self._to_guest = to_guest
        self._memory = mmap.mmap(-1, _HEADER + _COUNT * Entry.SIZE)
        self._words = memoryview(self._memory).cast("Q")
        self.address = address_of(self._memory) + _HEADER
        self._owners: dict[int, object] = {}  # a node, or ourselves for a file
        self._asked: set[bytes] = set()  # files that fstat was asked about
        self._turn = 0
        self._generation = 1
        self._words[_HEADER // 8 - 1] = 1

    def learn(
        self, start: int, path: bytes, follow: bool, node: Node, want: int, need: int
    ) -> None:
        """`path` from the walks numbered `start` is `node`.

        `want`: for the sake of which of Entry's flags it is remembered; `need`: of Entry.NEEDS_*,
        what it takes to get there.
        """
        if not 0 < len(path) <= Entry.PATH_SIZE:
            return
        key = start << 1 | (not follow)
        if node.learned is not None and len(node.learned) >= _MOST_PATHS:
            self.forget(node)
        learned = node.learned
        if learned is not None:
            index, flags = learned.get((key, path), (-1, 0))
            if flags & want and self._owners.get(index) is node:
                return  # asked by somebody who may not, or after a trap
        flags, text = _nature(node)
        if not flags & want:
            return
        stat = b""
        if flags & Entry.HAS_STAT and node.packed is not None:
            stat = self._to_guest(node.packed)
        index = self._enter(node, key, path, flags | need, stat, text)
        if learned is None:
            learned = node.learned = {}
        learned[key, path] = index, flags

    def learn_file(self, device: int, inode: int, packed: bytes, live_mode: bool) -> None:
        """fstat(2) of a file, by where the host has it, begins like `packed`.

        `live_mode`: but for the mode, which is what the host says. Learned at the second time.
        """
        file = _FILE.pack(device, inode)
        if file not in self._asked:
            if len(self._asked) >= _MOST_ASKED:
                self._asked.clear()
            self._asked.add(file)
            return
        self._enter(self, _FILES_KEY, file, Entry.LIVE_MODE if live_mode else 0, packed, b"")

    def forget_file(self, device: int, inode: int) -> None:
        """The file has another owner or mode, or is another file."""
        if not self._asked:
            return
        value = hashed(_FILES_KEY, _FILE.pack(device, inode))
        first = (value >> 64 - Entry.BUCKET_BITS) * Entry.BUCKET
        for index in range(first, first + Entry.BUCKET):
            at = _HEADER + index * Entry.SIZE
            if _KEY.unpack_from(self._memory, at)[:2] == (value, _FILES_KEY):
                self._owners.pop(index, None)
                self._words[at // 8] = 0

    def _enter(
        self, owner: object, key: int, path: bytes, flags: int, stat: bytes, text: bytes
    ) -> int:
        """Write an entry; where it is."""
        value = hashed(key, path)
        index = self._place(value, key)
        _FIELDS.pack_into(
            self._memory, _HEADER + index * Entry.SIZE,
            value, key, self._generation, flags, len(text), len(path), path, stat, text,
        )  # fmt: skip
        self._owners[index] = owner
        return index

    def _place(self, value: int, key: int) -> int:
        """Where an entry goes: where it was, else where none is, else by turns."""
        first = (value >> 64 - Entry.BUCKET_BITS) * Entry.BUCKET
        free = -1
        for index in range(first, first + Entry.BUCKET):
            had = _KEY.unpack_from(self._memory, _HEADER + index * Entry.SIZE)
            if had[:2] == (value, key):
                return index
            if not had[0] or had[2] != self._generation:
                free = index
        if free >= 0:
            return free
        self._turn ^= 1
        return first + self._turn

    def forget(self, node: Node) -> None:
        """Something about `node` has changed."""
        for index, _ in (node.learned or {}).values():
            if self._owners.get(index) is node:
                del self._owners[index]
                self._words[(_HEADER + index * Entry.SIZE) // 8] = 0
        node.learned = None

    def clear(self) -> None:
        """Forget all answers."""
        if self._owners:
            self._owners.clear()
            self._generation += 1
            self._words[_HEADER // 8 - 1] = self._generation


def _nature(node: Node) -> tuple[int, bytes]:
    """Flags and text of an entry for `node`."""
    kind = node.kind
    if not kind:
        return Entry.NEGATIVE, b""
    flags = Entry.HAS_STAT if node.packed is not None else 0
    if kind == SYMLINK:
        text = node.link_text()
        if text is not None and len(text) <= Entry.TEXT_SIZE:
            return flags | Entry.HAS_LINK, text
        return flags, b""
    flags |= Entry.NO_LINK
    if kind == REGULAR:
        host = node.plain_file()
        if host is not None and len(host) < Entry.TEXT_SIZE:
            flags |= Entry.HAS_FILE
            if node.mode & 0o444 != 0o444:
                flags |= Entry.NEEDS_READ
            return flags, host
    return flags, b""
