"""`@syscall`: a handler's signature is its whole declaration.

It compiles, at import, a decoder from the slot's registers and copied-in payload to the handler's
parameters. The same annotations format `ddock trace`, feed the coverage page and are checked
against the generated tables. A `def` handler cannot sleep and runs inline; `async def` may.
"""

from __future__ import annotations

import enum
import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from codegen.layout import NULL_ARGUMENT, OVERSIZE_ARGUMENT, PAYLOAD, Slot
from kernel import isa
from kernel.abi import Kind

if typing.TYPE_CHECKING:
    from tables import Syscall, Table

_ARGS = Slot.ARGS // 8
_IN = Slot.IN // 8


class Restart(enum.Enum):
    """What a signal does to a sleeping call (signal(7), "Interruption of system calls")."""

    NEVER = "never"  # EINTR, always
    ALWAYS = "always"  # restarted when every handler that ran has SA_RESTART
    NOHAND = "nohand"  # restarted only when no handler ran
    FUTEX = "futex"  # depends on the operation
    BLOCK = "block"  # like nohand, for calls with a timeout (ERESTART_RESTARTBLOCK)


@dataclass
class Handler:
    """One implemented system call."""

    name: str
    function: Callable[..., Any]
    restart: Restart
    missing: str
    is_async: bool
    parameters: list[tuple[str, Kind]] = field(default_factory=list)
    call: Callable[..., Any] = lambda task, q, mm: None  # noqa: ARG005 - replaced when compiled


REGISTRY: dict[str, Handler] = {}

F = typing.TypeVar("F", bound=Callable[..., Any])


def syscall(
    restart: Restart = Restart.NEVER, missing: str = "", name: str | None = None
) -> Callable[[F], F]:
    """Declare a handler. `missing` says what it does not do; `name` overrides the function's."""

    def register(function: F) -> F:
        handler = Handler(
            name=name or function.__name__,
            function=function,
            restart=restart,
            missing=missing,
            is_async=inspect.iscoroutinefunction(function),
        )
        handler.parameters = _parameters(function)
        handler.call = _compile(handler)
        if handler.name in REGISTRY:
            raise TypeError(f"two handlers for {handler.name}")
        REGISTRY[handler.name] = handler
        return function

    return register


def _parameters(function: Callable[..., Any]) -> list[tuple[str, Kind]]:
    # `task: Task` is usually a TYPE_CHECKING import: resolve the other annotations one by one.
    annotations = dict(inspect.get_annotations(function))
    names = list(inspect.signature(function).parameters)[1:]
    module_globals = getattr(function, "__globals__", {})
    result: list[tuple[str, Kind]] = []
    for parameter in names:
        annotation = annotations[parameter]
        if isinstance(annotation, str):
            annotation = eval(annotation, module_globals)  # noqa: S307 - our own source
        metadata = getattr(annotation, "__metadata__", ())
        if not metadata or not isinstance(metadata[0], Kind):
            raise TypeError(f"{function.__name__}: {parameter} has no ABI kind")
        result.append((parameter, metadata[0]))
    return result


def places(handler: Handler, row: Syscall) -> list[int]:
    """Which argument of the call each parameter is: its own place, or where the tables name it.

    An ISA may have another order of arguments (clone); handlers are written in one order.
    """
    names = [argument.name for argument in row.args]
    return [
        names.index(parameter) if parameter in names else i
        for i, (parameter, _) in enumerate(handler.parameters)
    ]


@functools.cache
def decoders(abi: Table) -> Mapping[str, Callable[..., Any]]:
    """The decoders of all handlers of calls that `abi` has, by name.

    They are the handlers' own but for those with arguments that are elsewhere or otherwise there.
    """
    conversions = isa.of(abi.isa).conversions
    result = {}
    for name, handler in REGISTRY.items():
        row = abi.syscalls.get(name)
        if row is None:
            continue
        where = places(handler, row)
        converted = any(kind.convert in conversions for _, kind in handler.parameters)
        if converted or where != list(range(len(where))):
            result[name] = _compile(handler, where, conversions)
        else:
            result[name] = handler.call
    return result


def _compile(
    handler: Handler,
    where: Sequence[int] | None = None,
    conversions: Mapping[str, Callable[..., object]] = MappingProxyType({}),
) -> Callable[..., Any]:
    """Generate `call(task, q, mm)`; q: the slot as u64s, mm: the slot as bytes."""
    lines = ["def call(task, q, mm):"]
    arguments = []
    if where is None:
        where = range(len(handler.parameters))
    for i, (_, kind) in zip(where, handler.parameters, strict=True):
        name = f"a{i}"
        if kind.decode in ("path", "optional", "buffer"):
            lines.append(f"    d = q[{_IN + i}]; n = d >> 32; o = (d & 0xFFFFFFFF) + {PAYLOAD}")
            if kind.decode == "path":
                lines.append(f"    if n == {NULL_ARGUMENT}: return -14")
                lines.append(f"    {name} = mm[o:o + n]")
            elif kind.decode == "buffer":
                lines.append(f"    {name} = b'' if n == {NULL_ARGUMENT} else mm[o:o + n]")
            else:
                lines.append(f"    {name} = None if n == {NULL_ARGUMENT} else mm[o:o + n]")
        elif kind.decode == "vector":
            lines.append(f"    {name} = vector(mm, q[{_IN + i}])")
        else:
            lines.append(f"    r = q[{_ARGS + i}]")
            lines.append(f"    {name} = {kind.decode.format(r='r')}")
        if kind.convert in conversions:
            lines.append(f"    {name} = {kind.convert}({name})")
        arguments.append(name)
    lines.append(f"    return function({', '.join(['task', *arguments])})")
    namespace: dict[str, Any] = {"function": handler.function, "vector": _vector, **conversions}
    exec("\n".join(lines), namespace)  # noqa: S102 - compiled once, at import, from our own tables
    call: Callable[..., Any] = namespace["call"]
    return call


def _vector(mm: Any, descriptor: int) -> list[bytes] | None:
    """Strings of a copied-in NULL-terminated vector; NULL is an empty one (execve(2), NOTES).

    None: it did not fit the payload, the handler fetches it itself.
    """
    length = descriptor >> 32
    if length == OVERSIZE_ARGUMENT:
        return None
    if length in (NULL_ARGUMENT, 0):
        return []
    offset = (descriptor & 0xFFFFFFFF) + PAYLOAD
    data: bytes = mm[offset : offset + length]
    return data.split(b"\0")[:-1]
