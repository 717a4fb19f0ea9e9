"""The session: whether the broker outlives it, and whether tokens lie about in this shell."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

from copilot_broker.cli.doctor.finding import Finding, Verdict
from copilot_broker.cli.token_source import VARIABLES


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


__all__ = ["environment", "linger"]

BOOTED = Path("/run/systemd/system")
"""Is there where systemd is the machine's manager (sd_booted(3))."""

LINGERING = Path("/var/lib/systemd/linger")
"""Holds a file for each user whose manager runs without a session (loginctl(1))."""


def linger(
    environ: Mapping[str, str] = os.environ, booted: Path = BOOTED, lingering: Path = LINGERING
) -> Iterator[Finding]:
    """Yield whether the broker runs on when the last session ends; nothing without systemd."""
    if not booted.is_dir():
        return
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return
    if (lingering / user).exists():
        yield Finding("linger", Verdict.OK, "the broker runs on when you have logged out")
        return
    told = "the broker ends with your last session"
    if environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"):
        yield Finding("linger", Verdict.OK, f"{told}, as desktops have it")
    else:
        mend = "if it shall run on: loginctl enable-linger"
        yield Finding("linger", Verdict.WARNING, told, mend)


def environment(environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Yield whether GitHub tokens are in this environment; their names, never what they hold."""
    names = [name for name in VARIABLES if environ.get(name)]
    if names:
        verb = "is" if len(names) == 1 else "are"
        told = f"{' and '.join(names)} {verb} set: in plain text, for every program started here"
        mend = f"sign in with copilot-cred login, then: unset {' '.join(names)}"
        yield Finding("environment", Verdict.WARNING, told, mend)
    else:
        yield Finding("environment", Verdict.OK, "no GitHub token lies about in this shell")
