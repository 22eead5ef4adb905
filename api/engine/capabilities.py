"""Capability names as Docker takes them: with or without CAP_, any case, `ALL`."""

from __future__ import annotations

from api.engine.errors import InvalidParameter

_NAMES = frozenset(
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE"
    " NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO"
    " SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME"
    " SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG"
    " WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE".split()
)


def normalize_capabilities(field: str, names: list[str] | None) -> list[str] | None:
    """Full names (`CAP_NET_ADMIN`, `ALL`). `field` is CapAdd or CapDrop. Raises InvalidParameter."""
    if not names:
        return None
    result = []
    for name in names:
        upper = str(name).upper()
        bare = upper.removeprefix("CAP_")
        if upper != "ALL" and bare not in _NAMES:
            raise InvalidParameter(f'invalid {field}: unknown capability: "{upper if upper.startswith("CAP_") else "CAP_" + bare}"')
        result.append("ALL" if upper == "ALL" else f"CAP_{bare}")
    return result
