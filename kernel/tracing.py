"""`ddock trace`: a live strace of the calls that reach the kernel, from the typed signatures."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Any

from codegen.layout import NULL_ARGUMENT, PAYLOAD, Slot
from kernel.errors import Interrupted
from kernel.reply import OutReply
from kernel.syscalls.declare import REGISTRY, places

if TYPE_CHECKING:
    from kernel.abi import Kind
    from kernel.container import Container
    from kernel.task import Task

_ARGS, _IN = Slot.ARGS // 8, Slot.IN // 8
_SHOWN_BYTES = 64
_HEX = ("pointer", "flags", "ulong")


class Tracer:
    """Called with each finished call; writes a line to a pipe and never waits for its reader."""

    def __init__(self, container: Container, fd: int) -> None:
        self._container = container
        self._fd = fd
        os.set_blocking(fd, False)

    def __call__(self, task: Task, nr: int, answer: Any) -> None:
        name = self._container.abi.names.get(nr, f"syscall_{nr}")
        handler = REGISTRY.get(name)
        row = self._container.abi.syscalls.get(name)
        if handler is not None and row is not None:
            kinds = [kind for _, kind in handler.parameters]
            where = places(handler, row)
            shown = ", ".join(
                self._argument(task, i, kind) for i, kind in sorted(zip(where, kinds, strict=True))
            )
        else:
            shown = ", ".join(
                hex(task.slot.q[_ARGS + i]) for i in range(len(row.args) if row else 6)
            )
        line = f"[{task.tid}] {name}({shown}) = {_result(answer)}\n"
        try:
            os.write(self._fd, line.encode("utf-8", "backslashreplace"))
        except BlockingIOError:
            pass
        except OSError:
            self._container.dispatcher.trace = None
            with contextlib.suppress(OSError):
                os.close(self._fd)

    @staticmethod
    def _argument(task: Task, index: int, kind: Kind) -> str:
        raw = task.slot.q[_ARGS + index]
        if kind.decode in ("path", "optional", "buffer"):
            descriptor = task.slot.q[_IN + index]
            length = descriptor >> 32
            if length == NULL_ARGUMENT:
                return "NULL"
            start = PAYLOAD + (descriptor & 0xFFFF_FFFF)
            data = task.slot.mm[start : start + min(length, _SHOWN_BYTES)]
            text = repr(bytes(data))[2:-1]
            return f'"{text}"' + ("..." if length > _SHOWN_BYTES else "")
        if kind.name in _HEX:
            return hex(raw)
        if kind.name == "mode":
            return f"{raw & 0xFFFF:#o}"
        return str((raw & 0x7FFF_FFFF) - (raw & 0x8000_0000))


def _result(answer: Any) -> str:
    if isinstance(answer, OutReply):
        answer = answer.result
    if isinstance(answer, int):
        if -4096 < answer < 0:
            name = errno.errorcode.get(-answer, str(-answer))
            return f"-1 {name} ({os.strerror(-answer)})"
        return str(answer)
    if isinstance(answer, Interrupted):
        return "? (interrupted)"
    return "?"
