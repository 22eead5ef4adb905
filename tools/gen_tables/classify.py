"""Derive each argument's kind from its prototype, then let the overlay correct it.

A scalar kind says how to show and narrow a register; a marshal kind says what the stub copies in
before it posts the request. `tables.Arg` documents the kinds and their `param`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .headers import Facts
from .overlay import Overlay, OverlayError
from .prototypes import Parameter, Prototype

PATHS = {
    "path", "oldpath", "newpath", "new_root", "put_old", "specialfile", "dir_name",
    "from_path", "to_path", "library", "special",
}  # fmt: skip
FDS = {
    "fd", "oldfd", "newfd", "epfd", "fd_in", "fd_out", "in_fd", "out_fd", "fdin", "fdout", "ufd",
    "mqdes", "pidfd", "group_fd", "ruleset_fd", "kernel_fd", "initrd_fd", "sockfd", "fs_fd",
    "fanotify_fd", "max_fd",
}  # fmt: skip
DIRFDS = {"dirfd", "olddirfd", "newdirfd", "from_dfd", "to_dfd", "mountdirfd"}
PIDS = {"pid", "tgid", "pgid", "pid1", "pid2", "tid"}
FLAGS = {"flags", "oflag", "at_flags", "swap_flags", "ms_flags", "unshare_flags", "prot"}
SIGNALS = {"sig", "signum", "signal"}
ADDRESSES = {"addr", "new_addr", "stack"}
BY_TYPE = {
    "pid_t": "pid",
    "uid_t": "uid",
    "gid_t": "gid",
    "umode_t": "mode",
    "size_t": "size",
    "loff_t": "offset",
    "off_t": "offset",
    "mqd_t": "fd",
    "int": "int",
    "__s32": "int",
    "s32": "int",
    "clockid_t": "int",
    "timer_t": "int",
    "key_t": "int",
    "key_serial_t": "int",
    "rwf_t": "flags",
    "unsigned int": "uint",
    "unsigned": "uint",
    "u32": "uint",
    "__u32": "uint",
    "uint32_t": "uint",
    "qid_t": "uint",
    "long": "long",
    "u64": "ulong",
    "__u64": "ulong",
    "unsigned long": "ulong",
    "aio_context_t": "ulong",
}
SCALARS = {
    "int", "uint", "long", "ulong", "size", "offset", "fd", "dirfd", "pid", "uid", "gid", "flags",
    "mode", "signal", "pointer",
}  # fmt: skip
IOVEC_SIZE = 16


@dataclass(frozen=True)
class Argument:
    """One argument as it stands in the tables."""

    name: str
    ctype: str
    kind: str
    struct: str = ""  # the struct a pointer or instruct points to
    param: tuple[int, ...] = ()


def arguments(
    syscall: str, prototype: Prototype, facts: Facts, overlay: Overlay
) -> tuple[Argument, ...]:
    """Classify one syscall's arguments. Raises OverlayError if the overlay names others."""
    names = [parameter.name for parameter in prototype]
    corrections = overlay.kinds.get(syscall, {})
    unknown = sorted(set(corrections) - set(names))
    if unknown:
        raise OverlayError(f"{syscall}({', '.join(names)}) has no argument {', '.join(unknown)}")
    return tuple(
        _corrected(corrections[parameter.name], parameter, names, facts)
        if parameter.name in corrections
        else _derived(index, prototype, facts)
        for index, parameter in enumerate(prototype)
    )


def _derived(index: int, prototype: Prototype, facts: Facts) -> Argument:
    parameter = prototype[index]
    name, ctype = parameter.name, parameter.ctype
    follows = prototype[index + 1] if index + 1 < len(prototype) else Parameter("", "")
    if not ctype.endswith("*"):
        return Argument(name, ctype, _scalar(name, ctype))
    struct = _struct_of(ctype, facts)
    if not ctype.startswith("const "):
        return Argument(name, ctype, "pointer", struct)
    if ctype.count("*") == 2:
        kind = "stringvector" if "char" in ctype else "pointer"
        return Argument(name, ctype, kind)
    if struct == "iovec":
        return Argument(name, ctype, "iovec", "", (index + 1, IOVEC_SIZE))
    if struct:
        return Argument(name, ctype, "instruct", struct, (_size_of(struct, facts),))
    if ctype in ("const void *", "const char *") and follows.ctype == "size_t":
        return Argument(name, ctype, "inbuffer", "", (index + 1, 1))
    if ctype == "const char *":
        return Argument(name, ctype, "path" if name in PATHS else "string")
    return Argument(name, ctype, "pointer")


def _scalar(name: str, ctype: str) -> str:
    if ctype in ("int", "unsigned int", "unsigned", "unsigned long", "long", "u32", "__u32"):
        for kind, words in (
            ("fd", FDS), ("dirfd", DIRFDS), ("pid", PIDS), ("flags", FLAGS), ("signal", SIGNALS),
            ("pointer", ADDRESSES),
        ):  # fmt: skip
            if name in words:
                return kind
    return BY_TYPE.get(ctype, "int" if ctype.startswith("enum ") else "pointer")


def _struct_of(ctype: str, facts: Facts) -> str:
    """Name the struct a pointer type points to; a typedef of one (siginfo_t) counts."""
    found = re.fullmatch(r"(?:const )?(?:struct |union )?(\w+) \*", ctype)
    return found[1] if found and found[1] in facts.structs else ""


def _size_of(struct: str, facts: Facts) -> int:
    if struct not in facts.structs:
        raise OverlayError(f"no header defines struct {struct}")
    return facts.structs[struct].size


def _corrected(text: str, parameter: Parameter, names: list[str], facts: Facts) -> Argument:
    """Read an overlay entry: a kind and its words ("inbuffer len 4", "instruct epoll_event")."""
    kind, *words = text.split()
    name, ctype = parameter.name, parameter.ctype
    match kind, words:
        case ("path" | "string" | "stringvector", []):
            return Argument(name, ctype, kind)
        case ("pointer", [struct]):
            return Argument(name, ctype, kind, struct)
        case ("instruct", [struct]):
            size = int(struct) if struct.isdigit() else _size_of(struct, facts)
            return Argument(name, ctype, kind, "" if struct.isdigit() else struct, (size,))
        case ("inbuffer", [length, *scale]) if length in names and len(scale) < 2:
            unit = scale[0] if scale else "1"
            size = int(unit) if unit.isdigit() else _size_of(unit, facts)
            struct = "" if unit.isdigit() else unit
            return Argument(name, ctype, kind, struct, (names.index(length), size))
        case ("iovec", [count]) if count in names:
            return Argument(name, ctype, kind, "", (names.index(count), IOVEC_SIZE))
        case (_, []) if kind in SCALARS:
            struct = _struct_of(ctype, facts) if kind == "pointer" else ""
            return Argument(name, ctype, kind, struct)
        case _:
            raise OverlayError(f"cannot read the kind {text!r} of {name}")
