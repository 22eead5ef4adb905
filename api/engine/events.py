"""The event bus: what happened, to whoever listens, and the last 256 for `--since`."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from api.engine.timestamps import now_ns

_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to an object, with the attributes filters look at."""

    type: str
    action: str
    id: str
    attributes: Mapping[str, str]
    time_ns: int

    def to_json(self) -> dict[str, Any]:
        """Docker's event message; containers and images carry the old fields too."""
        message: dict[str, Any] = {
            "Type": self.type,
            "Action": self.action,
            "Actor": {"ID": self.id, "Attributes": dict(self.attributes)},
            "scope": "local",
            "time": self.time_ns // 1_000_000_000,
            "timeNano": self.time_ns,
        }
        if self.type == "container":
            old = {"status": self.action, "id": self.id, "from": self.attributes.get("image", "")}
            return {**old, **message}
        if self.type == "image":
            return {"status": self.action, "id": self.id, **message}
        return message


class EventBus:
    """Emitting never waits; a listener's queue is its own."""

    def __init__(self) -> None:
        self._past: deque[Event] = deque(maxlen=_REMEMBERED)
        self._listeners: set[asyncio.Queue[Event]] = set()

    @property
    def listeners(self) -> int:
        """How many streams are open."""
        return len(self._listeners)

    def emit(
        self, kind: str, action: str, object_id: str, /, *labels: Mapping[str, str], **own: str
    ) -> None:
        """Tell everybody; `labels` come first, `own` attributes win."""
        attributes: dict[str, str] = {}
        for mapping in labels:
            attributes.update(mapping)
        attributes.update(own)
        event = Event(kind, action, object_id, attributes, now_ns())
        self._past.append(event)
        for queue in self._listeners:
            queue.put_nowait(event)

    async def stream(self, since_ns: int = 0, until_ns: int = 0) -> AsyncIterator[Event]:
        """Past events from `since` on (0: none), then new ones, up to `until` (0: forever)."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        past = [event for event in self._past if since_ns and event.time_ns >= since_ns]
        self._listeners.add(queue)
        try:
            for event in past:
                if until_ns and event.time_ns > until_ns:
                    return
                yield event
            while True:
                left = (until_ns - now_ns()) / 1e9 if until_ns else None
                if left is not None and left <= 0:
                    return
                try:
                    event = await asyncio.wait_for(queue.get(), left)
                except TimeoutError:
                    return
                yield event
        finally:
            self._listeners.discard(queue)
