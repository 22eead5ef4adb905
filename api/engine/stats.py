"""`docker stats`: samples as the CLI computes with them, from what the kernel reports."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from typing import Any

from api.engine.container import Container
from api.engine.runtime import KernelError
from api.engine.timestamps import NEVER, now_ns, rfc3339

_INTERVAL_SECONDS = 1.0
_CPU_NOTHING: dict[str, Any] = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}


async def sample_containers(container: Container) -> AsyncGenerator[dict[str, Any], None]:
    """A sample now and one each second while the container runs; an empty one if it does not.

    From the kernel: `cpu_user_ns`, `cpu_system_ns`, `memory_bytes`, `pids`; what is missing is 0.
    """
    before: dict[str, Any] = {**_CPU_NOTHING}
    before_read = NEVER
    while True:
        run = container.run
        if run is None:
            yield _render(container, {}, before, before_read, {**_CPU_NOTHING})
            return
        try:
            figures = await run.call("stats") or {}
        except KernelError:
            return
        cpu = _cpu(figures)
        sample = _render(container, figures, before, before_read, cpu)
        yield sample
        before, before_read = cpu, sample["read"]
        await asyncio.wait((run.exited,), timeout=_INTERVAL_SECONDS)


def _cpu(figures: dict[str, Any]) -> dict[str, Any]:
    user, system = figures.get("cpu_user_ns", 0), figures.get("cpu_system_ns", 0)
    return {
        **_CPU_NOTHING,
        "cpu_usage": {
            "total_usage": user + system,
            "usage_in_kernelmode": system,
            "usage_in_usermode": user,
        },
        "system_cpu_usage": _system_cpu_ns(),
        "online_cpus": os.cpu_count() or 1,
    }


def _render(
    container: Container,
    figures: dict[str, Any],
    before: dict[str, Any],
    before_read: str,
    cpu: dict[str, Any],
) -> dict[str, Any]:
    limit = container.host["Memory"] or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    memory = {
        "usage": figures.get("memory_bytes", 0),
        "stats": {"inactive_file": 0},
        "limit": limit,
    }
    pids = {"current": figures["pids"]} if "pids" in figures else {}
    if pids and container.host["PidsLimit"]:
        pids["limit"] = container.host["PidsLimit"]
    return {
        "name": f"/{container.name}",
        "id": container.id,
        "read": rfc3339(now_ns()),
        "preread": before_read,
        "pids_stats": pids,
        "blkio_stats": {
            "io_service_bytes_recursive": [
                {"major": 0, "minor": 0, "op": word, "value": figures.get(f"io_{word}_bytes", 0)}
                for word in ("read", "write")
            ],
            "io_serviced_recursive": None,
            "io_queue_recursive": None,
            "io_service_time_recursive": None,
            "io_wait_time_recursive": None,
            "io_merged_recursive": None,
            "io_time_recursive": None,
            "sectors_recursive": None,
        },
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": cpu,
        "precpu_stats": before,
        "memory_stats": memory if figures else {},
        "networks": {
            "eth0": {
                f"{way}_{what}": 0
                for way in ("rx", "tx")
                for what in ("bytes", "packets", "errors", "dropped")
            }
        },
    }


def _system_cpu_ns() -> int:
    """CPU time of the whole host, idle time included (proc(5), /proc/stat)."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = file.readline().split()[1:8]
    return sum(map(int, fields)) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))
