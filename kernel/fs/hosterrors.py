"""Where a host call fails, the guest sees the host's errno."""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from typing import Any, Final, TypeVar

from kernel.errors import LinuxError

C = TypeVar("C", bound=type)

# Node methods that make host calls which may fail.
_METHODS: Final = (
    "change_mode", "change_owner", "copy_up", "create", "entries", "link_open_file",
    "make_directory", "make_link", "make_node", "make_symlink", "open", "open_unnamed",
    "readlink", "remove_directory", "rename", "set_times", "set_xattrs", "truncate", "unlink",
    "xattrs",
)  # fmt: skip


def linux_errors(cls: C) -> C:
    """Class decorator: node methods raise LinuxError where they would raise OSError."""
    for name in _METHODS:
        method = cls.__dict__.get(name)
        if method is not None:
            setattr(cls, name, _translated(method))
    return cls


def _translated(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except OSError as error:
            raise LinuxError(error.errno or errno.EIO) from error

    return call
