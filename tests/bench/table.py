"""Results for the eye: one table a group, rows by their ratio to the floor, then the goals.

`rich` draws them when it is there (it comes with copilot-broker[cli]), aligned text otherwise; both
say the same. A ratio stands as `1.23 (1.19-1.31)`: the median over the passes and the range.
"""

# ruff: noqa: T201 - printing is what it is for

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.harness import Column, Figure, Goal, Group, Results


__all__ = ["as_json", "goal_table", "group_table", "show"]

MISSING = "-"
NEVER = math.inf


def number(value: float) -> str:
    """Return three significant digits, no exponent."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 3)}f}"


def spread(figure: Figure | None, scale: float = 1.0) -> str:
    """Return `median (low-high)`."""
    if figure is None:
        return MISSING
    median, low, high = (number(x * scale) for x in (figure.median, figure.low, figure.high))
    return median if low == high else f"{median} ({low}-{high})"


def group_table(group: Group, results: Results) -> tuple[str, list[str], list[list[str]]]:
    """Return title, headings and lines of one group."""
    first = group.columns[0]
    ours = {cell.name for cell in group.cells if cell.is_ours}

    def order(row: str) -> float:
        figure = results.figure(group.name, row, first.key)
        return NEVER if figure is None else figure.median

    headings = ["", *(title for column in group.columns for title in _titles(column))]
    lines = []
    for row in sorted(results.rows(group.name), key=order):
        line = [f"> {row}" if row in ours else f"  {row}"]
        for column in group.columns:
            line.append(spread(results.figure(group.name, row, column.key), column.scale))
            if column.ratio:
                over, under = (group.name, row), (group.name, group.floor)
                line.append(spread(results.ratio(column.key, over, under)))
        lines.append(line)
    return f"{group.name}: {group.title} (x = {group.floor})", headings, lines


def _titles(column: Column) -> list[str]:
    return [column.title, "x floor"] if column.ratio else [column.title]


def goal_table(
    goals: Iterable[Goal], results: Results
) -> tuple[str, list[str], list[list[str]], int]:
    """Return title, headings and lines of the verdicts, and how many goals were missed."""
    lines = []
    missed = 0
    for goal in goals:
        figure = goal.figure(results)
        verdict = "not measured"
        if figure is not None:
            met = figure.median <= goal.limit
            verdict = "met" if met else "MISSED"
            missed += not met
        lines.append([goal.text, f"<= {number(goal.limit)}", spread(figure), verdict])
    return "Goals", ["", "goal", "measured", "verdict"], lines, missed


def show(title: str, headings: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print one table."""
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        _show_plain(title, headings, lines)
        return
    if not sys.stdout.isatty():
        _show_plain(title, headings, lines)
        return
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for at, heading in enumerate(headings):
        table.add_column(heading, justify="right" if at else "left", no_wrap=not at)
    for line in lines:
        is_ours, is_missed = line[0].startswith(">"), line[-1] == "MISSED"
        style = "red" if is_missed else "bold" if is_ours else ""
        table.add_row(*(Text(cell) for cell in line), style=style)
    Console().print(table)


def _show_plain(title: str, headings: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    rows = [list(headings), *map(list, lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(f"\n{title}")
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())


def as_json(
    groups: Iterable[Group], goals: Iterable[Goal], results: Results, about: dict[str, Any]
) -> dict[str, Any]:
    """Return everything as a JSON object: medians, ranges, ratios, verdicts."""

    def plain(figure: Figure | None) -> dict[str, float] | None:
        if figure is None:
            return None
        return {"median": figure.median, "low": figure.low, "high": figure.high}

    tables: dict[str, Any] = {}
    for group in groups:
        rows: dict[str, Any] = {}
        for row in results.rows(group.name):
            over, under = (group.name, row), (group.name, group.floor)
            rows[row] = {
                column.key: {
                    "figure": plain(results.figure(*over, column.key)),
                    "ratio": plain(results.ratio(column.key, over, under)),
                }
                for column in group.columns
            }
        tables[group.name] = {"title": group.title, "floor": group.floor, "rows": rows}
    verdicts = [
        {"goal": goal.text, "limit": goal.limit, "measured": plain(goal.figure(results))}
        for goal in goals
    ]
    failed = {f"{group}: {row}": why for (group, row), why in results.failed.items()}
    return {"about": about, "groups": tables, "goals": verdicts, "failed": failed}
