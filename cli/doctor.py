"""`ddock doctor`: what this host offers, and what follows from each."""

from __future__ import annotations

import argparse
import json
import sys

from api.daemon import daemon_pid
from api.engine.home import Home
from cli.engines_table import EngineRow, engine_rows
from cli.host_checks import Finding, Level, all_findings

_MARKS = {Level.GOOD: "ok  ", Level.LESS: "less", Level.BAD: "NO  "}


def main(home: Home, arguments: list[str]) -> int:
    """0 when containers can run here, 1 when something needed is missing."""
    parser = argparse.ArgumentParser(prog="ddock doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="machine-readable")
    options = parser.parse_args(arguments)
    findings = all_findings(home)
    counted = unimplemented(home)
    if options.json:
        checks = [finding.to_json() for finding in findings]
        rows = [row.to_json() for row in engine_rows()]
        report = {"checks": checks, "engines": rows, "unimplemented": counted}
        json.dump(report, sys.stdout, indent=1)
        print()
    else:
        _print(home, findings, counted)
    return 1 if any(finding.level is Level.BAD for finding in findings) else 0


def unimplemented(home: Home) -> dict[str, int]:
    """Calls that guests made and that answered ENOSYS, with how often."""
    try:
        counts = json.loads((home.run / "unimplemented.json").read_text())
        return {str(name): int(count) for name, count in counts.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _print_engines(rows: list[EngineRow]) -> None:
    wide = max(len(row.platform) for row in rows)
    wider = max(len(row.value) for row in rows)
    print("\nhow containers of each platform run here:")
    for row in rows:
        print(f"     {row.platform:{wide}}  {row.value:{wider}}  -> {row.consequence}")


def _print(home: Home, findings: list[Finding], counted: dict[str, int]) -> None:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{_MARKS[finding.level]} {finding.name:{width}}  {finding.value}")
        print(f"     {'':{width}}  -> {finding.consequence}")
    _print_engines(engine_rows())
    pid = daemon_pid(home)
    print(f"\nhome {home.root}, " + (f"daemon running (pid {pid})" if pid else "no daemon running"))
    if counted:
        print("\nsystem calls that guests asked for and that we do not have (answered ENOSYS):")
        for name, count in sorted(counted.items(), key=lambda item: -item[1]):
            print(f"  {count:8}  {name}")
    else:
        print("no guest has asked for a system call that we do not have")
