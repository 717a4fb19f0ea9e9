"""Findings on stdout: a line for each, and below it what mends it; in colour on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from copilot_broker.cli.display import has_rich
from copilot_broker.cli.doctor.finding import Finding, Verdict
from copilot_broker.cli.report import printable


if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["print_findings"]

COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.ERROR: "bold red"}

MARK = max(map(len, Verdict))
"""Columns of the mark."""


def print_findings(findings: Sequence[Finding]) -> None:
    """Print them in the order in which they come."""
    if sys.stdout.isatty() and has_rich():
        _print_in_colour(findings)
        return
    width = max((len(printable(each.name)) for each in findings), default=0)
    for each in findings:
        name = printable(each.name).ljust(width)
        print(f"{each.verdict.value.ljust(MARK)}  {name}  {printable(each.told)}".rstrip())
        if each.mend:
            print(f"{' ' * (MARK + width + 6)}{printable(each.mend)}")


def _print_in_colour(findings: Sequence[Finding]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table.grid(padding=(0, 2))
    for each in findings:
        mend = f"\n  {printable(each.mend)}" if each.mend else ""
        table.add_row(
            Text(each.verdict.value, style=COLOURS[each.verdict]),
            Text(printable(each.name)),
            Text(f"{printable(each.told)}{mend}"),
        )
    Console(highlight=False).print(table)
