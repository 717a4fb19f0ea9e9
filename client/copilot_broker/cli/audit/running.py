"""What the running broker says of its audit log: where the file is, if it keeps one.

A broker that was started with another state folder, as a simulated one is, has its file there. And
a broker that somebody connects to first writes down the repetitions it has only counted so far.
"""

from __future__ import annotations

from pathlib import Path

from copilot_broker import Client
from copilot_broker.cli.report import PROGRAM
from copilot_broker.errors import CopilotBrokerError


__all__ = ["named_log"]

TIMEOUT = 1.0
"""Seconds: the log is of most use when the broker is in trouble."""


def named_log() -> Path | None:
    """Return the file that the broker names; None if it keeps none, or does not answer in time."""
    try:
        with Client(name=PROGRAM, timeout=TIMEOUT) as client:
            audit = client.status().get("audit")
    except CopilotBrokerError:
        return None
    file = audit.get("file") if isinstance(audit, dict) else None
    if not isinstance(file, str) or not file.startswith("/") or "\0" in file:
        return None
    return Path(file)
