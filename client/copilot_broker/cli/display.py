"""What people read: durations, tables, one account in a line.

Plain text everywhere; on a terminal, and with the `[cli]` extra installed, rich draws the tables.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from copilot_broker.cli.report import printable, tell


if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


__all__ = ["account_words", "duration", "has_rich", "print_table", "say"]

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def say(text: str = "") -> None:
    """Tell the person something: one line on stderr."""
    tell(f"{text}\n")


def duration(seconds: float | None) -> str:
    """Return a length of time as people say it: `45 s`, `24 min`, `3 h`, `2 d`; `-` for None."""
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if whole >= 2 * unit or (unit == MINUTE and whole >= unit):
            return f"{whole // unit} {name}"
    return f"{whole} s"


def account_words(account: Mapping[str, Any]) -> str:
    """Return who is signed in where: `octocat on github.com (account default)`."""
    login = account.get("login") or "an unnamed user"
    host = account.get("host") or "github.com"
    return printable(f"{login} on {host} (account {account.get('name', 'default')})")


def has_rich() -> bool:
    """Whether to draw with rich: it is installed and this terminal can do more than print."""
    if os.environ.get("TERM", "dumb") == "dumb":
        return False
    try:
        import rich  # noqa: F401, PLC0415  # the [cli] extra
    except ImportError:
        return False
    return True


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows on stdout in aligned columns."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty() and has_rich():
        _print_rich_table(headings, cells)
        return
    widths = [max(len(row[n]) for row in (headings, *cells)) for n in range(len(headings))]
    for row in (headings, *cells):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())


def _print_rich_table(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=heading in {"id", "token"})  # to be copied
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)
