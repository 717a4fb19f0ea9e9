"""The broker: that it runs, what it says of itself, that its memory is closed to us."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copilot_broker.cli.doctor.finding import Finding, Verdict
from copilot_broker.cli.times import duration
from copilot_broker.errors import BrokerUnreachable, CopilotBrokerError, ErrorClass


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from copilot_broker import Client


__all__ = ["examine", "memory"]

_RESTART = "systemctl --user restart copilot-broker"
_LOG = "see what it is doing: systemctl --user status copilot-broker"


def examine(client: Client) -> Iterator[Finding]:
    """Yield what the broker and a look at its process tell, or that there is none."""
    try:
        status = client.status()
    except CopilotBrokerError as error:
        hint = error.hint if isinstance(error, BrokerUnreachable) else error.hint or _LOG
        yield Finding("broker", Verdict.ERROR, error.message, hint)
        return
    told = f"copilot-broker {status.get('version', '?')} answers, pid {status.get('pid', '?')}"
    yield Finding("broker", Verdict.OK, f"{told}, up {duration(_number(status.get('uptime')))}")
    yield from _same_version(status)
    yield from memory(status.get("pid"))
    yield from _own_word(client)


def memory(pid: object) -> Iterator[Finding]:
    """Try to open the broker's memory, as any program of this user could (proc(5))."""
    if not isinstance(pid, int) or pid <= 0:
        return
    if os.geteuid() == 0:
        told = "not tried: root may read the memory of every program"
        yield Finding("memory", Verdict.WARNING, told, "ask as yourself: copilot-cred doctor")
        return
    try:
        with Path(f"/proc/{pid}/mem").open("rb"):
            pass
    except PermissionError:
        told = "no other program of yours can read the broker's memory"
        yield Finding("memory", Verdict.OK, told)
    except OSError:  # in a PID namespace other than the broker's
        told = "the broker's process is not to be seen from here, nor its memory"
        yield Finding("memory", Verdict.OK, told)
    else:
        told = "every program of yours can read the broker's memory, and so the login"
        yield Finding("memory", Verdict.ERROR, told, f"start it anew: {_RESTART}")


def _own_word(client: Client) -> Iterator[Finding]:
    try:
        checks = client.doctor().get("checks")
    except CopilotBrokerError as error:
        hint = error.hint or _LOG
        told = f"the broker does not examine itself: {error.message}"
        if error.error_class is ErrorClass.USAGE:  # it does not know the question
            hint = f"run the installed one: {_RESTART}"
        yield Finding("self-examination", Verdict.WARNING, told, hint)
        return
    for check in checks if isinstance(checks, list) else []:
        finding = Finding.from_map(check)
        if finding is not None:
            yield finding


def _same_version(status: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        ours = version("copilot-broker")
    except PackageNotFoundError:  # copied, not installed
        return
    theirs = status.get("version")
    if theirs == ours:
        yield Finding("version", Verdict.OK, f"copilot-cred is {ours}, too")
    else:
        told = f"the broker that runs is {theirs}, copilot-cred is {ours}"
        yield Finding("version", Verdict.WARNING, told, f"run the installed one: {_RESTART}")


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
