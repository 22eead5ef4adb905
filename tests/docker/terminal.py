"""The docker CLI on a pseudo-terminal, typed by pexpect."""

from __future__ import annotations

import pexpect

from tests.docker.daemon import Daemon


def on_terminal(
    docker: Daemon, *words: str, rows: int = 24, columns: int = 80
) -> pexpect.spawn[str]:
    """Start the CLI on a terminal of that size; whoever asked closes it."""
    program, *arguments = docker.command(words)
    return pexpect.spawn(
        program,
        arguments,
        # A dumb terminal: no bracketed paste, no colours between what is compared.
        env=docker.environment | {"TERM": "dumb"},
        encoding="utf-8",
        codec_errors="replace",
        timeout=30,
        dimensions=(rows, columns),
    )
