"""Look into all places, in a fixed order, for logins of other tools and files that fail."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from copilot_broker.cli.imports.editors import read_database
from copilot_broker.cli.imports.environment import read_environment
from copilot_broker.cli.imports.found import Found, host_of, judge
from copilot_broker.cli.imports.places import places
from copilot_broker.cli.imports.reading import Unreadable, read_file


if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from copilot_broker.cli.imports.places import Place


__all__ = ["look", "look_at_files"]

LOG = "-wal"
"""What SQLite adds to a database's name for its write-ahead log (sqlite.org/wal.html)."""

LOG_AHEAD = "its newest entries are in a log that is not read: close the editor, then ask again"

MOST_LOGINS = 100
"""Of one file; more are none that a person has made."""


def look(environ: Mapping[str, str] = os.environ) -> list[Found]:
    """Return what is there; nothing is asked, run, written or kept."""
    found = list(look_at_files(environ))
    for tool, name, login in read_environment(environ):
        kind, problem = judge(login)
        host = host_of(login.host)
        found.append(Found(tool, f"${name}", login.token, host, kind=kind, problem=problem))
    return found


def look_at_files(environ: Mapping[str, str] = os.environ) -> Iterator[Found]:
    """Yield what the files hold."""
    try:
        home = Path.home()
    except RuntimeError:  # this user has none
        return
    if not home.is_absolute():
        return
    seen: set[Path] = set()
    for place in places(environ, home, _working_folder(home)):
        if place.path not in seen:  # two tools may have been led to one folder
            seen.add(place.path)
            yield from _look_at(place, home)


def _working_folder(home: Path) -> Path:
    try:
        return Path.cwd()
    except OSError:  # removed
        return home


def _look_at(place: Place, home: Path) -> Iterator[Found]:
    where = str(place.path)
    try:
        contents = read_file(place.path, home, place.most)
    except Unreadable as unreadable:
        mode, age = unreadable.mode, unreadable.age
        yield Found(place.tool, where, age=age, mode=mode, problem=str(unreadable))
        return
    if contents is None:
        return
    mode, age = contents.mode, contents.age
    behind = LOG_AHEAD if place.read is read_database and _has_log(place.path) else ""
    try:
        logins = list(place.read(contents.data))[:MOST_LOGINS]
    except Unreadable as unreadable:
        problem = "; ".join(filter(None, [str(unreadable), behind]))
        yield Found(place.tool, where, age=age, mode=mode, problem=problem)
        return
    for login in logins:
        kind, problem = judge(login)
        yield Found(
            tool=place.tool,
            place=where,
            token=login.token,
            host=host_of(login.host),
            user=login.user,
            kind=kind,
            app=login.app,
            age=age,
            mode=mode,
            problem=problem,
            warning="; ".join(filter(None, [contents.warning, behind])),
            program=() if problem else login.program,
            fights=place.fights,
        )


def _has_log(database: Path) -> bool:
    try:
        return database.with_name(f"{database.name}{LOG}").lstat().st_size > 0
    except OSError:
        return False
