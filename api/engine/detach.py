"""The key sequence that detaches a client from a terminal (ctrl-p ctrl-q unless told otherwise)."""

from __future__ import annotations

from api.engine.errors import InvalidParameter

DEFAULT_KEYS = b"\x10\x11"
_NAMED = {"ctrl-@": 0, "ctrl-[": 27, "ctrl-\\": 28, "ctrl-]": 29, "ctrl-^": 30, "ctrl-_": 31}


def parse_keys(text: str) -> bytes:
    """Read `ctrl-p,ctrl-q` or single characters. Raises InvalidParameter. "" is the default."""
    if not text:
        return DEFAULT_KEYS
    keys = bytearray()
    for word in text.split(","):
        if len(word) == 1:
            keys += word.encode()
        elif word in _NAMED:
            keys.append(_NAMED[word])
        elif len(word) == 6 and word.startswith("ctrl-") and "a" <= word[5] <= "z":
            keys.append(ord(word[5]) - ord("a") + 1)
        else:
            raise InvalidParameter(
                f"Invalid detach keys ({text}) provided: Unknown character: '{word}'"
            )
    return bytes(keys)


class DetachScanner:
    """Finds the sequence in a stream cut anywhere; keys of a broken-off one are passed on."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Returns the bytes to pass on, and whether the sequence was completed."""
        keys = self._keys
        if not keys or (not self._matched and keys[0] not in data):
            return data, False
        passed = bytearray()
        for byte in data:
            if byte == keys[self._matched]:
                self._matched += 1
                if self._matched == len(keys):
                    return bytes(passed), True
                continue
            if self._matched:
                passed += keys[: self._matched]
                self._matched = 0
                if byte == keys[0]:
                    self._matched = 1
                    continue
            passed.append(byte)
        return bytes(passed), False
