"""What was found, as a table: numbers to pick by, and never a token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from copilot_broker.cli.display import print_table
from copilot_broker.cli.times import duration


if TYPE_CHECKING:
    from collections.abc import Sequence

    from copilot_broker.cli.imports.found import Found


__all__ = ["print_found", "short_place"]

HEADINGS = ("no", "tool", "host", "user", "kind", "age", "mode", "can be taken", "place")
SPARE = ("place", "mode", "age", "host")
"""What a narrow terminal has to do without."""


def print_found(found: Sequence[Found]) -> None:
    """Print them on stdout."""
    rows = [_row(number, each) for number, each in enumerate(found, 1)]
    print_table(HEADINGS, rows, SPARE)


def short_place(place: str) -> str:
    """Return a path with `~` for the home folder."""
    try:
        home = str(Path.home())
    except RuntimeError:
        return place
    return f"~{place[len(home) :]}" if place.startswith(f"{home}/") else place


def _row(number: int, each: Found) -> tuple[str, ...]:
    return (
        str(number),
        each.tool,
        each.host or "-",
        each.user or "-",
        each.kind.value,
        duration(each.age),
        "-" if each.mode is None else f"{each.mode:04o}",
        _can_be_taken(each),
        short_place(each.place),
    )


def _can_be_taken(each: Found) -> str:
    if each.problem:
        return f"no: {each.problem}"
    if each.program:
        return f"yes, by running {each.program[0]}"
    return f"yes, but {each.warning}" if each.warning else "yes"
