"""The database of the ledger (SQLite): sums by day and heading, and how far the journal was read.

Both are written in one transaction, so what a journal tells is taken in once, whoever is killed
when. Each call opens the file and closes it again: nothing is held while nobody asks, and a file
that was moved away, mended or put back is simply the one that is there. Called from a thread of
its own; nothing here is the loop's.
"""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

from brokerd.core.ledger.asked import ROWS_MAX, Report
from brokerd.core.ledger.counts import Counts, Totals
from brokerd.core.ledger.lines import Line, Lines
from brokerd.core.ledger.record import read
from brokerd.errors import ErrorClass, Failure, PermanentError, TransientError
from brokerd.stores import private_files
from brokerd.stores.ledger.journal import HEADER


if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from brokerd.core.ledger.asked import Asked
    from brokerd.errors import BrokerError
    from brokerd.stores.ledger.journal import Part


__all__ = ["VERSION", "fold", "report", "totals_of"]

VERSION: Final = 1
"""PRAGMA user_version; raised when an older broker could no longer read the file."""

_APPLICATION: Final = 0x43504255
"""PRAGMA application_id, by which file(1) tells it: "CPBU"."""

_BUSY: Final = 5.0
"""Seconds to wait for somebody else who writes: a person with sqlite3(1)."""

_CACHE_KIB: Final = 512
"""Pages that SQLite keeps; two megabytes would be usual."""

_COUNTS: Final = ", ".join(Counts._fields)
_SUMS: Final = ", ".join(f"sum({each})" for each in Counts._fields)
_LINE: Final = ", ".join(Line._fields)

_COLUMNS: Final = ", ".join(
    (
        *(f"{each} TEXT NOT NULL" for each in Line._fields),
        *(f"{each} INTEGER NOT NULL" for each in Counts._fields),
    )
)
_KEY: Final = f"PRIMARY KEY (day, {_LINE})"
_SCHEMA: Final = (
    f"CREATE TABLE usage (day INTEGER NOT NULL, {_COLUMNS}, {_KEY}) WITHOUT ROWID",
    "CREATE TABLE journal (generation BLOB PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID",
)

_ADD: Final = (
    f"INSERT INTO usage (day, {_LINE}, {_COUNTS}) "  # noqa: S608 - names of our own
    f"VALUES ({', '.join('?' * (1 + len(Line._fields) + len(Counts._fields)))}) "
    f"ON CONFLICT DO UPDATE SET {', '.join(f'{n} = {n} + excluded.{n}' for n in Counts._fields)}"
)
_KNOWN: Final = f"SELECT {_LINE} FROM usage WHERE day = ?"  # noqa: S608 - names of our own


def fold(path: Path, part: Part, first_day: int) -> None:
    """Take in what a journal tells, once, and forget the days before `first_day`.

    Raises BrokerError as `_database`; then nothing was taken in.
    """
    with _database(path) as database:
        database.execute("BEGIN IMMEDIATE")
        found = database.execute(
            "SELECT position FROM journal WHERE generation = ?", (part.generation,)
        ).fetchone()
        data = part.read(HEADER if found is None else int(found[0]))
        database.executemany(_ADD, _rows(database, totals_of(data, first_day)))
        database.execute("DELETE FROM usage WHERE day < ?", (first_day,))
        database.execute("DELETE FROM journal")  # of generations that are gone
        database.execute("INSERT INTO journal VALUES (?, ?)", (part.generation, part.end))
        database.execute("COMMIT")


def totals_of(data: bytes, first_day: int) -> Totals:
    """Add up what records tell of the days from `first_day` on."""
    totals = Totals()
    for day, line, counts in read(data):
        if day >= first_day:
            totals.add(day, line, counts)
    return totals


def _rows(database: sqlite3.Connection, totals: Totals) -> Iterator[tuple[Any, ...]]:
    days: dict[int, Lines] = {}
    for day, line, counts in totals:
        if day not in days:
            known = database.execute(_KNOWN, (day,)).fetchall()
            days[day] = Lines(Line._make(each) for each in known)
        yield (day, *days[day].place(line), *counts)


