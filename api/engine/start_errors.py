"""Why a program could not be started: Docker's wording, and the exit codes that follow from it."""

from __future__ import annotations

from api.engine.errors import EngineError, InvalidParameter
from api.engine.runtime import KernelError

_OCI = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed:"
    " runc create failed: unable to start container process"
)


class StartFailed(InvalidParameter):
    """The program cannot be executed; Docker answers 400 and the CLI exits with 126 or 127."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def translate_start_error(error: KernelError) -> EngineError:
    """Docker's wording and exit code for a program that could not be started."""
    text, kind = str(error), error.kind
    if kind == "not-directory" or "not a directory" in text:
        suffix, code = (
            (
                ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the"
                " specified host path exists and is the expected type"
            ),
            127,
        )
    elif kind == "not-executable" or "permission denied" in text or "is a directory" in text:
        suffix, code = "", 126
    elif kind == "not-found" or "no such file or directory" in text:
        suffix, code = "", 127
    elif kind == "invalid":
        suffix, code = "", 128
    else:
        return EngineError(f"{_OCI}: {text}: unknown")
    return start_failure(text, code, suffix)


def start_failure(text: str, exit_code: int, hint: str = "") -> StartFailed:
    """The error with Docker's words around what went wrong."""
    return StartFailed(f"{_OCI}: {text}: unknown{hint}", exit_code)
