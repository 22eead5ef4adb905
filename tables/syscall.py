"""What the tables say about one system call."""

from __future__ import annotations

from typing import Any, NamedTuple

MARSHAL_KINDS = frozenset({"path", "string", "inbuffer", "instruct", "stringvector", "iovec"})


class Arg(NamedTuple):
    """One argument.

    Scalar kinds: int uint long ulong size offset fd dirfd pid uid gid flags mode signal pointer.
    The stub copies in the marshal kinds before it posts the request:

    path, string   NUL-terminated bytes, at most 4096 with the NUL; param ()
    inbuffer       param (index of the length argument, bytes per unit)
    instruct       param (size in bytes,); a NULL pointer is allowed
    stringvector   NULL-terminated array of strings (argv, envp); param ()
    iovec          the bytes an iovec array points to; param (index of the count argument, 16)
    """

    name: str
    ctype: str
    kind: str
    param: tuple[int, ...]
    struct: str  # what a pointer, instruct or inbuffer points to, if that is a struct; else ""


class Detour(NamedTuple):
    """A data-plane call goes through the ring if args[argument] passes the test.

    test: "nonzero" · "is" one of values · "not" one of values · "has" any bit of values.
    """

    argument: int
    test: str
    values: tuple[int, ...]


class Syscall(NamedTuple):
    """One system call of one ISA.

    plane: "ring" (the kernel answers), "data" (the stub runs it on the host unless an `fd` argument
    is flagged or a detour applies), "slot" (the stub answers from the thread's slot).
    restart: "never", "always" (ERESTARTSYS), "nohand" (ERESTARTNOHAND), "block" (RESTARTBLOCK).
    """

    name: str
    number: int
    args: tuple[Arg, ...]
    plane: str
    restart: str
    detours: tuple[Detour, ...]

    @classmethod
    def of(cls, row: list[Any]) -> Syscall:
        """A row of the packed table."""
        name, number, plane, restart, args, detours = row
        return cls(
            name,
            number,
            tuple(
                Arg(arg, ctype, kind, tuple(param), struct)
                for arg, ctype, kind, struct, param in args
            ),
            plane,
            restart,
            tuple(Detour(index, test, tuple(values)) for index, test, values in detours),
        )


def marshal_kinds(syscall: Syscall) -> tuple[tuple[int, str, tuple[int, ...]], ...]:
    """What the stub copies in for `syscall`: (argument index, kind, param) for each such argument."""
    return tuple(
        (index, arg.kind, arg.param)
        for index, arg in enumerate(syscall.args)
        if arg.kind in MARSHAL_KINDS
    )
