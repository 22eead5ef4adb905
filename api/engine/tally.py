"""What the ends of containers tell about system calls, added up for `ddock doctor` and bench.

`<home>/run/unimplemented.json` counts how often each call that no kernel implements was asked for;
`<home>/run/calls.json` holds how many calls were `entered` and how many of them were `trapped`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from api.engine.home import write_atomically

_log = logging.getLogger("ddock.tally")


def add(run_directory: Path, event: Mapping[str, object]) -> None:
    """Add the figures of an exit event. What cannot be read or written is only logged."""
    for key, name in (("unimplemented", "unimplemented.json"), ("calls", "calls.json")):
        counts = event.get(key)
        if not isinstance(counts, Mapping) or not counts:
            continue
        path = run_directory / name
        try:
            totals = json.loads(path.read_text()) if path.exists() else {}
            for what, count in counts.items():
                totals[what] = totals.get(what, 0) + count
            write_atomically(path, json.dumps(totals).encode())
        except (OSError, ValueError, TypeError) as error:
            _log.warning("%s: %s", path, error)