def report(path: Path, asked: Asked) -> Report:
    """Answer a question. Raises BrokerError as `_database`."""
    columns = asked.columns
    names = ", ".join(columns)
    accounts = asked.accounts or ()
    ours = "" if asked.accounts is None else f"AND account IN ({', '.join('?' * len(accounts))})"
    query = (
        f"SELECT {', '.join((*columns, _SUMS))} FROM usage "  # noqa: S608 - names of our own
        f"WHERE day BETWEEN ? AND ? {ours} "
        f"{'GROUP BY ' + names if names else ''} HAVING sum(requests) > 0 "
        f"ORDER BY {'day, ' if 'day' in columns else ''}"
        "sum(prompt_tokens + completion_tokens) DESC, sum(requests) DESC LIMIT ?"
    )
    with _database(path) as database:
        given = (asked.since, asked.until, *accounts, ROWS_MAX + 1)
        rows = database.execute(query, given).fetchall()
    width = len(columns)
    told = [(tuple(row[:width]), Counts._make(row[width:])) for row in rows[:ROWS_MAX]]
    return Report(columns, told, has_more=len(rows) > ROWS_MAX)


@contextmanager
def _database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open it, made if there is none, and close it; what was not committed then is undone.

    Raises what `private_files` does, PermanentError STORE_UNAVAILABLE `usage_broken`,
    `store_newer`, `sqlite_missing`, and TransientError `usage_busy`, `store_io_failed`.
    """
    try:
        import sqlite3  # noqa: PLC0415 - an idle daemon can spare it
    except ImportError as error:
        raise PermanentError(_MISSING) from error
    private_files.make_folder(path.parent)
    for beside in ("", "-wal", "-shm"):  # SQLite itself follows links, and asks for no mode
        place = path.with_name(path.name + beside)
        try:
            os.close(private_files.open_file(place, os.O_RDWR))
        except FileNotFoundError:
            if not beside:
                os.close(private_files.open_file(place, os.O_RDWR | os.O_CREAT))
    try:
        with closing(sqlite3.connect(path, timeout=_BUSY, isolation_level=None)) as database:
            _prepare(database, path)
            yield database
    except sqlite3.Error as error:
        raise _failed(path, error) from error
    except OSError as error:  # of the journal
        raise private_files.failed("read", path.with_name("usage.journal"), error) from error


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    database.execute("PRAGMA temp_store = MEMORY")  # /tmp is out of reach
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        text = f"{path} has version {version}; this broker reads up to {VERSION}"
        hint = "Install the newer copilot-broker again: pip install --upgrade copilot-broker"
        raise PermanentError(Failure(ErrorClass.STORE_UNAVAILABLE, "store_newer", text, hint))
    if version == VERSION:
        return
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        database.execute(statement)
    database.execute(f"PRAGMA application_id = {_APPLICATION}")
    database.execute(f"PRAGMA user_version = {VERSION}")
    database.execute("COMMIT")


def _failed(path: Path, error: sqlite3.Error) -> BrokerError:
    name = getattr(error, "sqlite_errorname", "") or ""  # not of errors that the module makes up
    text = f"{path}: {error}"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        hint = f"See who has it open: fuser -v {path}"
        return TransientError(Failure(ErrorClass.TEMPORARY, "usage_busy", text, hint))
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        hint = f"Make room or repair the disk: df -h {path.parent}"
        return TransientError(Failure(ErrorClass.TEMPORARY, "store_io_failed", text, hint))
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        hint = f"Make the folder writable: ls -ld {path.parent}"
        kind = ErrorClass.STORE_UNAVAILABLE
        return PermanentError(Failure(kind, "store_unwritable", text, hint))
    hint = f"Move it away, and a new one is begun: mv {path} {path}.old"
    return PermanentError(Failure(ErrorClass.STORE_UNAVAILABLE, "usage_broken", text, hint))


_MISSING: Final = Failure(
    ErrorClass.STORE_UNAVAILABLE,
    "sqlite_missing",
    "this Python has no sqlite3 module, so usage is only kept in the journal",
    "Install it, or a Python that has it: apt install libpython3-stdlib",
)
