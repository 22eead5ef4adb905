"""Run a command whose attempts to change owners, groups and ids succeed without effect.

An ordinary user who is root in a user namespace of one id cannot chown to the hundred ids that
packages use; dpkg gives up when it fails. With this filter the whole installation belongs to
root, which is all a test tree needs.

Usage: python3 fake_owners.py COMMAND...
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
ALLOW, ANSWER_ZERO = 0x7FFF0000, 0x00050000
LOAD_NUMBER, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
# chown lchown fchown fchownat, setuid setgid setgroups setreuid setregid setresuid setresgid,
# mknod mknodat, setxattr lsetxattr fsetxattr
FAKED = {
    "x86_64": (92, 94, 93, 260, 105, 106, 116, 113, 114, 117, 119, 133, 259, 188, 189, 190),
    "aarch64": (55, 54, 146, 144, 159, 145, 143, 147, 149, 33, 5, 6, 7),
}


class Program(ctypes.Structure):
    """`struct sock_fprog` of linux/filter.h."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install() -> None:
    """Put the filter on this process and all it starts."""
    numbers = FAKED[platform.machine()]
    code = [(LOAD_NUMBER, 0, 0, 0)]
    code += [(JUMP_EQUAL, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    code += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ANSWER_ZERO)]
    packed = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in code))
    program = Program(len(code), ctypes.addressof(packed))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0),
    ):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    install()
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - becoming the command is the point
