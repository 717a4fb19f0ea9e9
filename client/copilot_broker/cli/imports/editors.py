"""What editors share in `github-copilot`: `apps.json`, older `hosts.json`, newer `auth.db`.

copilot.vim, the language server and JetBrains write them; many other tools read them.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from copilot_broker.cli.imports.found import COPILOT_PLUGIN, Kind, Login
from copilot_broker.cli.imports.reading import Unreadable, read_json, text_of


if TYPE_CHECKING:
    from collections.abc import Iterator


__all__ = ["read_apps", "read_database", "read_hosts"]

MOST_STEPS = 1_000_000
"""Of SQLite's virtual machine; to read the few rows of a true database takes some hundred."""

MOST_ROWS = 100

_FORMAT_VERSIONS = slice(18, 20)
"""Bytes of the header: 2 with a write-ahead log, 1 without (sqlite.org/fileformat, 1.3.3)."""


def read_apps(data: bytes) -> Iterator[Login]:
    """Read `{"HOST:CLIENT_ID": {"user", "oauth_token", "githubAppId"}}`."""
    for key, entry in read_json(data).items():
        host, _, app = key.partition(":")
        if not isinstance(entry, dict):
            yield Login(host=host, problem="an entry of another form")
            continue
        app = app or text_of(entry.get("githubAppId"))
        yield Login(text_of(entry.get("oauth_token")), host, text_of(entry.get("user")), app)


def read_hosts(data: bytes) -> Iterator[Login]:
    """Read `{"HOST": {"user", "oauth_token"}}`."""
    for host, entry in read_json(data).items():
        if not isinstance(entry, dict):
            yield Login(host=host, problem="an entry of another form")
            continue
        token = text_of(entry.get("oauth_token"))
        app = COPILOT_PLUGIN if token.startswith(Kind.APP) else ""
        yield Login(token, host, text_of(entry.get("user")), app)


def read_database(data: bytes) -> Iterator[Login]:
    """Read the table `oauth_tokens` of a copy in memory: SQLite never sees the file.

    What is only in a write-ahead log beside it is not seen; `look.py` says so.
    """
    try:
        import sqlite3  # noqa: PLC0415 - only where there is one; some Pythons are built without
    except ImportError:
        raise Unreadable("this Python has no SQLite") from None
    copy = bytearray(data)
    copy[_FORMAT_VERSIONS] = b"\1\1"  # in memory there is no log to look for
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(bytes(copy))
            database.set_progress_handler(lambda: 1, MOST_STEPS)
            database.execute("PRAGMA trusted_schema = OFF")
            rows = database.execute(
                "SELECT auth_authority, token_ciphertext FROM oauth_tokens LIMIT ?", (MOST_ROWS,)
            ).fetchall()
    except (sqlite3.Error, UnicodeDecodeError, OverflowError, MemoryError):
        raise Unreadable("no database of logins") from None
    except AttributeError:
        raise Unreadable("this Python's SQLite cannot read from memory") from None
    for authority, token in rows:
        host = text_of(authority)
        if isinstance(token, str):
            app = COPILOT_PLUGIN if token.strip().startswith(Kind.APP) else ""
            yield Login(token.strip(), host, app=app)
        else:
            yield Login(host=host, problem="encrypted, or of a form that is not known")
