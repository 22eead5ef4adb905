"""A container: what it is (stored), and what it is doing (its run, clients, execs, waiters).

Invariant: state changes only under `lock`, in `api.engine.lifecycle`, and each is stored before
anybody is told. What the container's clients see is complete before `wait` answers.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from api.engine.errors import Conflict
from api.engine.home import write_json
from api.engine.host_config import log_limits
from api.engine.logs import ContainerLog
from api.engine.mounts import MountPoint
from api.engine.run import Exit, Run
from api.engine.state import State
from api.engine.stdio import Sink, Stdin

if TYPE_CHECKING:
    from api.engine.exec import Exec

FILE_NAME = "container.json"


@dataclass(slots=True)
class Record:
    """What is stored of a container."""

    id: str
    name: str
    created_ns: int
    image_id: str
    image_name: str
    layers: list[str]  # diff ids, lowest first: kept even if the image goes
    config: dict[str, Any]
    host: dict[str, Any]
    mounts: list[MountPoint]
    state: State = field(default_factory=State)
    restart_count: int = 0
    stopped_by_user: bool = False
    networking: dict[str, Any] = field(default_factory=dict)
    platform: str = "linux/amd64"  # the image's, kept even if the image goes

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Record:
        """Read what `to_json` made. Raises KeyError, TypeError for something else."""
        data["state"] = State.from_record(data["state"])
        data["mounts"] = [MountPoint(**mount) for mount in data["mounts"]]
        return cls(**data)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Container:
    """One container. Its methods never block; those that wait are in `lifecycle`."""

    def __init__(self, record: Record, directory: Path) -> None:
        self.record = record
        self.directory = directory
        self.lock = asyncio.Lock()
        log = record.host["LogConfig"]
        self.log = ContainerLog(
            directory / f"{record.id}.log",
            keep=log["Type"] != "none",
            limits=log_limits(log["Type"], log["Config"]),
        )
        self.run: Run | None = None
        self.execs: dict[str, Exec] = {}
        self.address = ""
        self.restart_timer: asyncio.TimerHandle | None = None
        self.sinks: set[Sink] = set()
        self.stdin = self._new_stdin()
        self._exit_waiters: set[asyncio.Future[Exit]] = set()
        self._removal_waiters: set[asyncio.Future[Exit]] = set()

    @property
    def id(self) -> str:
        """64 digits."""
        return self.record.id

    @property
    def name(self) -> str:
        """Without a slash."""
        return self.record.name

    @property
    def state(self) -> State:
        """What it is doing."""
        return self.record.state

    @property
    def config(self) -> dict[str, Any]:
        """Docker's Config."""
        return self.record.config

    @property
    def host(self) -> dict[str, Any]:
        """Docker's HostConfig."""
        return self.record.host

    @property
    def hostname(self) -> str:
        """What the guest calls itself."""
        return self.config["Hostname"] or self.id[:12]

    @property
    def active(self) -> Run:
        """The present run. Raises Conflict when the container is not running."""
        if self.run is None or not self.state.running:
            raise Conflict(f"container {self.id} is not running")
        return self.run

    def save(self) -> None:
        """Store the record, replacing the former one whole."""
        write_json(self.directory / FILE_NAME, self.record.to_json())

    def attributes(self) -> dict[str, str]:
        """What events about it carry."""
        labels = self.config["Labels"] or {}
        return {**labels, "image": self.record.image_name, "name": self.name}

    def renew_streams(self) -> set[Sink]:
        """Make fresh stdin and sinks for the next run; returns the old sinks, to be finished."""
        old, self.sinks = self.sinks, set()
        if self.stdin is not None:
            self.stdin.close()
        self.stdin = self._new_stdin()
        return old

    def _new_stdin(self) -> Stdin | None:
        return Stdin() if self.config["OpenStdin"] else None

    def wait_exit(self) -> asyncio.Future[Exit]:
        """Done at the end of the next run (or when a start fails)."""
        return self._waiter(self._exit_waiters)

    def wait_removal(self) -> asyncio.Future[Exit]:
        """Done when the container is gone; holds the code of its last run."""
        return self._waiter(self._removal_waiters)

    def tell_exit(self, result: Exit) -> None:
        """Answer those who wait for an exit."""
        _answer(self._exit_waiters, result)

    def tell_removal(self) -> None:
        """Answer those who wait for the removal."""
        result = Exit(self.state.exit_code, self.state.oom_killed, self.state.error)
        _answer(self._exit_waiters, result)
        _answer(self._removal_waiters, result)

    def _waiter(self, waiters: set[asyncio.Future[Exit]]) -> asyncio.Future[Exit]:
        future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        waiters.add(future)
        future.add_done_callback(waiters.discard)
        return future


def _answer(waiters: set[asyncio.Future[Exit]], result: Exit) -> None:
    for waiter in tuple(waiters):
        if not waiter.done():
            waiter.set_result(result)


class LogSink:
    """Writes a run's output to the container's log."""

    def __init__(self, log: ContainerLog) -> None:
        self._log = log
        log.open()

    def feed(self, stream: int, data: bytes) -> None:
        """Append; the disk is always ready."""
        self._log.append(stream, data)

    def finish(self) -> None:
        """Nothing more comes."""
        self._log.close()
