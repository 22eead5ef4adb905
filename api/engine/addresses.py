"""Private loopback addresses of containers: 127.88.x.y, each given to one running container."""

from __future__ import annotations

from api.engine.errors import EngineError

_PREFIX = "127.88"
_FIRST, _LAST = 2, 256 * 256 - 2


class AddressPool:
    """Hands addresses out in turn, so that a just released one rests."""

    def __init__(self) -> None:
        self._used: set[int] = set()
        self._next = _FIRST

    def take(self) -> str:
        """An address nobody has. Raises EngineError when all are taken."""
        for _ in range(_FIRST, _LAST + 1):
            number = self._next
            self._next = _FIRST if number == _LAST else number + 1
            if number not in self._used:
                self._used.add(number)
                return f"{_PREFIX}.{number >> 8}.{number & 255}"
        raise EngineError("no available IPv4 addresses on this network's address pools: bridge")

    def release(self, address: str) -> None:
        """Give an address back."""
        if address:
            high, low = address.split(".")[2:]
            self._used.discard(int(high) << 8 | int(low))
