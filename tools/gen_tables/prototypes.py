"""Read the kernel's own syscall prototypes: argument names and C types.

The text of include/linux/syscalls.h is regular enough to be read without a preprocessor; where it
leaves names out or offers a choice by configuration, the overlay has the prototype.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HEADERS = ("include/asm-generic/syscalls.h", "include/linux/syscalls.h")
TYPE_WORDS = {
    "void", "char", "short", "int", "long", "unsigned", "signed", "const", "struct", "union",
    "enum",
}  # fmt: skip
# One word for one thing: the man pages' names for what the kernel spells in many ways.
RENAMED = {
    "dfd": "dirfd",
    "olddfd": "olddirfd",
    "newdfd": "newdirfd",
    "filename": "path",
    "pathname": "path",
    "oldname": "oldpath",
    "newname": "newpath",
    "fildes": "fd",
    "old": "oldpath",
    "new": "newpath",
    "flag": "flags",
    "user": "owner",
    "start": "addr",
    "ufds": "fds",
    "which_clock": "clockid",
    "uname_ptr": "name",
    "_type": "type",
    "_description": "description",
    "_payload": "payload",
    "_callout_info": "callout_info",
    "error_code": "status",
    "stat_addr": "wstatus",
}
# syscall name -> its sys_ function, where they differ.
FUNCTIONS = {
    "stat": "newstat",
    "fstat": "newfstat",
    "lstat": "newlstat",
    "uname": "newuname",
    "sendfile": "sendfile64",
    "umount2": "umount",
}


@dataclass(frozen=True)
class Parameter:
    """One argument as the prototype declares it; `ctype` has no `__user` and normal spacing."""

    name: str
    ctype: str


Prototype = tuple[Parameter, ...]


def read(kernel: Path) -> dict[str, Prototype]:
    """Every `asmlinkage long sys_*` prototype of the kernel tree, by name without `sys_`."""
    prototypes = {}
    for header in HEADERS:
        text = re.sub(r"/\*.*?\*/", " ", (kernel / header).read_text(), flags=re.DOTALL)
        for name, arguments in re.findall(r"asmlinkage\s+long\s+sys_(\w+)\s*\(([^;]*)\)\s*;", text):
            prototypes[name] = parse(arguments)
    return prototypes


def parse(arguments: str) -> Prototype:
    """Parse a C parameter list. Unnamed parameters are called arg0, arg1, ..."""
    words = " ".join(re.sub(r"\b__user\b", " ", arguments).replace("*", " * ").split())
    if words in ("", "void"):
        return ()
    return tuple(_parameter(index, text) for index, text in enumerate(words.split(",")))


def _parameter(index: int, text: str) -> Parameter:
    words = text.split()
    named = len(words) > 1 and words[-1] != "*" and words[-1] not in TYPE_WORDS
    if named and len(words) == 2 and words[0] in ("struct", "union", "enum"):
        named = False
    name = words.pop() if named else f"arg{index}"
    return Parameter(RENAMED.get(name, name), " ".join(words).replace("* *", "**"))


def of_syscall(
    name: str, prototypes: Mapping[str, Prototype], overlay: Mapping[str, str]
) -> Prototype | None:
    """Find the prototype of a syscall: the overlay's, else the header's, else None."""
    if name in overlay:
        return parse(overlay[name])
    return prototypes.get(FUNCTIONS.get(name, name))
