"""The annotation types of handler signatures: what each system call argument is.

A handler's parameter annotated `Path` receives bytes the stub has already copied in; one annotated
`Int` receives the register as a signed 32-bit integer. `declare` compiles these into a decoder.
All are plain `int` or `bytes` at run time: the classes below only carry the decoding rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Kind:
    """`name` is the kind in the tables; `decode` an expression over r (the raw register).

    `convert`: which of an instruction set's conversions (kernel.isa) the value needs, if any.
    """

    name: str
    decode: str
    convert: str = ""


_S32 = "({r} & 0x7FFFFFFF) - ({r} & 0x80000000)"
_U32 = "{r} & 0xFFFFFFFF"
_S64 = "({r} & 0x7FFFFFFFFFFFFFFF) - ({r} & 0x8000000000000000)"

Int = Annotated[int, Kind("int", _S32)]
UInt = Annotated[int, Kind("uint", _U32)]
Long = Annotated[int, Kind("long", _S64)]
ULong = Annotated[int, Kind("ulong", "{r}")]
Size = Annotated[int, Kind("size", "{r}")]
Offset = Annotated[int, Kind("offset", _S64)]
Fd = Annotated[int, Kind("fd", _S32)]
DirFd = Annotated[int, Kind("dirfd", _S32)]
Pid = Annotated[int, Kind("pid", _S32)]
Uid = Annotated[int, Kind("uid", _U32)]
Gid = Annotated[int, Kind("gid", _U32)]
Flags = Annotated[int, Kind("flags", _U32)]
OpenFlags = Annotated[int, Kind("flags", _U32, "open_flags")]  # with the host's values
FileMode = Annotated[int, Kind("mode", "{r} & 0xFFFF")]
SignalNumber = Annotated[int, Kind("signal", _S32)]
Pointer = Annotated[int, Kind("pointer", "{r}")]  # guest address, 0 = NULL

Path = Annotated[bytes, Kind("path", "path")]  # NULL is EFAULT
OptionalPath = Annotated[bytes | None, Kind("path", "optional")]
InBuffer = Annotated[bytes, Kind("inbuffer", "buffer")]
InStruct = Annotated[bytes | None, Kind("instruct", "optional")]
# None: too large for the payload, the handler fetches it
StringVector = Annotated[list[bytes] | None, Kind("stringvector", "vector")]
IoVec = Annotated[bytes, Kind("iovec", "buffer")]  # the gathered bytes
# The host's struct stat of an fd argument, canonical (kernel.fs.metadata).
HostStat = Annotated[bytes, Kind("hoststat", "buffer", "host_stat")]
