"""The sockets: ours, in a folder that only we may enter, and closed to others themselves.

A client looks at folder and socket each time before it connects; here is said what it saw, and
besides how the other sockets stand. Their own modes matter where one of them is mounted into a
container: the folder no longer guards it there.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from copilot_broker.cli.doctor.finding import Finding, Verdict
from copilot_broker.wire.address import NoBroker, check_path, socket_path


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["sockets"]

OTHERS = 0o077
"""The bits of a mode that let group and others in."""

MOST = 100
"""Sockets that are looked at; a folder that holds more is not as we made it."""


def sockets() -> Iterator[Finding]:
    """Yield how the socket and its neighbours stand; nothing where there is none."""
    try:
        path = socket_path()
        check_path(path)
    except NoBroker as error:
        if error.code not in {"not_running", "no_runtime_dir"}:  # which the broker's line says
            yield Finding("sockets", Verdict.ERROR, error.message, error.hint)
        return
    folder = Path(path).absolute().parent
    found = sorted(folder.glob("*.sock"))[:MOST]
    bad = [finding for each in found for finding in _one(each)]
    names = ", ".join(each.name for each in found)
    yield from bad or [Finding("sockets", Verdict.OK, f"{names} in {folder} are yours alone")]


def _one(path: Path) -> Iterator[Finding]:
    try:
        about = path.lstat()
    except FileNotFoundError:  # gone since
        return
    name = f"socket {path.name}"
    if not stat.S_ISSOCK(about.st_mode) or about.st_uid != os.getuid():
        told = f"{path} is no socket of yours (uid {about.st_uid})"
        yield Finding(name, Verdict.ERROR, told, f"remove it: rm {path}")
    elif about.st_mode & OTHERS:
        told = f"{path} is open to others (mode {stat.S_IMODE(about.st_mode):04o}): only its"
        told += " folder keeps them out, and no longer where it is mounted elsewhere"
        yield Finding(name, Verdict.WARNING, told, f"chmod 600 {path}")
