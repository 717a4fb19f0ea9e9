"""Logins of other tools that ask Copilot beside the broker, each with one of its own.

They can end each other: GitHub keeps ten logins of one person with one app, and what one tool
signs out is gone for those that share it. gh's is left out, which does not use it for Copilot.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from copilot_broker.cli.doctor.finding import Finding, Verdict
from copilot_broker.cli.imports.look import look_at_files
from copilot_broker.cli.imports.shown import short_place
from copilot_broker.cli.times import duration


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from copilot_broker.cli.imports.found import Found


__all__ = ["other_logins"]

MOST = 3
"""Logins of one tool that are told in its line."""


def other_logins(environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Yield a warning for each tool whose own login could be read, or that there is none."""
    tools: dict[str, list[Found]] = {}
    for found in look_at_files(environ):
        if found.fights and not found.problem:
            tools.setdefault(found.tool, []).append(found)
    if not tools:
        told = "no other tool was found to keep a Copilot login of its own"
        yield Finding("other-logins", Verdict.OK, told)
    for tool, logins in tools.items():
        told = "; ".join(map(_words, logins[:MOST]))
        if len(logins) > MOST:
            told += f"; and {len(logins) - MOST} more"
        told = f"{tool} keeps a Copilot login of its own, which the broker's may end: {told}"
        which = f" {tool}" if len(logins) == 1 else ""
        mend = (
            f"point {tool} at the broker, then sign out there; or share its login with the"
            f" broker: copilot-cred import{which}"
        )
        yield Finding(f"login-of-{tool}", Verdict.WARNING, told, mend)


def _words(found: Found) -> str:
    said = f"{found.user} on {found.host}" if found.user else found.host
    place = short_place(found.place)
    words = f"{found.kind.value} for {said}, {duration(found.age)} old, in {place}"
    return f"{words} ({found.warning})" if found.warning else words
