"""The rows of the ledger as people read them: columns, bars, a sentence, CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO


__all__ = ["COUNTS", "GROUPS", "bars", "columns", "print_csv", "rows_of", "summary"]

GROUPS = {
    "day": ("day",),
    "client": ("kind", "client", "label"),
    "account": ("account",),
    "model": ("model",),
}
"""What rows can be about, and the members of each."""

COUNTS = (
    "requests",
    "user_turns",
    "agent_turns",
    "errors",
    "untold",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "estimated_premium",
    "unpriced_turns",
)

HEADINGS = (
    "requests", "turns", "errors", "untold", "prompt", "cached", "completion",
    "premium (estimated)",
)  # fmt: skip
SPARE = ("untold", "turns", "cached", "errors", "premium (estimated)")
"""Columns that a narrow terminal can do without, the first of them first."""

BARS_MAX = 20
"""More bars than that are no picture."""

ALL = 100.0


def rows_of(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rows of an answer."""
    rows = answer.get("rows")
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def columns(
    by: Sequence[str], rows: Iterable[Mapping[str, Any]]
) -> tuple[list[str], list[list[str]], tuple[str, ...]]:
    """Return headings, cells, and which of the columns can be spared."""
    groups = [name for name in GROUPS if name in by]
    cells = [[*(_name(row, name) for name in groups), *_counts(row)] for row in rows]
    return [*groups, *HEADINGS], cells, SPARE


def bars(
    by: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> list[tuple[str, float | None, str]]:
    """Return a bar for the tokens of each row, as a share of the largest's."""
    groups = [name for name in GROUPS if name in by]
    shown = rows[-BARS_MAX:] if "day" in by else rows[:BARS_MAX]  # the last days, the largest
    most = max((_tokens(row) for row in shown), default=0)
    total = sum(_tokens(row) for row in rows)
    return [
        (
            " ".join(_name(row, name) for name in groups),
            ALL * _tokens(row) / most if most else 0.0,
            f"{short(_tokens(row))}, {_share(_tokens(row), total)}",
        )
        for row in shown
    ]


def summary(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return all of it in a sentence, without a full stop."""
    sums = {name: sum(_number(row, name) for row in rows) for name in COUNTS}
    requests, errors = int(sums["requests"]), int(sums["errors"])
    said = f"{requests} request{'' if requests == 1 else 's'}"
    if errors:
        said += f" ({errors} failed)"
    said += (
        f", {short(sums['prompt_tokens'])} prompt and {short(sums['completion_tokens'])} "
        "completion tokens"
    )
    return f"{said}, an estimated {_premium(sums)} premium requests"


def print_csv(out: TextIO, by: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write all of it down (RFC 4180, but for the ends of lines)."""
    names = [member for name in GROUPS if name in by for member in GROUPS[name]]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, *COUNTS])
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in (*names, *COUNTS)])


def short(number: float) -> str:
    """Return a number of tokens as people say it: `812`, `12.3k`, `4.6M`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        value = number / size
        if value >= 0.9995:  # what rounds to 1000 of the unit below is 1.0 of this one
            return f"{value:.0f}{unit}" if value >= 99.95 else f"{value:.1f}{unit}"
    return f"{number:.0f}"


def _name(row: Mapping[str, Any], group: str) -> str:
    if group != "client":
        return str(row.get(group) or "-")
    kind, client, label = (str(row.get(each) or "") for each in GROUPS["client"])
    said = client if kind in {client, ""} else f"{kind} {client}"
    return f"{said} ({label})" if label else said or "-"


def _counts(row: Mapping[str, Any]) -> list[str]:
    turns = f"{_number(row, 'user_turns'):.0f}+{_number(row, 'agent_turns'):.0f}"
    return [
        f"{_number(row, 'requests'):.0f}",
        turns,
        f"{_number(row, 'errors'):.0f}",
        f"{_number(row, 'untold'):.0f}",
        short(_number(row, "prompt_tokens")),
        short(_number(row, "cached_tokens")),
        short(_number(row, "completion_tokens")),
        _premium(row),
    ]


def _premium(row: Mapping[str, Any]) -> str:
    said = f"{_number(row, 'estimated_premium'):.2f}".rstrip("0").rstrip(".")
    return f"{said}+" if _number(row, "unpriced_turns") else said


def _tokens(row: Mapping[str, Any]) -> float:
    return _number(row, "prompt_tokens") + _number(row, "completion_tokens")


def _share(part: float, total: float) -> str:
    return f"{ALL * part / total:.0f} %" if total else "0 %"


def _number(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else 0


def _cell(value: object) -> object:
    """Return a cell of a table; a spreadsheet takes a text that begins so for a formula."""
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@"}:
        return f"'{value}"
    return "" if value is None else value
