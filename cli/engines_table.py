"""The table of engines in `ddock doctor`: which instruction sets' guests run here, and how."""

from __future__ import annotations

from dataclasses import dataclass

from kernel.host import engines

_PLATFORMS = {"x86_64": "linux/amd64", "arm64": "linux/arm64"}


@dataclass(frozen=True, slots=True)
class EngineRow:
    """How the guests of one ISA run on this host."""

    isa: str
    platform: str  # as `docker run --platform` says it
    kind: str  # "native", "emulated", "translated", or "none"
    emulator: str
    consequence: str

    @property
    def value(self) -> str:
        """The kind, and what does it."""
        return f"{self.kind} by {self.emulator}" if self.emulator else self.kind

    def to_json(self) -> dict[str, str]:
        """Plain values."""
        return {
            "isa": self.isa,
            "platform": self.platform,
            "kind": self.kind,
            "emulator": self.emulator,
            "consequence": self.consequence,
        }


def engine_rows() -> list[EngineRow]:
    """A row for each ISA that guests may have."""
    return [_row(isa) for isa in engines.ISAS]


def _row(isa: str) -> EngineRow:
    engine, platform = engines.find(isa), _PLATFORMS[isa]
    if engine is None:
        hint = ""
        if isa == "arm64" and engines.host_isa() == "x86_64":
            hint = ": installing qemu-user-static provides an engine"
        return EngineRow(isa, platform, "none", "", f"{platform} images do not start{hint}")
    if engine.kind == "native":
        text = f"{platform} images run at the host's speed"
    else:
        text = f"{platform} images run, slower than native ones"
    if not engine.filtered:
        text += "; they are confined together with their emulator"
    return EngineRow(isa, platform, engine.kind, engine.emulator or "", text)
