"""What was found, as a table with numbers to pick by; below it why not, and where."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from copilot_broker.cli.display import print_table, wrapped
from copilot_broker.cli.times import duration


if TYPE_CHECKING:
    from collections.abc import Sequence

    from copilot_broker.cli.imports.found import Found


__all__ = ["print_found", "short_place"]

HEADINGS = ("no", "tool", "host", "user", "kind", "age", "mode", "take")
SPARE = ("mode", "host")
"""What a narrow terminal has to do without."""

HANGING = " " * 6


def print_found(found: Sequence[Found]) -> None:
    """Print them on stdout."""
    numbered = list(enumerate(found, 1))
    print_table(HEADINGS, [_row(number, each) for number, each in numbered], SPARE)
    remarks = [(number, _remark(each)) for number, each in numbered]
    for number, remark in remarks:
        if remark:
            print(wrapped(f"{number:>4}  {remark}", "", HANGING))
    places: dict[str, list[str]] = {}
    for number, each in numbered:
        places.setdefault(short_place(each.place), []).append(str(number))
    for place, numbers in places.items():
        print(wrapped(f"in {place}: {', '.join(numbers)}", "", HANGING))


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
        "no" if each.problem else "yes",
    )


def _remark(each: Found) -> str:
    """Return why it cannot be taken, or what to know before that."""
    if each.problem:
        return f"cannot be taken: {each.problem}"
    asks = f"its token is asked for by running {each.program[0]}" if each.program else ""
    return "; ".join(filter(None, [each.warning, asks]))
