"""What people read: tables, bars, one account in a line.

Plain text everywhere; on a terminal, and with the `[cli]` extra installed, rich draws.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from copilot_broker.cli.report import printable, tell


if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


__all__ = ["account_words", "has_rich", "print_bars", "print_table", "say", "sentence", "wrapped"]

WIDTH = 79
"""Columns of prose: what every terminal shows in one line."""

RULED = 3
"""Columns between two of a table that rich draws."""

WHOLE = frozenset({"id", "token", "policy"})
"""Headings of what is never broken into lines: it is to be copied, or one word."""

BAR = 20
"""Columns of a bar: one for each twentieth."""


def say(text: str = "") -> None:
    """Tell the person something: one line on stderr."""
    tell(f"{text}\n")


def wrapped(text: str, indent: str = "", hanging: str | None = None) -> str:
    """Return prose in lines of at most `WIDTH` columns; words and addresses stay whole."""
    return textwrap.fill(
        printable(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def sentence(words: object) -> str:
    """Return the broker's words, which come without a full stop, as prose of their own."""
    return wrapped(str(words).removesuffix(".") + ".")


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


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str] = ()
) -> None:
    """Print rows on stdout in aligned columns.

    On a terminal that is too narrow the columns in `spare` are left out, the first of them first.
    """
    cells: Sequence[Sequence[str]] = [
        [printable(cell) for cell in row] for row in (headings, *rows)
    ]
    if sys.stdout.isatty():
        is_rich = has_rich()
        cells = _narrowed(
            cells, spare, shutil.get_terminal_size().columns, RULED if is_rich else 2
        )
        if is_rich:
            _print_rich_table(cells)
            return
    widths = _widths(cells)
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())


def print_bars(bars: Sequence[tuple[str, float | None, str]], indent: str = "  ") -> None:
    """Print on stdout, for each: its name, a bar for the percentage (None: no bar), words."""
    shown = [(printable(name), percent, printable(words)) for name, percent, words in bars]
    if shown and sys.stdout.isatty() and has_rich():
        _print_rich_bars(shown, indent)
        return
    width = max((len(name) for name, _, _ in shown), default=0)
    for name, percent, words in shown:
        print(f"{indent}{name.ljust(width)}  {_bar(percent)}  {words}".rstrip())


def _bar(percent: float | None) -> str:
    if percent is None:
        return " " * (BAR + 2)
    full = round(BAR * percent / 100)
    return f"[{'#' * full}{'-' * (BAR - full)}]"


def _narrowed(
    cells: Sequence[Sequence[str]], spare: Collection[str], columns: int, gap: int
) -> Sequence[Sequence[str]]:
    for heading in spare:
        if sum(_widths(cells)) + gap * len(cells[0]) <= columns:
            break
        gone = cells[0].index(heading)
        cells = [[*row[:gone], *row[gone + 1 :]] for row in cells]
    return cells


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*cells, strict=True)]


def _print_rich_table(cells: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in cells[0]:
        table.add_column(heading, no_wrap=heading in WHOLE)
    for row in cells[1:]:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)


def _print_rich_bars(bars: Sequence[tuple[str, float | None, str]], indent: str) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.padding import Padding  # noqa: PLC0415
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table.grid(padding=(0, 2))
    for name, percent, words in bars:
        bar = Text("") if percent is None else ProgressBar(100, percent, width=BAR)
        table.add_row(Text(name), bar, Text(words))
    Console(highlight=False).print(Padding(table, (0, 0, 0, len(indent))))
