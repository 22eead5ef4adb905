"""What a container is doing, as stored and as shown."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from api.engine.timestamps import human_duration, now_ns, rfc3339


@dataclass(slots=True)
class Probe:
    """One run of a health check."""

    start_ns: int
    end_ns: int
    exit_code: int
    output: str

    def to_inspect(self) -> dict[str, Any]:
        """An entry of State.Health.Log."""
        return {
            "Start": rfc3339(self.start_ns),
            "End": rfc3339(self.end_ns),
            "ExitCode": self.exit_code,
            "Output": self.output,
        }


@dataclass(slots=True)
class Health:
    """What health checks have found: starting, healthy or unhealthy."""

    status: str = "starting"
    failing_streak: int = 0
    log: list[Probe] = field(default_factory=list)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Health:
        """Read what a container's file has."""
        probes = [Probe(**probe) for probe in record["log"]]
        return cls(record["status"], record["failing_streak"], probes)

    def to_inspect(self) -> dict[str, Any]:
        """State.Health of `docker inspect`."""
        return {
            "Status": self.status,
            "FailingStreak": self.failing_streak,
            "Log": [probe.to_inspect() for probe in self.log],
        }


@dataclass(slots=True)
class State:
    """A container's state; times are ns, 0 is never."""

    running: bool = False
    paused: bool = False
    restarting: bool = False
    removing: bool = False
    dead: bool = False
    oom_killed: bool = False
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    started_ns: int = 0
    finished_ns: int = 0
    health: Health | None = None

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> State:
        """Read what a container's file has. Raises TypeError, KeyError for something else."""
        health = record.pop("health", None)
        return cls(**record, health=Health.from_record(health) if health else None)

    @property
    def status(self) -> str:
        """Docker's one word."""
        words = (
            (self.running and self.paused, "paused"),
            (self.restarting, "restarting"),
            (self.running, "running"),
            (self.removing, "removing"),
            (self.dead, "dead"),
            (self.started_ns == 0 and self.finished_ns == 0, "created"),
        )
        return next((word for holds, word in words if holds), "exited")

    def describe(self) -> str:
        """The STATUS column of `docker ps`."""
        now = now_ns()
        up = human_duration((now - self.started_ns) / 1e9)
        down = human_duration((now - self.finished_ns) / 1e9)
        match self.status:
            case "paused":
                return f"Up {up} (Paused)"
            case "restarting":
                return f"Restarting ({self.exit_code}) {down} ago"
            case "running":
                if self.health is None:
                    return f"Up {up}"
                starting = self.health.status == "starting"
                return f"Up {up} ({'health: ' if starting else ''}{self.health.status})"
            case "removing":
                return "Removal In Progress"
            case "dead":
                return "Dead"
            case "created":
                return "Created"
        return f"Exited ({self.exit_code}) {down} ago"

    def to_inspect(self) -> dict[str, Any]:
        """The State object of `docker inspect`."""
        health = {} if self.health is None else {"Health": self.health.to_inspect()}
        return {
            "Status": self.status,
            "Running": self.running or self.restarting,
            "Paused": self.paused,
            "Restarting": self.restarting,
            "OOMKilled": self.oom_killed,
            "Dead": self.dead,
            "Pid": self.pid,
            "ExitCode": self.exit_code,
            "Error": self.error,
            "StartedAt": rfc3339(self.started_ns),
            "FinishedAt": rfc3339(self.finished_ns),
            **health,
        }

    def to_record(self) -> dict[str, Any]:
        """For the container's file."""
        return asdict(self)
